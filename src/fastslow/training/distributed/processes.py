"""The processes that train one run together: each learns from its share of every batch.

All read the same stream and keep the same state, so what they do differs only in which examples
they score. Gradients and sums are added up before anything is decided, and decisions that another
process could not repeat, as those of a judge, are the first one's. Each process has a run folder of
its own; the first one's is the run's.
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
    """Have this process leave its peers in order: threads that outlive the interpreter abort it."""
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class ProcessGroup:
    """This process and its peers; a single one if no launcher started several.

    Args:
        device: as `train.device` says it. It is settled once in the life of a process.

    Raises ConfigError where the launcher announced more processes than there are.
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
        """How many processes there are."""
        return int(self._state.num_processes)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self._state.device
        return device

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return int(self._state.process_index)

    @property
    def on_this_machine(self) -> int:
        """How many processes share the memory of this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if self.size > 1 else 1

    def machines(self) -> int:
        """On how many machines they are: each has one that is its first. All must ask."""
        return self.all_gather(int(self._state.local_process_index)).count(0)

    @property
    def sharded(self) -> bool:
        """Whether the base is sharded over the processes (accelerate's --use_fsdp)."""
        return self.size > 1 and parse_flag_from_env("ACCELERATE_USE_FSDP")

    def shard(self, items: Sequence[T]) -> list[T]:
        """This process's part of the items: every `size`-th."""
        return list(items[self.rank :: self.size])

    def pad_passes(self, own: Sequence[T], most: int, stand_in: T) -> list[tuple[T, bool]]:
        """This process's passes through the model, each with True.

        With a sharded base every process must make the same number of passes, `most`; missing ones
        use the stand-in, with False, and their results are ignored.
        """
        missing = most - len(own) if self.sharded else 0
        return [(one, True) for one in own] + [(stand_in, False)] * missing

    def largest_share(self, count: int) -> int:
        """How many of `count` items the process with most of them has."""
        return -(-count // self.size)

    def all_gather(self, own: T, codec: Codec[T] = PLAIN) -> list[T]:
        """What each process has, in their order, on all of them."""
        if self.size == 1:
            return [own]
        found = messages.all_gather(codec.encode(own), self.device, size=self.size)
        return [codec.decode(sent) for sent in found]

    def gather(self, own: Sequence[T], codec: Codec[T] = PLAIN) -> list[T]:
        """The whole that the processes have shares of, in its order."""
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
        """Whether it holds in any process."""
        return any(self.all_gather(here))

    def broadcast_from_main(self, call: Callable[[], T], codec: Codec[T] = PLAIN) -> T:
        """The result of the call, made in the main process only; errors are raised in all.

        Any other exception than fastslow's own becomes a StateError, so that it can be sent.
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
        value, told = messages.broadcast(sent, self.device, sends=self.rank == 0)
        if told is not None:
            raise fault or ERROR.decode(told) from cause
        return cast(T, result) if self.rank == 0 else codec.decode(value)

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all processes; none counts as 0."""
        own = list(parameters)
        if self.size == 1 or not own:
            return
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        whole = torch.cat([part.flatten() for part in parts])
        torch.distributed.all_reduce(whole)
        for parameter, part in zip(own, whole.split([p.numel() for p in own]), strict=True):
            parameter.grad = part.view_as(parameter)

    def check_same(self, digest: str) -> None:
        """Raise StateError unless the weights, which `digest` stands for, are the same in all."""
        if len(set(self.all_gather(digest))) > 1:
            raise StateError(
                "the weights differ between the processes, so they no longer train the same model; "
                "earlier checkpoints are intact. Check for different devices or library versions "
                "between the processes"
            )

    @contextmanager
    def folder(self, of_run: Path) -> Iterator[Path]:
        """Where this process writes: the run's folder, or a copy of it that is thrown away.

        Raises ConfigError in all processes where one of them does not see the run's folder, and
        StateError where one cannot copy it.
        """
        if self.size == 1:
            yield of_run
            return
        self.check_shared(of_run, what="output_dir")
        with ExitStack() as stack:
            own, fault = of_run, None
            if self.rank > 0:
                try:
                    own = stack.enter_context(scratch_copy(of_run))
                except OSError as error:
                    fault = str(error)
            if faults := [text for text in self.all_gather(fault) if text]:
                raise StateError(f"{of_run} cannot be copied to a temporary folder: {faults[0]}")
            yield own

    def check_shared(self, folder: Path, *, what: str) -> None:
        """Raise ConfigError, which says `what` is at fault, in all processes where one of them does
        not see the main one's folder."""
        sign = folder / self.broadcast_from_main(lambda: f".seen-{uuid4().hex}")
        self.broadcast_from_main(sign.touch)
        seen = self.all_gather(sign.exists())
        # All wait for it, as the others copy the folder next.
        self.broadcast_from_main(lambda: sign.unlink(missing_ok=True))
        if not all(seen):
            raise ConfigError(
                f"{what}: process {seen.index(False)} does not see {folder} of the main "
                "process; give a folder on a disk that all machines share"
            )
