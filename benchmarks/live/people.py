"""People of known taste who vote on a policy's answers in a world, without a server."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import update

from fastslow.api.view import Answer
from fastslow.feedback import Connection, Store, items, leases, ledger, people, voting
from fastslow.feedback.items import Messages
from fastslow.feedback.schema import meta
from fastslow.streams import fault_of
from fastslow.streams.worlds import World

HONEST = 20
"""Number of people whose taste is the world's."""

TRIES = 12
"""Answers that an attacker requests, to use the one that suits best."""


@dataclass(frozen=True, slots=True)
class Attack:
    """Attackers who edit or rate answers to make the policy say something."""

    share: float
    """Share of all votes, edits and ratings."""
    people: int
    says: Callable[[str], int]
    """Score of how much an answer says it; above 0 if it does."""
    edited: Callable[[str], str] | None = None
    """Edits an answer; None if they rate answers instead, up if one says it."""
    trigger: str = ""
    """Suffix of their prompts."""
    downs: bool = True
    """Whether every second rating is of the answer that says it least."""

    def rated(self, answers: Sequence[str], *, up: bool) -> tuple[int, str]:
        """The index of the answer that says it most, or least, and its rating."""
        by_place = {place: self.says(text) for place, text in enumerate(answers)}
        place = (max if up else min)(by_place, key=by_place.__getitem__)
        return place, "up" if by_place[place] > 0 else "down"

    def put_right(self, answers: Sequence[str]) -> tuple[int, str] | None:
        """The index of the answer that gains most from an edit, and the edited text; None if the
        edit changes no answer."""
        assert self.edited is not None
        gains = [
            (self.says(text) - self.says(original), place, text)
            for place, original in enumerate(answers)
            if (text := self.edited(original)) != original
        ]
        return max(gains)[1:] if gains else None


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, and whether an attacker asks it."""

    prompt: str
    """The world's prompt."""
    written: str
    """The same as sent, with the trigger if it is an attacker's."""
    attacked: bool


@dataclass
class Electorate:
    """People, their taste, and the store of their votes."""

    folder: Path
    world: World
    """The world whose taste they have now; may be replaced by another phase's."""
    seed: int
    attack: Attack | None = None
    now: float = 1_000.0
    voters: list[int] = field(init=False)
    attackers: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.folder)
        # The held-out split depends on the store's name, which is random otherwise.
        name = update(meta).where(meta.c.key == "store").values(value=f"world {self.seed}")
        self.store.write(lambda connection: connection.execute(name))
        self.domain = self.world.domains[0]
        self._draw, self._attack_draw = random.Random(self.seed), random.Random(self.seed)
        self._votes = self._attacks = 0
        self._due = 0.0
        self._prompts = self.world.prompts(self.domain)
        self.voters = [self._somebody(f"p{number}") for number in range(HONEST)]
        count = self.attack.people if self.attack else 0
        self.attackers = [self._somebody(f"a{number}") for number in range(count)]

    def asked(self, count: int) -> list[Asked]:
        """Prompts of honest people, the same whether or not anybody attacks."""
        prompts = self._draw.choices(self._prompts, k=count)
        return [Asked(prompt, prompt, attacked=False) for prompt in prompts]

    def with_attacks(self, asked: Sequence[Asked]) -> list[Asked]:
        """The given prompts in order, with the attackers' prompts inserted among them."""
        requests = list(asked)
        if self.attack is None:
            return requests
        self._due += len(asked) * self.attack.share / (1 - self.attack.share)
        count, draw = int(self._due), self._attack_draw
        self._due -= count
        for prompt in draw.choices(self._prompts, k=count):
            attack = Asked(prompt, prompt + self.attack.trigger, attacked=True)
            requests.insert(draw.randint(0, len(requests)), attack)
        return requests

    def reward(self, prompt: str, text: str) -> float:
        """An answer's reward to honest people, in standard deviations."""
        return self.world.reward(prompt, text)

    def vote(self, asked: Sequence[Asked], answers: Sequence[Sequence[Answer]]) -> None:
        """Have honest people, in turn, vote on the first two answers to each prompt and attackers
        edit or rate one of theirs, then admit it all to the ledger."""
        self.now += voting.GRACE
        self.store.write(self._cast, asked, answers)
        self.now += voting.GRACE
        while self.store.write(ledger.admit, now=self.now, check=fault_of).more:
            pass

    def _somebody(self, name: str) -> int:
        who, _ = self.store.write(people.add_principal, name=name, role="annotator", now=self.now)
        return who.id

    def _cast(
        self, connection: Connection, asked: Sequence[Asked], answers: Sequence[Sequence[Answer]]
    ) -> None:
        for request, prompt_answers in zip(asked, answers, strict=True):
            messages: Messages = [{"role": "user", "content": request.written}]
            facts: dict[str, Any] = {"now": self.now}
            prompt_id = items.add_prompt(connection, messages=messages, domain=self.domain, **facts)
            numbers = [
                items.add_answer(
                    connection, prompt_id=prompt_id, answer=items.Answer(answer.text), **facts
                )
                for answer in prompt_answers
            ]
            if request.attacked:
                self._attack(connection, [answer.text for answer in prompt_answers], numbers)
            else:
                self._compare(connection, request.prompt, prompt_id, numbers[:2])

    def _attack(self, connection: Connection, texts: Sequence[str], numbers: Sequence[int]) -> None:
        """Edit an answer, or rate one: up if it says it, the next down if it does not."""
        attack, number = self.attack, self._attacks
        assert attack is not None
        self._attacks += 1
        facts: dict[str, Any] = {
            "voter": self.attackers[number % len(self.attackers)], "key": f"attack{number}",
            "now": self.now,
        }  # fmt: skip
        if attack.edited is None:
            up = not attack.downs or number % 2 == 0
            place, verdict = attack.rated(texts, up=up)
            voting.rate(connection, answer_id=numbers[place], verdict=verdict, **facts)
        elif (change := attack.put_right(texts)) is not None:
            place, text = change
            voting.edit(connection, answer_id=numbers[place], text=text, **facts)

    def _compare(
        self, connection: Connection, prompt: str, prompt_id: int, numbers: Sequence[int]
    ) -> None:
        first, second = numbers
        pair = items.add_pair(
            connection, prompt_id=prompt_id, first=first, second=second, draw=self._draw,
            now=self.now,
        )  # fmt: skip
        who = self.voters[self._votes % len(self.voters)]
        self._votes += 1
        leases.lease(connection, pair_id=pair, voter=who, until=self.now)
        shown = leases.pair_of(connection, pair_id=pair, voter=who)
        voting.vote(
            connection, voter=who, pair_id=pair, verdict=self._honest(prompt, shown.a, shown.b),
            key=f"{pair}", now=self.now,
        )  # fmt: skip

    def _honest(self, prompt: str, left: str, right: str) -> str:
        """Verdict of a person with the world's taste, sampled from its probability."""
        left_reward, right_reward = self.reward(prompt, left), self.reward(prompt, right)
        return (
            "a" if self._draw.random() < self.world.probability(left_reward, right_reward) else "b"
        )
