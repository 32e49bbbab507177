"""Statistics of a stream of examples, from reading all of it without a model."""

import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastslow.objectives import Objective
from fastslow.scoring import Encoded, Encoder
from fastslow.streams import ExampleStream
from fastslow.training.data.batch_reader import TRUNCATED_UNSAID
from fastslow.training.data.checking import CheckedReader
from fastslow.training.data.identity import Alike


@dataclass(slots=True)
class DataStatistics:
    """Findings about one stream; lengths in tokens."""

    counts: dict[str, int] = field(default_factory=dict)
    skipped_examples: list[str] = field(default_factory=list)
    domains: Counter[str] = field(default_factory=Counter)
    prompt_lengths: list[int] = field(default_factory=list)
    response_lengths: dict[str, list[int]] = field(default_factory=dict)
    """Scored tokens, by what the response is, such as `chosen`."""
    full_lengths: list[int] = field(default_factory=list)
    """Prompt plus longest response, before truncation."""
    alike: Alike = field(default_factory=Alike)
    """Repeated and contradicted ones among the usable examples."""
    examples: list[Encoded] = field(default_factory=list)

    def warnings(self, max_length: int) -> list[str]:
        """Warnings if the length limit truncates more than one example in twenty, and about
        repeated and contradicted examples."""
        messages = self._truncation(max_length), self.alike.warning(len(self.full_lengths))
        return [message for message in messages if message]

    def _truncation(self, max_length: int) -> str | None:
        truncated, examples = self.counts["truncated"], len(self.full_lengths)
        if truncated <= TRUNCATED_UNSAID * examples:
            return None
        return (
            f"{truncated} of {examples} examples are truncated at data.max_length = {max_length}, "
            f"{self.counts['truncated_prompts']} of them in the prompt; "
            f"{_spread(self.full_lengths)['95 %']} would keep 95 % whole"
        )

    def as_json(self) -> dict[str, Any]:
        """The findings without the examples."""
        return {
            "rows and pairs": self.counts,
            "first left out": self.skipped_examples,
            "domains": dict(self.domains),
            "the same as one before": self.alike.repeated,
            "the opposite of one before": self.alike.contradicted,
            "prompt tokens": _spread(self.prompt_lengths),
            **{f"{n} tokens": _spread(lengths) for n, lengths in self.response_lengths.items()},
        }


def data_statistics(
    stream: ExampleStream,
    encoder: Encoder,
    objective: Objective,
    *,
    batch_size: int,
    progress: Callable[[int], None],
    processes: int | None = None,
) -> DataStatistics:
    """Read and encode every example. Raises DataError as training would.

    Rows after the first block are checked in `processes` processes; None is one per core.
    """
    result = DataStatistics()
    reader = CheckedReader(stream, encoder, objective, batch_size=batch_size, processes=processes)
    batch: Any  # It holds `Checked`, where batches of other readers hold `Encoded`.
    for batch in reader:
        for item in batch:
            result.domains[item.domain] += 1
            result.prompt_lengths.append(item.prompt_length)
            result.full_lengths.append(item.full_length)
            result.alike.see(item.about, item.says)
            for name, count in zip(item.names, item.response_lengths, strict=True):
                result.response_lengths.setdefault(name, []).append(count)
        if len(result.examples) < 16:
            result.examples += [item.encoded for item in batch if item.encoded is not None]
        progress(stream.counts.read)
    result.counts = reader.summary()
    result.skipped_examples = reader.skipped_examples()
    return result


def _spread(lengths: list[int]) -> dict[str, int]:
    ordered = sorted(lengths)
    return {
        "median": int(statistics.median(ordered)),
        "95 %": ordered[int(0.95 * (len(ordered) - 1))],
        "longest": ordered[-1],
    }
