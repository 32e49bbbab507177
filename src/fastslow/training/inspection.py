"""What a stream of pairs holds, found by reading all of it without a model."""

import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastslow.scoring import EncodedPair, Encoder
from fastslow.streams import PairStream
from fastslow.training.batches import BatchReader


@dataclass(slots=True)
class Inspection:
    """Findings about one stream; lengths in tokens."""

    counts: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    domains: Counter[str] = field(default_factory=Counter)
    prompt_lengths: list[int] = field(default_factory=list)
    chosen_lengths: list[int] = field(default_factory=list)
    rejected_lengths: list[int] = field(default_factory=list)
    examples: list[EncodedPair] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The findings without the examples."""
        return {
            "rows and pairs": self.counts,
            "first left out": self.left_out,
            "domains": dict(self.domains),
            "prompt tokens": _spread(self.prompt_lengths),
            "chosen tokens": _spread(self.chosen_lengths),
            "rejected tokens": _spread(self.rejected_lengths),
        }


def inspect_pairs(
    stream: PairStream,
    encoder: Encoder,
    *,
    batch_size: int,
    progress: Callable[[int], None],
) -> Inspection:
    """Read and encode every pair. Raises DataError as training would."""
    found = Inspection()
    reader = BatchReader(stream, encoder, batch_size=batch_size)
    for batch in reader:
        for item in batch:
            chosen, rejected = item.tree.responses
            found.domains[item.pair.domain] += 1
            found.prompt_lengths.append(len(item.tree.prompt))
            found.chosen_lengths.append(len(chosen))
            found.rejected_lengths.append(len(rejected))
        if len(found.examples) < 16:
            found.examples += batch
        progress(stream.counts.read)
    found.counts = reader.summary()
    found.left_out = reader.left_out()
    return found


def _spread(lengths: list[int]) -> dict[str, int]:
    ordered = sorted(lengths)
    return {
        "median": int(statistics.median(ordered)),
        "95 %": ordered[int(0.95 * (len(ordered) - 1))],
        "longest": ordered[-1],
    }
