"""Batches of the policy's own answers, sampled while it learns and judged at once (online DPO).

Every `every` steps the leader answers the prompts of that many batches, so no answer is older than
`every - 1` updates when it is learned from. Trees hold the very tokens that were sampled.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from fastslow.config import OnlineConfig
from fastslow.judges import Judge
from fastslow.objectives import Objective
from fastslow.records import Prompt
from fastslow.scoring import Encoded, Encoder, Tree
from fastslow.streams import ExampleStream
from fastslow.streams.labels import as_kind
from fastslow.training.answering import answer, judged, places_of
from fastslow.training.batches import BatchReader, encoded_from_json, encoded_to_json, is_idle_tie
from fastslow.training.policies import Policies

COUNTED = ("read", "alike", "ties", "unended")


@dataclass(slots=True)
class FreshReader:
    """Iterates over batches of judged answers, and of stored examples among them.

    Args:
        stream: of kind `prompts`; its end is the end.
        stored: batches of the stored examples of each batch; None for none.
        leader: names the policy that answers now.
        batch_size: answered examples of a batch.
        seed: of the answers.

    It stands where a `BatchReader` does: `state` is the position with all answers that are not
    learned yet. Raises JudgeError where the judge gives up; a position from before it still holds.
    """

    stream: ExampleStream
    stored: BatchReader | None
    policies: Policies
    encoder: Encoder
    objective: Objective
    judge: Judge
    config: OnlineConfig
    leader: Callable[[], str]
    batch_size: int
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    """Prompts read, those whose answers were all alike, ties passed over, answers that the limit
    cut off."""
    age: int = 0
    """Updates since the answers of the last batch were given."""
    _waiting: list[Encoded] = field(default_factory=list)
    _asked: int = 0
    """How often the policy has been asked."""
    _given: int = 0
    """Batches given since the last time."""

    def __iter__(self) -> Iterator[list[Encoded]]:
        stored = iter(self.stored) if self.stored else None
        while True:
            if self._given >= self.config.every or not self._waiting:
                self._ask()
            if not self._waiting:
                return
            size = self.batch_size
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            self.age, self._given = self._given, self._given + 1
            yield [*batch, *(next(stored, []) if stored else [])]

    def _ask(self) -> None:
        """The policy of now answers the next prompts; what was left over is too old."""
        found: list[Encoded] = []
        wanted, prompts = self.batch_size * self.config.every, iter(self.stream)
        while part := list(islice(prompts, max(0, wanted - len(found)))):
            found += self._learnable(part)
            self._asked += 1
        self._waiting, self._given = found, 0

    def _learnable(self, prompts: Sequence[Prompt]) -> Iterator[Encoded]:
        seed, counts = self.seed + self._asked, self.counts
        answered = answer(
            self.policies, self.leader(), self.encoder, self.config, prompts, seed=seed
        )
        counts["read"] += len(prompts)
        counts["alike"] += len(prompts) - len(answered)
        kind = self.objective.takes
        judgements = self.judge.judge([one.asked for one in answered])
        for one, judgement in zip(answered, judgements, strict=True):
            counts["unended"] += sum(one.unended)
            kept = judged(one, judgement, kind=kind, pick=self.config.pick)
            for example in as_kind(kept, kind):
                if is_idle_tie(example, self.objective):
                    counts["ties"] += 1
                    continue
                places = places_of(one, example)
                yield Encoded(
                    example,
                    Tree(one.tree.prompt, tuple(one.tree.responses[place] for place in places)),
                    cut=False,
                    sampled=tuple(one.logps[place] for place in places),
                )

    def summary(self) -> dict[str, int]:
        """Counts of prompts and of what became of their answers, and of stored examples."""
        stored = self.stored.summary() if self.stored else {}
        own = {key: self.counts[key] for key in COUNTED}
        return own | {f"stored_{key}": value for key, value in stored.items()}

    def facts(self) -> dict[str, int]:
        """How many updates the last batch's answers are behind."""
        return {"staleness": self.age}

    def left_out(self) -> list[str]:
        """The first few rows that were not used, as `file:row: reason`."""
        return [*self.stream.counts.shown, *(self.stored.left_out() if self.stored else [])]

    def state(self) -> dict[str, Any]:
        """The position, with what was answered and not learned yet, as JSON."""
        return {
            "stream": self.stream.state(),
            "stored": self.stored.state() if self.stored else None,
            "counts": dict(self.counts),
            "asked": self._asked,
            "given": self._given,
            "waiting": [encoded_to_json(item) for item in self._waiting],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self.stream.load_state(state["stream"])
        if self.stored:
            self.stored.load_state(state["stored"])
        self.counts = Counter(state["counts"])
        self._asked, self._given = state["asked"], state["given"]
        self._waiting = [encoded_from_json(item) for item in state["waiting"]]
