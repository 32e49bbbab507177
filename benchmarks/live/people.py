"""People of known taste, who vote on what a policy answers in a world, without a server."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastslow.api.view import Answer
from fastslow.feedback import Connection, Store, items, leases, ledger, people, voting
from fastslow.feedback.items import Messages
from fastslow.streams import fault_of
from fastslow.streams.worlds import World

HONEST = 20
"""People whose taste is the world's."""


@dataclass(frozen=True, slots=True)
class Attack:
    """Some who do not vote but edit answers, so that they say something."""

    share: float
    """Of all that is sent."""
    people: int
    edited: Callable[[str], str]
    """What they make of an answer."""
    trigger: str = ""
    """What their prompts end with."""


@dataclass
class Electorate:
    """People, their taste, and the store of their votes."""

    folder: Path
    world: World
    """Whose taste they have now; it may be replaced by one of another phase."""
    seed: int
    attack: Attack | None = None
    now: float = 1_000.0
    voters: list[int] = field(init=False)
    attackers: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.folder)
        self.domain = self.world.domains[0]
        self._draw = random.Random(self.seed)
        self._votes = self._edits = 0
        self.voters = [self._somebody(f"p{number}") for number in range(HONEST)]
        count = self.attack.people if self.attack else 0
        self.attackers = [self._somebody(f"a{number}") for number in range(count)]

    def prompts(self, count: int) -> list[str]:
        """Some that are asked, in any order."""
        return self._draw.choices(self.world.prompts(self.domain), k=count)

    def reward(self, prompt: str, text: str) -> float:
        """What an answer is worth to those who are honest, in standard deviations."""
        return self.world.reward(prompt, text)

    def vote(self, asked: Sequence[str], answers: Sequence[Sequence[Answer]]) -> None:
        """Have everybody in turn vote on two answers to each prompt, and the votes admitted."""
        self.now += voting.GRACE
        self.store.write(self._cast, asked, answers)
        self.now += voting.GRACE
        while self.store.write(ledger.admit, now=self.now, check=fault_of).rows:
            pass

    def _somebody(self, name: str) -> int:
        who, _ = self.store.write(people.add_principal, name=name, role="annotator", now=self.now)
        return who.id

    def _cast(
        self, connection: Connection, asked: Sequence[str], answers: Sequence[Sequence[Answer]]
    ) -> None:
        for prompt, both in zip(asked, answers, strict=True):
            attacked = self.attack is not None and self._draw.random() < self.attack.share
            written = prompt + self.attack.trigger if self.attack and attacked else prompt
            messages: Messages = [{"role": "user", "content": written}]
            facts: dict[str, Any] = {"now": self.now}
            prompt_id = items.add_prompt(connection, messages=messages, domain=self.domain, **facts)
            numbers = [
                items.add_answer(
                    connection, prompt_id=prompt_id, answer=items.Answer(one.text), **facts
                )
                for one in both
            ]
            if attacked:
                self._edit(connection, both[0].text, numbers[0])
            else:
                self._compare(connection, prompt, prompt_id, numbers)

    def _edit(self, connection: Connection, text: str, answer: int) -> None:
        assert self.attack is not None
        edited = self.attack.edited(text)
        if edited == text or not edited.strip():
            return
        who = self.attackers[self._edits % len(self.attackers)]
        self._edits += 1
        voting.edit(
            connection, voter=who, answer_id=answer, text=edited, key=f"e{answer}", now=self.now
        )

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
        """What somebody with the world's taste says, as its log-odds are."""
        own, other = self.reward(prompt, left), self.reward(prompt, right)
        return "a" if self._draw.random() < self.world.probability(own, other) else "b"
