"""The demo's plot: votes become updates, spoilt ones wait for the admin, an update is rolled back.

Strangers alone would get nowhere: newcomers have at most a fifth of an update. So the spoilers here
have voted like everybody else before.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from fastslow.errors import StateError
from fastslow.feedback.updates import UNDECIDED, WAITING
from fastslow.live.demo.person import Person, close_all
from fastslow.streams.worlds import World

PEOPLE = 10
SPOILERS = 6
"""How many of them turn in the end: nobody has more than twice an equal share of an update."""
MOST_SPOILT = 6
"""Most updates from their votes: if nothing else stops them, the admin does."""
ENOUGH = 80
"""Votes that most likely make an update: some are held out. No more are sent ahead, or those of
honest people would still be learned after others turned."""
LEARNED = 256
"""Fewest votes learned before some people turn: spoilt votes are told by how well earlier ones were
predicted."""
GAIN = 0.5
"""Mean reward gained before they turn, so that the policy predicts votes."""
MOST_UPDATES = 10
"""Most updates before they turn, if the reward does not rise."""
AT_ONCE = 2
"""Pairs that a person takes each time."""
PAUSE = 15.0
"""Seconds after which people vote more, as there were too few votes."""
LOOKS_EVERY = 0.3
"""Seconds between two polls for pairs or updates."""
PATIENCE = 300.0
"""Seconds without anything new after which something must be wrong."""
Update = Mapping[str, Any]
Tell = Callable[[str], None]
Acts = Callable[[Person, dict[str, Any]], None]


@dataclass
class Story:
    """What people do, and what happens.

    Args:
        admin: may add people and roll back.
        world: has the taste that people have.
        domain: the domain in which they vote.
        seed: seed of their noise.
        tell: called with a line for everything that happens.
    """

    admin: Person
    world: World
    domain: str
    seed: int
    tell: Tell
    known: set[int] = field(default_factory=set)
    """Updates that were decided and reported."""

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._sent = Counter[Person]()

    def run(self) -> None:
        """Run the whole story. Raises StateError if the server refuses or nothing happens."""
        people = [self.admin.newcomer(f"voter {number}") for number in range(1, PEOPLE + 1)]
        likes = ", ".join(self.world.likes(self.domain))
        self.tell(f"{PEOPLE} people vote; they like answers that are: {likes}")
        self._learn_taste(people)
        self.tell(
            f"{SPOILERS} of them turn hostile while the others pause: they vote for the worse "
            "answer"
        )
        passed = list[Update]()
        while len(passed) < MOST_SPOILT:
            update, _ = self._until_next_update(people[:SPOILERS], self._spoil)
            if update["state"] != "promoted":
                break
            passed.append(update)
        if update["state"] == WAITING:
            self.admin.discard(update["id"])
            self.tell(f"the admin discards update {update['id']}: its votes will never be learned")
        # What they got through, or else the last good update, to show how it is done.
        self._roll_back(*(passed or [self._answering()]))
        close_all(people)

    def _learn_taste(self, people: Sequence[Person]) -> None:
        """Have people vote until the answers are clearly better. Counting updates would not do, as
        what one of them gains depends on how fast this machine answers and learns."""
        learned, means = 0, list[float]()
        for _ in range(MOST_UPDATES):
            update, rewards = self._until_next_update(people, self._vote)
            if rewards:
                means.append(fmean(rewards))
            if update["state"] == "promoted":
                learned += update["gate"]["learned"]["rows"]
            if learned >= LEARNED and means and means[-1] - means[0] >= GAIN:
                return

    def _until_next_update(self, people: Sequence[Person], act: Acts) -> tuple[Update, list[float]]:
        """Have people act in turn until one more update is decided; returns it, and the rewards of
        the answers that they compared."""
        rewards, begun = list[float](), time.monotonic()
        acted = begun
        while (update := self._decided(made := self.admin.updates())) is None:
            now = time.monotonic()
            if now - begun > PATIENCE:
                raise StateError(f"nothing was learned for {PATIENCE:.0f} seconds")
            enough = self._sent.total() >= ENOUGH * (len(self.known) + 1)
            rest = enough and now - acted < PAUSE
            before = len(rewards)
            for person in () if rest or _under_way(made) else self._in_turn(people):
                for pair in person.pairs(AT_ONCE):
                    rewards += self._rewards(pair)
                    act(person, pair)
                    self._sent[person] += 1
            if len(rewards) == before:
                time.sleep(LOOKS_EVERY)
            else:
                acted = now
        self.known.add(update["id"])
        mean = f"{fmean(rewards):+.2f}" if rewards else "none"
        votes = len(rewards) // 2
        self.tell(f"{votes:4} votes, mean reward of the answers {mean}; {outcome(update)}")
        return update, rewards

    def _in_turn(self, people: Sequence[Person]) -> list[Person]:
        """Those who have voted least first. Where pairs are scarce, the same few would get them
        all, and have more votes than an update takes of anybody."""
        return sorted(people, key=lambda person: self._sent[person])

    def _decided(self, made: Sequence[Update]) -> Update | None:
        """The first update that was decided and not reported yet."""
        new = (update for update in reversed(made) if update["id"] not in self.known)
        return next((update for update in new if update["state"] not in UNDECIDED), None)

    def _answering(self) -> Update:
        return next(update for update in self.admin.updates() if update["state"] == "promoted")

    def _rewards(self, pair: Mapping[str, Any]) -> list[float]:
        prompt = pair["messages"][-1]["content"]
        return [self.world.reward(prompt, pair[side]["text"]) for side in ("a", "b")]

    def _vote(self, person: Person, pair: dict[str, Any]) -> None:
        """Vote by the world's taste, with its noise."""
        first_reward, second_reward = self._rewards(pair)
        prefers_first = self._draw.random() < self.world.probability(first_reward, second_reward)
        person.vote(pair, "a" if prefers_first else "b")

    def _spoil(self, person: Person, pair: dict[str, Any]) -> None:
        first_reward, second_reward = self._rewards(pair)
        person.vote(pair, "b" if first_reward > second_reward else "a")

    def _roll_back(self, update: Update, *later: Update) -> None:
        """Roll back an update and those after it."""
        begun = time.monotonic()
        route = self.admin.roll_back(update["id"])
        took = 1000 * (time.monotonic() - begun)
        now = route["update_id"]
        who = "the base" if now is None else f"update {now}"
        gone = f"updates {update['id']} to {later[-1]['id']}" if later else f"update {update['id']}"
        self.tell(f"the admin rolls back {gone}: {who} answers after {took:.0f} ms")


def _under_way(made: Sequence[Update]) -> bool:
    return any(update["state"] in UNDECIDED for update in made)


def outcome(update: Update) -> str:
    """What happened to an update, in one line."""
    gate = update["gate"]
    failed = [
        f"{check['name']}: {check['said']}" for check in gate["checks"] if not check["passed"]
    ]
    if update["state"] == "promoted":
        return f"update {update['id']} now answers"
    if update["state"] == WAITING:
        return f"update {update['id']} waits for the admin: {'; '.join(failed)}"
    return f"update {update['id']} {update['state']}: {gate.get('why') or '; '.join(failed)}"
