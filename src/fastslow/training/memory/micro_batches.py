"""Micro-batch size: halved when out of memory, with the same update."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from fastslow.errors import ConfigError, StateError
from fastslow.training.distributed.processes import ProcessGroup

T = TypeVar("T")

ADVICE = (
    "nothing was updated and checkpoints are intact. Set train.gradient_checkpointing, lower "
    "data.max_length, or load the base in fewer bits (train.precision: bfloat16, load_in_4bit)"
)


DIVIDED_FULL = (
    "out of memory at micro-batch {}, and a step cannot be retried with a sharded base (FSDP2): "
    f"{ADVICE}, or set a smaller train.micro_batch_size"
)


class MicroBatches:
    """The current micro-batch size of a run, `size`.

    Args:
        size: the initial size.
        processes: the processes that share every batch.
        coupled: True if the objective needs whole batches.
    """

    def __init__(
        self, size: int, processes: ProcessGroup | None = None, *, coupled: bool = False
    ) -> None:
        self.size = size
        self._processes = processes or ProcessGroup()
        self.coupled = coupled

    def check_whole(self, count: int) -> None:
        """Raise ConfigError if the objective needs `count` examples whole and they are split."""
        if self.coupled and count > self.size:
            raise ConfigError(
                f"micro_batch_size: got {self.size}, and the batch has {count} rows; with this "
                "objective the loss of a row depends on its whole batch, so it must be left out"
            )

    def split(self, items: Sequence[T]) -> list[list[T]]:
        """The items in chunks of `size`; the last one may be shorter."""
        return [list(items[i : i + self.size]) for i in range(0, len(items), self.size)]

    def shares(self, items: Sequence[T]) -> list[tuple[list[T], bool]]:
        """This process's share of the items in such chunks, and whether each is real: see
        `ProcessGroup.pad_passes`."""
        processes = self._processes
        most = -(-processes.largest_share(len(items)) // self.size)
        return processes.pad_passes(self.split(processes.shard(items)), most, list(items[:1]))

    def retry_on_oom(
        self,
        attempt: Callable[[], T],
        *,
        undo: Callable[[], None],
        warn: Callable[[str], None],
    ) -> T:
        """The result of the attempt, repeated with half the size while it is out of memory.

        If one of several processes is out of memory, all repeat it. Before that, `undo` is called
        to drop partial results, and `warn` with a message. Raises StateError if the size cannot be
        halved.
        """
        while True:
            try:
                result, full = attempt(), False
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                if self._processes.sharded:  # The others wait for this process's shard of a layer.
                    raise StateError(DIVIDED_FULL.format(self.size)) from None
                full = True
            # Outside the handler, as the error keeps tensors alive.
            if not self._processes.any(full):
                return result
            undo()
            clear_device_cache(garbage_collection=True)
            warn(self._halve())

    def _halve(self) -> str:
        if self.coupled:
            raise StateError(
                f"out of memory at micro-batch {self.size}, which cannot be split, as the "
                f"objective depends on the whole batch: lower train.batch_size; {ADVICE}"
            )
        if self.size == 1:
            raise StateError(f"out of memory at micro-batch 1: {ADVICE}")
        before, self.size = self.size, (self.size + 1) // 2
        return (
            f"out of memory at micro-batch {before}; continuing with {self.size}, same update. "
            f"Set train.micro_batch_size: {self.size} to start with it"
        )
