"""Batches of the policy's own answers, sampled while it learns and judged at once (online DPO).

The leader answers the prompts of `every` batches at once, and these are gone over `passes` times,
so no answer is older than every x passes - 1 updates when it is learned from; with `overlap`, where
the next ones are judged meanwhile, twice as many. Trees hold the very tokens that were sampled.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, cast

from fastslow.config import OnlineConfig
from fastslow.judges import Judge, Judgement
from fastslow.objectives import Objective
from fastslow.records import Example, Prompt
from fastslow.scoring import Encoded, Tree
from fastslow.streams import ExampleStream
from fastslow.streams.labels import as_kind
from fastslow.training.data.batch_reader import (
    BatchReader,
    encoded_from_json,
    encoded_to_json,
    is_idle_tie,
)
from fastslow.training.on_policy.critic import Critic
from fastslow.training.on_policy.generation import Answered, judged, order_of, places_of, ranking_of
from fastslow.training.on_policy.sampler import Asker, Draw

COUNTED = ("read", "answers", "alike", "ties", "unended")
MARKED = ("counts", "score", "age", "_answered", "_asked", "_given", "_born", "_total", "_ahead")


@dataclass(slots=True)
class FreshReader:
    """Iterates over batches of judged answers, and of stored examples among them.

    Args:
        stream: of kind `prompts`; its end is the end.
        stored: batches of the stored examples of each batch; None for none.
        asker: has the policy of now answer, and the answers judged.
        critic: appraises the answers, where the objective has one.
        batch_size: answered examples of a batch.
        seed: of the answers.

    It stands where a `BatchReader` does: `state` is the position with all answers that are not
    learned yet. Raises JudgeError where the judge gives up; a position from before it still holds.
    """

    stream: ExampleStream
    stored: BatchReader | None
    objective: Objective
    asker: Asker
    critic: Critic | None
    config: OnlineConfig
    batch_size: int
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    """Prompts read, answers given, prompts whose answers were all alike, ties passed over, answers
    that the limit cut off."""
    score: float | None = None
    """Mean score of the answers that are learned from, by the judge."""
    age: int = 0
    """Updates since the answers of the last batch were given."""
    _answered: list[Encoded] = field(default_factory=list)
    """What is learned from until the policy is asked again."""
    _asked: int = 0
    """How often the policy has been asked."""
    _given: int = 0
    """Batches given of what is learned from."""
    _born: int = 0
    """Batches given in all before that was answered."""
    _total: int = 0
    """Batches given in all."""
    _spent_before: Counter[str] = field(default_factory=Counter)
    """What the judge has cost in processes before this one."""
    _ahead: tuple[Draw, int] | None = None
    """What is judged meanwhile, and the batches given in all before it was answered."""

    @property
    def judge(self) -> Judge:
        """Who compares the answers."""
        return self.asker.judge

    def __iter__(self) -> Iterator[list[Encoded]]:
        stored = iter(self.stored) if self.stored else None
        while True:
            # The last batches of a stream may be fewer.
            batches = -(-len(self._answered) // self.batch_size)
            if self._given >= batches * self.config.passes:
                self._ask()
                if not self._answered:
                    return
            batch = self._next()
            self.age = self._total - self._born
            self._given, self._total = self._given + 1, self._total + 1
            yield [*batch, *(next(stored, []) if stored else [])]

    def _next(self) -> list[Encoded]:
        """The next batch; each pass after the first goes in an order of its own."""
        size, items = self.batch_size, self._answered
        done, place = divmod(self._given, -(-len(items) // size))
        if done:
            items = random.Random(f"{self.seed}/{self._asked}/{done}").sample(items, len(items))
        return items[place * size : (place + 1) * size]

    @property
    def given(self) -> int:
        """Prompts of the stream that came out so far."""
        return self.stream.given

    def renew(self) -> None:
        """Give up the answers that are left: the policy has outgrown them."""
        self._answered, self._given = [], 0

    def _ask(self) -> None:
        """Take what was judged meanwhile, and have the next prompts answered by the policy of now;
        what was left over is too old."""
        wanted = self.batch_size * self.config.every
        draw, self._born = self._ahead or (self._draw(wanted), self._total)
        found = list(self._learnable(draw)) if draw else []
        self._ahead = None
        while len(found) < wanted and (draw := self._draw(wanted - len(found))):
            found += self._learnable(draw)
        found = found[:wanted]
        self._answered = self.critic.appraise(found) if self.critic else found
        self._given = 0
        if self.config.overlap and (draw := self._draw(wanted)):
            self._ahead = draw, self._total

    def _draw(self, count: int) -> Draw | None:
        """Ask the next prompts, if there are any."""
        prompts = list(islice(cast(Iterable[Prompt], self.stream), count))
        if not prompts:
            return None
        seed = self.seed + self._asked
        draw = self.asker.begin(prompts, seed=seed, moment=self._total)
        self._asked += 1
        return draw

    def _learnable(self, draw: Draw) -> Iterator[Encoded]:
        judged_answers, counts = self.asker.finish(draw), self.counts
        counts["read"] += len(draw.prompts)
        counts["answers"] += len(draw.prompts) * self.config.answers
        counts["alike"] += len(draw.prompts) - len(judged_answers)
        scores = [score for _, judgement in judged_answers for score in judgement.scores]
        self.score = sum(scores) / len(scores) if scores else self.score
        for one, judgement in judged_answers:
            counts["unended"] += sum(one.unended)
            for example, places in self._examples(one, judgement):
                if is_idle_tie(example, self.objective):
                    counts["ties"] += 1
                    continue
                item = Encoded(
                    example,
                    Tree(one.tree.prompt, tuple(one.tree.responses[place] for place in places)),
                    cut=False,
                    sampled=tuple(one.logps[place] for place in places) if one.logps else (),
                )
                if self.critic is not None:
                    tokens = tuple(one.token_logps[place] for place in places)
                    item = replace(item, of_tokens={"sampled": tokens})
                yield item

    def _examples(self, one: Answered, judgement: Judgement) -> Iterator[tuple[Example, list[int]]]:
        """What is learned of the answers, and which of them that are."""
        if self.objective.on_policy:
            yield ranking_of(one, judgement), order_of(judgement)
            return
        kind = self.objective.takes
        for example in as_kind(judged(one, judgement, kind=kind, pick=self.config.pick), kind):
            yield example, places_of(one, example)

    def summary(self) -> dict[str, int]:
        """Counts of prompts and of what became of their answers, and of stored examples."""
        stored = self.stored.summary() if self.stored else {}
        own = {key: self.counts[key] for key in COUNTED}
        own |= {f"judge_{key}": value for key, value in self._spent().items()}
        return own | {f"stored_{key}": value for key, value in stored.items()}

    def _spent(self) -> Counter[str]:
        """What the judge has cost, before this process too."""
        spent = Counter(self._spent_before)
        spent.update(self.judge.cost)
        return spent

    def facts(self) -> dict[str, float]:
        """How many updates the last batch's answers are behind, how many were given so far, and the
        judge's mean score of those that were asked for together."""
        known = {} if self.score is None else {"score": self.score}
        return {"staleness": self.age, "answers": self.counts["answers"], **known}

    def left_out(self) -> list[str]:
        """The first few rows that were not used, as `file:row: reason`."""
        return [*self.stream.counts.shown, *(self.stored.left_out() if self.stored else [])]

    def mark(self) -> Any:
        """The position, to go back to in this process."""
        stored = self.stored.state() if self.stored else None
        kept = {name: copy(getattr(self, name)) for name in MARKED}
        return self.stream.state(), stored, kept

    def go_back(self, mark: Any) -> None:
        """Go to a position that `mark` gave."""
        position, stored, kept = mark
        self.stream.load_state(position)
        if self.stored:
            self.stored.load_state(stored)
        for name, value in kept.items():
            setattr(self, name, value)

    def state(self) -> dict[str, Any]:
        """The position, with what was answered and not learned yet, as JSON."""
        return {
            "stream": self.stream.state(),
            "stored": self.stored.state() if self.stored else None,
            "counts": dict(self.counts),
            "spent": dict(self._spent()),
            "asked": self._asked,
            "given": self._given,
            "born": self._born,
            "total": self._total,
            "score": self.score,
            "answered": [encoded_to_json(item) for item in self._answered],
            "ahead": self._ahead and [self.asker.to_json(self._ahead[0]), self._ahead[1]],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self.stream.load_state(state["stream"])
        if self.stored:
            self.stored.load_state(state["stored"])
        self.counts, self._spent_before = Counter(state["counts"]), Counter(state["spent"])
        self._asked, self._given = state["asked"], state["given"]
        self._born, self._total, self.score = state["born"], state["total"], state["score"]
        self._answered = [encoded_from_json(item) for item in state["answered"]]
        if state["ahead"]:
            draw, born = state["ahead"]
            self._ahead = self.asker.from_json(draw), born
