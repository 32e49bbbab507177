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

Choice = Callable[[str, str, str], str]
"""A verdict, by a prompt and the answers on the left and on the right."""


@dataclass
class Electorate:
    """People, their taste, and the store of their votes."""

    store: Store
    world: World
    domain: str
    draw: random.Random
    count: int = 20
    now: float = 1_000.0
    voters: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(self.count):
            who, _ = self.store.write(
                people.add_principal, name=f"p{number}", role="annotator", now=self.now
            )
            self.voters.append(who.id)

    def prompts(self, count: int) -> list[str]:
        """Some that are asked, in any order."""
        return self.draw.choices(self.world.prompts(self.domain), k=count)

    def honest(self, prompt: str, left: str, right: str) -> str:
        """What somebody with the world's taste says, as its log-odds are."""
        own, other = self.world.reward(prompt, left), self.world.reward(prompt, right)
        return "a" if self.draw.random() < self.world.probability(own, other) else "b"

    def vote(
        self, asked: Sequence[str], answers: Sequence[Sequence[Answer]], choose: Choice
    ) -> None:
        """Have everybody in turn vote on two answers to each prompt, and the votes admitted."""
        self.now += voting.GRACE
        self.store.write(self._cast, asked, answers, choose)
        self.now += voting.GRACE
        while self.store.write(ledger.admit, now=self.now, check=fault_of).rows:
            pass

    def _cast(
        self,
        connection: Connection,
        asked: Sequence[str],
        answers: Sequence[Sequence[Answer]],
        choose: Choice,
    ) -> None:
        for place, (prompt, both) in enumerate(zip(asked, answers, strict=True)):
            messages: Messages = [{"role": "user", "content": prompt}]
            facts: dict[str, Any] = {"now": self.now}
            prompt_id = items.add_prompt(connection, messages=messages, domain=self.domain, **facts)
            first, second = (
                items.add_answer(
                    connection, prompt_id=prompt_id, answer=items.Answer(one.text), **facts
                )
                for one in both
            )
            pair = items.add_pair(
                connection, prompt_id=prompt_id, first=first, second=second, draw=self.draw, **facts
            )
            voter = self.voters[place % len(self.voters)]
            leases.lease(connection, pair_id=pair, voter=voter, until=self.now)
            shown = leases.pair_of(connection, pair_id=pair, voter=voter)
            voting.vote(
                connection, voter=voter, pair_id=pair, verdict=choose(prompt, shown.a, shown.b),
                key=f"{pair}", **facts,
            )  # fmt: skip


def new_electorate(folder: Path, world: World, domain: str, seed: int) -> Electorate:
    """People and an empty store in a folder."""
    return Electorate(Store(folder), world, domain, random.Random(seed))
