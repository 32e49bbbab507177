"""Batches of encoded examples off the stream, with everything that was left out counted."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from fastslow.errors import DataError
from fastslow.objectives import Objective
from fastslow.records import Demonstration, Example, Pair, Ranking, Rating
from fastslow.scoring import Dropped, Encoded, Encoder, Tree
from fastslow.streams import ExampleStream, ReplayStream
from fastslow.training.data.serialization import frozen, record
from fastslow.training.loop.logps import lacks

MAX_LEFT_OUT = 0.1
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Pair, Ranking, Rating, Demonstration)}
SHOWN = 5
GIVE_COLUMNS = "Give the columns, or take an objective that does without them."
ENOUGH_PAIRS = 100


@dataclass(slots=True)
class ExampleCounts:
    """What became of the pairs that came off the stream."""

    kept: int = 0
    ties: int = 0
    """Examples without a preference, from which the objective does not learn."""
    learned_ties: int = 0
    """Those from which it does."""
    cut: int = 0
    """Kept pairs that truncation shortened."""
    dropped: int = 0
    """Pairs that cannot be scored within the length limit."""
    lacking: int = 0
    """Pairs that do not say what the objective learns from."""


class BatchReader:
    """Iterates over batches of up to `batch_size` examples that the objective can learn from.

    The last may be smaller.

    Raises DataError when more than a tenth of the pairs cannot be learned from, or none can.
    """

    def __init__(
        self,
        stream: ExampleStream | ReplayStream,
        encoder: Encoder,
        objective: Objective,
        *,
        batch_size: int,
    ) -> None:
        self.stream = stream
        self.counts = ExampleCounts()
        self.shown: list[str] = []
        """The first few dropped pairs, as `file:row: reason`."""
        self._encoder = encoder
        self._objective = objective
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[Encoded]]:
        batch: list[Encoded] = []
        examples = self._learnable()
        # No more than there is room for, so that the position is that after the batch.
        while some := list(islice(examples, self.batch_size - len(batch))):
            batch += self._kept(self._encoder.encode_all(some))
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch
        self._check_left_out(1)
        if not self.counts.kept:
            raise DataError(self._nothing())

    def _learnable(self) -> Iterator[Example]:
        for example in self.stream:
            if is_idle_tie(example, self._objective):
                self.counts.ties += 1
            elif lacking := lacks(example, self._objective):
                self.counts.lacking += 1
                self._leave_out(example, lacking)
            else:
                yield example

    def _kept(self, found: Sequence[Encoded | Dropped]) -> Iterator[Encoded]:
        for one in found:
            if isinstance(one, Dropped):
                self.counts.dropped += 1
                self._leave_out(one.example, one.reason)
                continue
            self.counts.kept += 1
            self.counts.cut += one.cut
            self.counts.learned_ties += isinstance(one.example, Pair) and one.example.is_tie
            yield one

    @property
    def given(self) -> int:
        """Examples of the stream that came out so far."""
        return self.stream.given

    def _nothing(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.summary().items() if n)
        ties = "; davidson and rao_kupper learn from ties" if self.counts.ties else ""
        return f"nothing in the data can be learned from ({counts}){ties}"

    def _leave_out(self, example: Example, reason: str) -> None:
        if len(self.shown) < SHOWN:
            self.shown.append(f"{example.source}: {reason}")
        self._check_left_out(ENOUGH_PAIRS)

    def summary(self) -> dict[str, int]:
        """Counts of rows read, bad and passed over, and of pairs tied, cut, dropped and lacking."""
        rows, pairs = self.stream.counts, self.counts
        return {
            "read": rows.read,
            "bad": rows.bad,
            "passed_over": rows.passed_over,
            "ties": pairs.ties,
            "learned_ties": pairs.learned_ties,
            "cut": pairs.cut,
            "dropped": pairs.dropped,
            "lacking": pairs.lacking,
        }

    def facts(self) -> dict[str, float]:
        """What an event says of the last batch beside its scores."""
        return {}

    def left_out(self) -> list[str]:
        """The first few rows and pairs that were not used, as `file:row: reason`."""
        return [*self.stream.counts.shown, *self.shown]

    def mark(self) -> Any:
        """The position after the last batch that came out, to go back to in this process."""
        return self.state()

    def go_back(self, mark: Any) -> None:
        """Go to a position that `mark` gave."""
        self.load_state(mark)

    def state(self) -> dict[str, Any]:
        """The position after the last batch that came out, as JSON."""
        counts = {name: getattr(self.counts, name) for name in self.counts.__slots__}
        return {"stream": self.stream.state(), "counts": counts, "shown": list(self.shown)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `state()` gave."""
        self.stream.load_state(state["stream"])
        self.counts = ExampleCounts(**state["counts"])
        self.shown = list(state["shown"])

    def _check_left_out(self, enough: int) -> None:
        """Early on, one such pair is a large share: `enough` pairs are taken as seen."""
        counts = self.counts
        lost = counts.dropped + counts.lacking
        pairs = counts.kept + lost
        if lost <= MAX_LEFT_OUT * max(pairs, enough):
            return
        advice = {
            f"Raise data.max_length = {self._encoder.max_length}, or leave such pairs out of the "
            "data.": counts.dropped,
            GIVE_COLUMNS: counts.lacking,
        }
        raise too_many(lost, pairs, self.shown, [text for text, n in advice.items() if n])


def encoded_to_json(item: Encoded) -> dict[str, Any]:
    """An example that waits to be learned, for a checkpoint."""
    return {
        "kind": type(item.example).__name__,
        "example": asdict(item.example),
        "tree": {"prompt": item.tree.prompt, "responses": item.tree.responses},
        "cut": item.cut,
        "sampled": item.sampled,
        "of_tokens": item.of_tokens,
    }


def encoded_from_json(given: dict[str, Any]) -> Encoded:
    """What `encoded_to_json` gave."""
    return Encoded(
        record(KINDS[given["kind"]], given["example"]),
        Tree(**frozen(given["tree"])),
        cut=given["cut"],
        sampled=frozen(given["sampled"]),
        of_tokens=frozen(given["of_tokens"]),
    )


def is_idle_tie(example: Example, objective: Objective) -> bool:
    """Whether nothing was preferred and the objective learns from preferences alone."""
    if objective.on_policy:
        return False
    if isinstance(example, Pair):
        return example.is_tie and not objective.learns_ties
    return isinstance(example, Ranking) and example.ranks[-1] == 0


def too_many(lost: int, pairs: int, shown: Sequence[str], advice: Sequence[str]) -> DataError:
    """The error of data of which too much cannot be learned from."""
    first = f"{lost} of the first {pairs} pairs cannot be learned from, more than a tenth:"
    return DataError("\n".join([first, *(f"  {line}" for line in shown), *advice]))
