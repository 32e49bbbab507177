"""The processes that train one run together: each learns from its share of every batch.

All read the same stream and keep the same state, so they differ only in which examples they score.
Gradients and sums are added up before anything is decided. Decisions that other processes could
not repeat, such as a judge's, are made by the first. Each process has its own run folder; the
first process's is the run's.
"""

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import nn

from fastslow.errors import ConfigError, FastslowError, StateError
from fastslow.evaluation import MetricSums
from fastslow.training.distributed import messages
from fastslow.training.distributed.launcher import check_announced
from fastslow.training.distributed.messages import ERROR, PLAIN, Codec, list_of
from fastslow.training.distributed.scratch import scratch_copy

T = TypeVar("T")

SUMS: Codec[MetricSums] = Codec(asdict, lambda sent: MetricSums(**sent))

NO_DEEPSPEED = (
    "launcher: DeepSpeed is not supported. ZeRO stages 1 and 2 shard gradients and optimizer "
    "states, which are small with LoRA: launch with --multi_gpu. To shard the base as stage 3 "
    "does, launch with --use_fsdp --fsdp_version 2"
)


@cache
def _leave_at_exit() -> None:
    """Destroy the process group at exit: threads that outlive the interpreter would abort it."""
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class ProcessGroup:
    """This process and its peers; a single one if no launcher started several.

    Args:
        device: as in `train.device`. It is fixed for the life of a process.

    Raises ConfigError if the launcher announced more processes than exist.
    """

    def __init__(self, device: str = "auto") -> None:
        if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
            raise ConfigError(NO_DEEPSPEED)
        # Without cpu=True, several processes on a CPU would each train alone.
        on_cpu = device == "cpu" or parse_flag_from_env("ACCELERATE_USE_CPU")
        self._state = PartialState(cpu=on_cpu or not torch.accelerator.is_available())
        if on_cpu and self.device.type != "cpu":
            raise ConfigError(
                f"train.device: got 'cpu', but this process has begun to compute on {self.device}; "
                "start a new one"
            )
        check_announced(self.size)
        if self.size > 1:
            _leave_at_exit()

    @property
    def size(self) -> int:
        """Number of processes."""
        return int(self._state.num_processes)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self._state.device
        return device

    @property
    def rank(self) -> int:
        """Index of this process, from 0."""
        return int(self._state.process_index)

    @property
    def on_this_machine(self) -> int:
        """Number of processes that share this machine's memory."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if self.size > 1 else 1

    def machines(self) -> int:
        """Number of machines: each has one process that is its first. All must call it."""
        return self.all_gather(int(self._state.local_process_index)).count(0)

    @property
    def sharded(self) -> bool:
        """True if the base is sharded over the processes (accelerate's --use_fsdp)."""
        return self.size > 1 and parse_flag_from_env("ACCELERATE_USE_FSDP")

    def shard(self, items: Sequence[T]) -> list[T]:
        """This process's part of the items: every `size`-th."""
        return list(items[self.rank :: self.size])

    def pad_passes(self, own: Sequence[T], most: int, stand_in: T) -> list[tuple[T, bool]]:
        """This process's passes through the model, each with True.

        With a sharded base every process must make the same number of passes, `most`. Missing ones
        use `stand_in`, with False, and their results are ignored.
        """
        missing = most - len(own) if self.sharded else 0
        return [(item, True) for item in own] + [(stand_in, False)] * missing

    def largest_share(self, count: int) -> int:
        """How many of `count` items the process with the most has."""
        return -(-count // self.size)

    def all_gather(self, own: T, codec: Codec[T] = PLAIN) -> list[T]:
        """The values of all processes, in their order, on every process."""
        if self.size == 1:
            return [own]
        values = messages.all_gather(codec.encode(own), self.device, size=self.size)
        return [codec.decode(value) for value in values]

    def gather(self, own: Sequence[T], codec: Codec[T] = PLAIN) -> list[T]:
        """All items, in their order, from the processes' shares (see `shard`)."""
        missing = object()
        rows = zip_longest(*self.all_gather(list(own), list_of(codec)), fillvalue=missing)
        return [item for item in chain.from_iterable(rows) if item is not missing]  # type: ignore[misc]

    def merged(self, own: MetricSums) -> MetricSums:
        """The sums of all processes."""
        whole = MetricSums()
        for totals in self.all_gather(own, SUMS):
            whole.add(totals.sums, count=totals.count, counts=totals.counts)
        return whole

    def any(self, here: bool) -> bool:
        """True if `here` is true in any process."""
        return any(self.all_gather(here))

    def broadcast_from_main(self, call: Callable[[], T], codec: Codec[T] = PLAIN) -> T:
        """The result of the call, made in the main process only; errors are raised in all.

        Exceptions other than fastslow's own become StateError, so that they can be sent.
        """
        if self.size == 1:
            return call()
        result, fault, cause = None, None, None
        sent: list[Any] = [None, None]
        if self.rank == 0:
            try:
                result = call()
                sent = [codec.encode(result), None]
            except FastslowError as error:
                fault = error
            except Exception as error:
                fault = StateError(f"the main process raised {type(error).__name__}: {error}")
                cause = error
            if fault is not None:
                sent = [None, ERROR.encode(fault)]
        value, sent_fault = messages.broadcast(sent, self.device, sends=self.rank == 0)
        if sent_fault is not None:
            raise fault or ERROR.decode(sent_fault) from cause
        return cast(T, result) if self.rank == 0 else codec.decode(value)

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; a missing one counts as 0."""
        trained = list(parameters)
        if self.size == 1 or not trained:
            return
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        whole = torch.cat([part.flatten() for part in parts])
        torch.distributed.all_reduce(whole)
        for parameter, part in zip(trained, whole.split([p.numel() for p in trained]), strict=True):
            parameter.grad = part.view_as(parameter)

    def check_same(self, digest: str) -> None:
        """Raise StateError unless the weights, as given by `digest`, are the same in all."""
        if len(set(self.all_gather(digest))) > 1:
            raise StateError(
                "the weights differ between the processes, so they no longer train the same model; "
                "earlier checkpoints are intact. Check for different devices or library versions "
                "between the processes"
            )

    @contextmanager
    def folder(self, of_run: Path) -> Iterator[Path]:
        """Where this process writes: the run's folder, or a temporary copy of it.

        Raises ConfigError in all processes if one of them does not see the run's folder, and
        StateError if one cannot copy it.
        """
        if self.size == 1:
            yield of_run
            return
        self.check_shared(of_run, what="output_dir")
        with ExitStack() as stack:
            path, fault = of_run, None
            if self.rank > 0:
                try:
                    path = stack.enter_context(scratch_copy(of_run))
                except OSError as error:
                    fault = str(error)
            if faults := [text for text in self.all_gather(fault) if text]:
                raise StateError(f"{of_run} cannot be copied to a temporary folder: {faults[0]}")
            yield path

    def check_shared(self, folder: Path, *, what: str) -> None:
        """Raise ConfigError, which names `what` as at fault, in all processes if one of them does
        not see the main process's folder."""
        marker = folder / self.broadcast_from_main(lambda: f".seen-{uuid4().hex}")
        self.broadcast_from_main(marker.touch)
        visible = self.all_gather(marker.exists())
        # All wait for this, because the others copy the folder next.
        self.broadcast_from_main(lambda: marker.unlink(missing_ok=True))
        if not all(visible):
            raise ConfigError(
                f"{what}: process {visible.index(False)} does not see {folder} of the main "
                "process; give a folder on a disk that all machines share"
            )
