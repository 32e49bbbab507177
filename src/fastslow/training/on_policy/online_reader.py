"""Batches of the policy's own completions, sampled during training and judged (online DPO).

The leader completes the prompts of `steps_per_generation` batches at once, and each set is used
`num_iterations` times, so no completion is older than their product - 1 updates when it is used;
with `overlap`, which judges the next set in the background, twice as many. Only as many prompts
are sampled as a set may need. If the last of them give more examples, the surplus comes first in
the next set, and is one set older. Trees hold exactly the sampled tokens.
"""

import random
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import islice
from statistics import fmean
from typing import Any, cast

from fastslow.config import OnlineConfig
from fastslow.errors import DataError
from fastslow.judges import Judge, Judgement
from fastslow.objectives import Objective
from fastslow.records import Example, Prompt
from fastslow.scoring import Encoded
from fastslow.streams import ExampleStream
from fastslow.streams.labels import as_kind
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.reader import Reader
from fastslow.training.data.requirements import is_idle_tie
from fastslow.training.data.serialization import encoded_from_json, encoded_to_json
from fastslow.training.on_policy.critic import Critic
from fastslow.training.on_policy.generation import (
    CompletionGroup,
    judged,
    order_of,
    places_of,
    ranking_of,
)
from fastslow.training.on_policy.judging import PreferenceWatch
from fastslow.training.on_policy.prompts import PromptFilter
from fastslow.training.on_policy.sampler import PendingRollouts, RolloutSampler
from fastslow.training.on_policy.truncation import TruncationWatch

COUNTED = ("read", "answers", "alike", "ties", "truncated")
MOVING = (
    "counts", "cost", "score", "age", "_examples", "_generations", "_used", "_generated_at",
    "_num_batches", "_pending", "_surplus", "_prompts",
)  # fmt: skip
"""The fields of a position besides those of the streams."""


@dataclass(slots=True)
class OnlineReader(Reader):
    """Iterates over batches of judged completions, mixed with stored examples.

    Args:
        stream: of kind `prompts`; training ends with it.
        stored: the stored examples of each batch, in batches; None for none.
        sampler: samples from the current policy and has the completions judged.
        critic: values the completions, if the objective has one.
        batch_size: fresh examples per batch.
        per_prompt: most examples that a prompt's completions can become.
        seed: of the completions.

    `state` is the position with all pending completions. Raises JudgeError if the judge fails or
    decides nothing, and an earlier position stays valid. Raises DataError if no prompt gave an
    example.
    """

    stream: ExampleStream
    stored: BatchReader | None
    objective: Objective
    sampler: RolloutSampler
    critic: Critic | None
    config: OnlineConfig
    batch_size: int
    per_prompt: int
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    """Prompts read, completions sampled, prompts with identical completions, ties skipped,
    truncated completions; and the counts of `TruncationWatch`."""
    cost: Counter[str] = field(default_factory=Counter)
    """The judge's usage."""
    score: float | None = None
    """The judge's mean score of the current completions."""
    age: int = 0
    """Updates since the oldest completions of the current set were generated."""
    _examples: list[Encoded] = field(default_factory=list)
    """The current set, learned from until the policy generates again."""
    _generations: int = 0
    """How often the policy has generated."""
    _used: int = 0
    """Batches yielded from the current set."""
    _generated_at: int = 0
    """Total batches yielded when the oldest examples of the current set were generated."""
    _num_batches: int = 0
    """Total batches yielded."""
    _pending: tuple[PendingRollouts, int] | None = None
    """The set judged in the background, and the total of batches when it was sampled."""
    _surplus: tuple[list[Encoded], int] = ([], 0)
    """Examples beyond the current set, and the total of batches when they were sampled."""

    _prompts: PromptFilter = field(init=False)
    _watch: PreferenceWatch = field(init=False)
    _truncation: TruncationWatch = field(init=False)

    def __post_init__(self) -> None:
        self._prompts = PromptFilter(
            self.sampler.encoder,
            self.config.max_new_tokens,
            uncut=self.config.engine is not None,
        )
        self._watch = PreferenceWatch(self.judge)
        room = self.sampler.encoder.max_length
        self._truncation = TruncationWatch("online", self.config.max_new_tokens, room)

    @property
    def judge(self) -> Judge:
        """The judge that compares the completions."""
        return self.sampler.judge

    @property
    def num_consumed(self) -> int:
        """Prompts taken from the stream so far."""
        return self.stream.num_consumed

    def _batches(self) -> Generator[list[Encoded]]:
        stored = iter(self.stored) if self.stored else None
        while True:
            # The last set of a stream may have fewer batches.
            batches = -(-len(self._examples) // self.batch_size)
            if self._used >= batches * self.config.num_iterations:
                self._generate()
                if not self._examples:
                    self._check_taught()
                    return
            batch = self._next()
            self.age = self._num_batches - self._generated_at
            self._used, self._num_batches = self._used + 1, self._num_batches + 1
            yield [*batch, *(next(stored, []) if stored else [])]

    def _check_taught(self) -> None:
        """At the end of the prompts, raise DataError if none of them gave an example."""
        if not self._num_batches:
            counts = self.counts
            raise DataError(
                f"none of {counts['read']} prompts gave an example to learn from: the completions "
                f"of {counts['alike']} were alike, and {self.judge.name} preferred none of "
                f"{counts['ties']} others; use another judge, or raise the temperature"
            )

    def _next(self) -> list[Encoded]:
        """The next batch; each pass over the set after the first has a new order."""
        size, items = self.batch_size, self._examples
        passes, place = divmod(self._used, -(-len(items) // size))
        if passes:
            order = random.Random(f"{self.seed}/{self._generations}/{passes}")
            items = order.sample(items, len(items))
        return items[place * size : (place + 1) * size]

    def open(self) -> None:
        """Check that an engine accepts the policy's modules. Raises UnreachableError."""
        self.sampler.open()

    def close(self) -> None:
        """Leave nothing behind in an engine."""
        self.sampler.close()

    def renew(self) -> None:
        """Discard the remaining completions: the policy has moved too far from them."""
        self._examples, self._used, self._surplus = [], 0, ([], 0)

    def _generate(self) -> None:
        """Collect the next set: the surplus, what was judged in the background, and completions of
        the next prompts by the current policy."""
        wanted = self.batch_size * self.config.steps_per_generation
        examples, oldest = list(self._surplus[0]), self._surplus[1]
        missing = wanted - len(examples)
        rollouts, newest = self._pending or (self._begin(missing), self._num_batches)
        self._pending, self._generated_at = None, oldest if examples else newest
        scores: list[float] = []
        while rollouts:
            examples += self._learnable(rollouts, scores)
            rollouts = self._begin(wanted - len(examples))
        self.score = fmean(scores) if scores else self.score
        self._surplus = examples[wanted:], newest if missing > 0 else oldest
        examples = examples[:wanted]
        self._examples = self.critic.appraise(examples) if self.critic else examples
        self._used = 0
        if self.config.overlap and (rollouts := self._begin(wanted - len(self._surplus[0]))):
            self._pending = rollouts, self._num_batches

    def _begin(self, missing: int) -> PendingRollouts | None:
        """Start on the next prompts, if there are any and examples are missing."""
        stream, count = cast(Iterable[Prompt], self.stream), max(0, -(-missing // self.per_prompt))
        prompts = list(islice(self._prompts.askable(stream), count))
        if not prompts:
            return None
        seed = self.seed + self._generations
        rollouts = self.sampler.begin(prompts, seed=seed, moment=self._num_batches)
        self._generations += 1
        return rollouts

    def _learnable(self, rollouts: PendingRollouts, scores: list[float]) -> Iterator[Encoded]:
        """Examples to learn from. Appends the scores of the rollouts to `scores`."""
        finished, counts = self.sampler.finish(rollouts), self.counts
        judged_groups = finished.groups
        self.cost.update(finished.cost)
        counts["read"] += len(rollouts.prompts)
        counts["answers"] += len(rollouts.prompts) * self.config.num_generations
        alike = len(rollouts.prompts) - len(judged_groups)
        counts["alike"] += alike
        self._watch.see([judgement for _, judgement in judged_groups], alike=alike)
        scores += [score for _, judgement in judged_groups for score in judgement.scores]
        truncated = [cut for group, _ in judged_groups for cut in group.truncated]
        counts["truncated"] += sum(truncated)
        self._truncation.see(truncated, counts)
        for group, judgement in judged_groups:
            for example, places in self._judged(group, judgement):
                if is_idle_tie(example, self.objective):
                    counts["ties"] += 1
                else:
                    yield self._encoded(group, example, places)

    def take_warnings(self) -> list[str]:
        """A warning, once, if most completions were truncated."""
        return self._truncation.take()

    def _judged(
        self, group: CompletionGroup, judgement: Judgement
    ) -> Iterator[tuple[Example, list[int]]]:
        """The examples that a group becomes, each with the indices of its completions."""
        if self.objective.on_policy:
            yield ranking_of(group, judgement), order_of(judgement)
            return
        kind = self.objective.takes
        for example in as_kind(judged(group, judgement, kind=kind, pick=self.config.pick), kind):
            yield example, places_of(group, example)

    def _encoded(self, group: CompletionGroup, example: Example, places: list[int]) -> Encoded:
        item = Encoded(
            example,
            group.subset(places).tree,
            truncated=False,
            sampled=tuple(group.logps[place] for place in places) if group.logps else (),
        )
        if self.critic is None:
            return item
        tokens = tuple(group.token_logps[place] for place in places)
        return replace(item, of_tokens={"sampled": tokens})

    def summary(self) -> dict[str, int]:
        """Counts of prompts, of what happened to their completions, and of stored examples."""
        stored = self.stored.summary() if self.stored else {}
        counts = {key: self.counts[key] for key in COUNTED} | {"dropped": self._prompts.dropped}
        counts |= {f"judge_{key}": value for key, value in self.cost.items()}
        return counts | {f"stored_{key}": value for key, value in stored.items()}

    def metrics(self) -> dict[str, float]:
        """Staleness of the last batch in updates, completions sampled so far, and the judge's mean
        score of the current set."""
        score = {} if self.score is None else {"score": self.score}
        return {"staleness": self.age, "answers": self.counts["answers"], **score}

    def skipped_examples(self) -> list[str]:
        """The first few rows that were not used, as `file:row: reason`."""
        stored = self.stored.skipped_examples() if self.stored else []
        return [*self.stream.counts.shown, *self._prompts.shown, *stored]

    def position(self) -> Any:
        """The position, with the rollouts being judged."""
        stored = self.stored.state() if self.stored else None
        values = {name: copy(getattr(self, name)) for name in MOVING}
        return self.stream.state(), stored, values

    def seek(self, position: Any) -> None:
        """Go to a position that `position()` returned."""
        stream, stored, values = position
        self.stream.load_state(stream)
        if self.stored:
            self.stored.load_state(stored)
        for name, value in values.items():
            setattr(self, name, copy(value))
        self._moves += 1

    def state(self) -> dict[str, Any]:
        """The position, with completions that are not yet learned from, as JSON."""
        return {
            "stream": self.stream.state(),
            "stored": self.stored.state() if self.stored else None,
            "prompts": self._prompts.state(),
            "counts": dict(self.counts),
            "cost": dict(self.cost),
            "generations": self._generations,
            "used": self._used,
            "generated_at": self._generated_at,
            "num_batches": self._num_batches,
            "score": self.score,
            "examples": [encoded_to_json(item) for item in self._examples],
            "surplus": [[encoded_to_json(item) for item in self._surplus[0]], self._surplus[1]],
            "pending": self._pending and [self.sampler.to_json(self._pending[0]), self._pending[1]],
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.stream.load_state(state["stream"])
        if self.stored:
            self.stored.load_state(state["stored"])
        self._prompts.load_state(state["prompts"])
        self.counts = Counter(state["counts"])
        self.cost = Counter(state["cost"])
        self._generations, self._used = state["generations"], state["used"]
        self._generated_at, self._num_batches = state["generated_at"], state["num_batches"]
        self.score = state["score"]
        self._examples = [encoded_from_json(item) for item in state["examples"]]
        surplus, sampled_at = state.get("surplus", [[], 0])  # Older checkpoints have none.
        self._surplus = [encoded_from_json(item) for item in surplus], sampled_at
        self._pending = None
        if state["pending"]:
            rollouts, generated_at = state["pending"]
            self._pending = self.sampler.from_json(rollouts), generated_at
