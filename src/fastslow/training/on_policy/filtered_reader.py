"""Stored pairs without those that the policy has outgrown (fDPO).

Source: arXiv 2404.13846: where the policy's own answer scores above the chosen one, the pair would
teach it something worse than it does already, and is passed over. Here that is asked of every pair
when it comes up, of the leader of that moment.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastslow.config import FilterConfig
from fastslow.errors import DataError
from fastslow.judges import Asked, Judge
from fastslow.records import plain_text
from fastslow.scoring import Encoded, Encoder
from fastslow.training.data.batch_reader import BatchReader, encoded_from_json, encoded_to_json
from fastslow.training.distributed.processes import Team
from fastslow.training.on_policy.generation import sample, text_of
from fastslow.training.policies.policies import Policies


@dataclass(slots=True)
class FilteredReader:
    """Iterates over batches of those examples whose best response no fresh answer beats.

    It stands where the reader it filters would. Raises JudgeError where the judge gives up, and
    DataError where nothing is left.
    """

    reader: BatchReader
    policies: Policies
    encoder: Encoder
    judge: Judge
    config: FilterConfig
    leader: Callable[[], str]
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    """Examples that were kept, and those that were beaten."""
    _waiting: list[Encoded] = field(default_factory=list)
    _asked: int = 0

    @property
    def given(self) -> int:
        """As of the reader."""
        return self.reader.given

    def __iter__(self) -> Iterator[list[Encoded]]:
        size = self.reader.batch_size
        for candidates in self.reader:
            self._waiting += self._unbeaten(candidates)
            if len(self._waiting) >= size:
                batch, self._waiting = self._waiting[:size], self._waiting[size:]
                yield batch
        if not self.counts["kept"]:
            raise DataError(
                f"filter: the policy's answers beat the chosen one of all {self.counts['beaten']} "
                "pairs; take better pairs, or learn from its answers (online, rounds)"
            )
        if self._waiting:
            batch, self._waiting = self._waiting, []
            yield batch

    def _unbeaten(self, candidates: Sequence[Encoded]) -> list[Encoded]:
        room = self.config.max_new_tokens
        ids = [self.encoder.prompt_ids(item.example.prompt, room=room) for item in candidates]
        seed = self.seed + self._asked
        given = sample(self.policies, self.leader(), self.encoder, self.config, ids, seed=seed)
        asked = [
            Asked(
                item.example.prompt,
                (
                    plain_text(item.example.responses[0]),
                    *(text_of(sampled, self.encoder) for sampled in samples),
                ),
            )
            for item, samples in zip(candidates, given, strict=True)
        ]
        judgements = Team().from_first(lambda: self.judge.judge(asked))
        kept = [
            item
            for item, judgement in zip(candidates, judgements, strict=True)
            if judgement.scores[0] >= max(judgement.scores[1:])
        ]
        self._asked += 1
        self.counts.update(kept=len(kept), beaten=len(candidates) - len(kept))
        return kept

    def summary(self) -> dict[str, int]:
        """As of the reader, with the examples that were beaten."""
        return self.reader.summary() | {"beaten": self.counts["beaten"]}

    def facts(self) -> dict[str, float]:
        """How many examples were beaten so far."""
        return {"beaten": self.counts["beaten"]}

    def left_out(self) -> list[str]:
        """As of the reader."""
        return self.reader.left_out()

    def mark(self) -> Any:
        """The position, to go back to in this process."""
        return self.state()

    def go_back(self, mark: Any) -> None:
        """Go to a position that `mark` gave."""
        self.load_state(mark)

    def state(self) -> dict[str, Any]:
        """The position, with what is waiting to be learned, as JSON."""
        return {
            "reader": self.reader.state(),
            "counts": dict(self.counts),
            "asked": self._asked,
            "waiting": [encoded_to_json(item) for item in self._waiting],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self.reader.load_state(state["reader"])
        self.counts, self._asked = Counter(state["counts"]), state["asked"]
        self._waiting = [encoded_from_json(item) for item in state["waiting"]]
