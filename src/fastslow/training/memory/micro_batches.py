"""How many examples are scored at once: fewer when memory runs out, with the same update."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from fastslow.errors import StateError
from fastslow.training.distributed.processes import Team

T = TypeVar("T")

ADVICE = (
    "nothing was updated and checkpoints are intact. Set train.gradient_checkpointing, lower "
    "data.max_length, or load the base in fewer bits (train.precision: bfloat16, load_in_4bit)"
)


DIVIDED_FULL = (
    "memory ran out over {} examples at once, and processes that divide the base cannot begin the "
    f"step again: {ADVICE}, or set a smaller train.micro_batch_size"
)


class MicroBatches:
    """The number of examples that are scored at once in this run, now `size`.

    Args:
        size: to begin with.
        coupled: name of an objective that needs a batch whole.
    """

    def __init__(self, size: int, *, coupled: str | None = None) -> None:
        self.size = size
        self._coupled = coupled

    def split(self, items: Sequence[T]) -> list[list[T]]:
        """The items in runs of `size`, the last one perhaps shorter."""
        return [list(items[i : i + self.size]) for i in range(0, len(items), self.size)]

    def shares(self, items: Sequence[T]) -> list[tuple[list[T], bool]]:
        """This process's part of the items in such runs, and whether each counts: `Team.evened`."""
        team = Team()
        most = -(-team.largest_share(len(items)) // self.size)
        return team.evened(self.split(team.share(items)), most, list(items[:1]))

    def fitting(
        self,
        attempt: Callable[[], T],
        *,
        undo: Callable[[], None],
        tell: Callable[[str], None],
    ) -> T:
        """What the attempt returns, made again with half the size as often as memory runs out.

        Where there are several processes, all make it again when it has run out for one. `undo`
        is called before, to drop what the attempt has done so far, and `tell` hears of the change
        in words. Raises StateError where no smaller size can be had.
        """
        while True:
            try:
                found, full = attempt(), False
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                if Team().divided:  # The others are waiting for this one's part of a layer.
                    raise StateError(DIVIDED_FULL.format(self.size)) from None
                full = True
            # Outside of the handler, as the error holds on to what was computed.
            if not Team().any(full):
                return found
            undo()
            clear_device_cache(garbage_collection=True)
            tell(self._halve())

    def _halve(self) -> str:
        if self._coupled:
            raise StateError(
                f"memory ran out over {self.size} examples, which objective {self._coupled} "
                f"compares with each other and needs at once: lower train.batch_size; {ADVICE}"
            )
        if self.size == 1:
            raise StateError(f"memory ran out over a single example: {ADVICE}")
        before, self.size = self.size, (self.size + 1) // 2
        return (
            f"memory ran out over {before} examples at once; from now on {self.size} are scored at "
            "once, which takes less memory and changes nothing else. Set train.micro_batch_size: "
            f"{self.size} to begin so"
        )
