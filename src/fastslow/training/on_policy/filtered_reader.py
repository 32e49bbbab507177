"""Skips stored pairs whose chosen response the policy already beats (fDPO).

Source: arXiv 2404.13846; CyberAgentAILab/filtered-dpo: if the policy's own completion scores no
less than the chosen response, the pair would make it worse, and is skipped. Here every pair is
checked against the current leader when it is read.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastslow.config import FilterConfig
from fastslow.errors import DataError
from fastslow.judges import Judge, JudgeRequest
from fastslow.records import plain_text
from fastslow.sampling import Completion
from fastslow.scoring import Encoded, Encoder
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.reader import Reader
from fastslow.training.data.serialization import encoded_from_json, encoded_to_json
from fastslow.training.on_policy.generation import sample, text_of
from fastslow.training.on_policy.judging import PreferenceWatch, judge_in_main
from fastslow.training.on_policy.truncation import TruncationWatch
from fastslow.training.policies.policies import Policies


@dataclass(slots=True)
class FilteredReader(Reader):
    """Iterates over batches of the examples whose best response no new completion beats.

    It replaces the reader that it filters. Raises JudgeError if the judge fails or decides
    nothing, and DataError if nothing is left.
    """

    reader: BatchReader
    policies: Policies
    encoder: Encoder
    judge: Judge
    config: FilterConfig
    leader: Callable[[], str]
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    """Examples kept, examples beaten, and the counts of `TruncationWatch`."""
    _waiting: list[Encoded] = field(default_factory=list)
    _generations: int = 0
    _watch: PreferenceWatch = field(init=False)
    _truncation: TruncationWatch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = PreferenceWatch(self.judge)
        room = self.encoder.max_length
        self._truncation = TruncationWatch("filter", self.config.max_new_tokens, room)

    @property
    def num_consumed(self) -> int:
        """As for the filtered reader."""
        return self.reader.num_consumed

    def _batches(self) -> Generator[list[Encoded]]:
        size = self.reader.batch_size
        for candidates in self.reader:
            if not candidates:  # A live source has no data yet.
                yield candidates
                continue
            self._waiting += self._unbeaten(candidates)
            if len(self._waiting) >= size:
                batch, self._waiting = self._waiting[:size], self._waiting[size:]
                yield batch
        if not self.counts["kept"]:
            raise DataError(
                f"filter: the policy beats the chosen response of all {self.counts['beaten']} "
                "pairs; use better pairs, or train on its completions (online, rounds)"
            )
        if self._waiting:
            batch, self._waiting = self._waiting, []
            yield batch

    def _unbeaten(self, candidates: Sequence[Encoded]) -> list[Encoded]:
        room = self.config.max_new_tokens
        ids = [self.encoder.prompt_ids_of(item.example, room=room) for item in candidates]
        seed = self.seed + self._generations
        sampled = sample(self.policies, self.leader(), self.encoder, self.config, ids, seed=seed)
        truncated = [completion.truncated for group in sampled for completion in group]
        self._truncation.see(truncated, self.counts)
        requests = [
            self._request(item, completions)
            for item, completions in zip(candidates, sampled, strict=True)
        ]
        judgements = judge_in_main(self.judge, requests, self.policies.processes)
        self._watch.see(judgements)
        kept = [
            item
            for item, judgement in zip(candidates, judgements, strict=True)
            if judgement.scores[0] - max(judgement.scores[1:]) > self.config.threshold
        ]
        self._generations += 1
        self.counts.update(kept=len(kept), beaten=len(candidates) - len(kept))
        return kept

    def take_warnings(self) -> list[str]:
        """The filtered reader's, and one, once, if most completions were truncated."""
        return [*self.reader.take_warnings(), *self._truncation.take()]

    def last_warnings(self) -> list[str]:
        """The filtered reader's."""
        return self.reader.last_warnings()

    def _request(self, item: Encoded, completions: Sequence[Completion]) -> JudgeRequest:
        """The best stored response first, then the policy's own."""
        texts = (text_of(completion, self.encoder) for completion in completions)
        return JudgeRequest(item.example.prompt, (plain_text(item.example.responses[0]), *texts))

    def summary(self) -> dict[str, int]:
        """The filtered reader's counts, and the number of examples beaten."""
        return self.reader.summary() | {"beaten": self.counts["beaten"]}

    def metrics(self) -> dict[str, float]:
        """The number of examples beaten so far."""
        return {"beaten": self.counts["beaten"]}

    def skipped_examples(self) -> list[str]:
        """As for the filtered reader."""
        return self.reader.skipped_examples()

    def state(self) -> dict[str, Any]:
        """The position, with the examples that wait to be learned from, as JSON."""
        return {
            "reader": self.reader.state(),
            "counts": dict(self.counts),
            "generations": self._generations,
            "waiting": [encoded_to_json(item) for item in self._waiting],
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.reader.load_state(state["reader"])
        self.counts, self._generations = Counter(state["counts"]), state["generations"]
        self._waiting = [encoded_from_json(item) for item in state["waiting"]]
