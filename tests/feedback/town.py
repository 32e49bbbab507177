"""A store with people and pairs in it, and a clock."""

import itertools
import random

from fastslow.feedback import items, leases, people, voting

NUMBERS = itertools.count()


class Town:
    """What most tests of a store begin with."""

    def __init__(self, store, voters=2):
        self.store, self.now, self.draw = store, 1000.0, random.Random(3)
        self.voters = [self.person(f"voter {number}") for number in range(voters)]

    def person(self, name, role="annotator"):
        who, _ = self.write(people.add_principal, name=name, role=role)
        return who.id

    def write(self, work, **named):
        return self.store.write(work, now=self.now, **named)

    def prompt(self, text="Hi", domain="talk"):
        messages = [{"role": "user", "content": text}]
        return self.write(items.add_prompt, messages=messages, domain=domain)

    def answer(self, prompt_id, text, **facts):
        return self.write(items.add_answer, prompt_id=prompt_id, answer=items.Answer(text, **facts))

    def pair(self, text="Hi", first="good", second="bad", domain="talk", **facts):
        prompt_id = self.prompt(text, domain)
        both = [self.answer(prompt_id, said) for said in (first, second)]
        return self.write(
            items.add_pair, prompt_id=prompt_id, first=both[0], second=both[1], draw=self.draw,
            **facts,
        )  # fmt: skip

    def next(self, voter, **named):
        return self.write(leases.next_pairs, voter=voter, **named)

    def vote(self, voter, pair_id, verdict="a", key=None, **named):
        key = key or f"key {next(NUMBERS)}"
        return self.write(
            voting.vote, voter=voter, pair_id=pair_id, verdict=verdict, key=key, **named
        )
