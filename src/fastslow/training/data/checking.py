"""Checks examples without learning from them, in as many processes as there are cores.

Each example is reduced to a few numbers, which are quick to send. What is counted and reported,
and in which order, does not depend on the number of processes.
"""

import gc
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

from fastslow.errors import FastslowError
from fastslow.objectives import Objective
from fastslow.orphans import end_with_parent
from fastslow.records import Example, Pair, Ranking, Rating
from fastslow.scoring import Dropped, Encoded, Encoder
from fastslow.streams import ExampleStream
from fastslow.streams.block_examples import BlockExamples, ExampleMaker
from fastslow.streams.stream import Rows
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.identity import key_of, verdict_of
from fastslow.training.data.requirements import is_idle_tie, missing_fields

MOST_PROCESSES = 8
READ_AHEAD = 2
"""Blocks of rows to read ahead per process."""
TOGETHER = 32
"""Examples tokenised in one call; if it refuses one, each is tried alone."""


class Checked(NamedTuple):
    """Findings about one example; lengths in tokens. A tuple, because millions are sent."""

    source: str
    domain: str
    names: tuple[str, ...]
    """What each response is, such as `chosen`."""
    is_tie: bool
    about: int
    """Hash of the prompt and the responses in any order."""
    says: int
    """Hash of the verdict on these responses."""
    idle: bool = False
    """True if it has no preference and the objective learns only from preferences."""
    missing: str | None = None
    """What the objective needs and the example lacks."""
    dropped: str | None = None
    """Why it cannot be scored."""
    truncated: bool = False
    prompt_truncated: bool = False
    prompt_length: int = 0
    response_lengths: tuple[int, ...] = ()
    """Scored tokens."""
    full_length: int = 0
    """Prompt plus longest response, before truncation."""
    encoded: Encoded | None = None
    """The encoded example, kept only for the first block of rows."""


class CheckedReader(BatchReader):
    """A BatchReader whose batches hold `Checked` in place of `Encoded`.

    The stream must not be live, and is read once.
    """

    def __init__(
        self,
        stream: ExampleStream,
        encoder: Encoder,
        objective: Objective,
        *,
        batch_size: int,
        processes: int | None = None,
    ) -> None:
        super().__init__(stream, encoder, objective, batch_size=batch_size)
        count = num_processes() if processes is None else processes
        stream.made_of = _Checker(stream.make, encoder, objective, count).blocks

    def _is_idle(self, example: Checked) -> bool:
        return example.idle

    def _missing(self, example: Checked) -> str | None:
        return example.missing

    def _encoded(self, examples: Sequence[Any]) -> Sequence[Any]:
        return [Dropped(item, item.dropped) if item.dropped else item for item in examples]


def num_processes() -> int:
    """One per core, up to MOST_PROCESSES; 1 where processes cannot be forked, because new ones
    would take longer to start than they save."""
    if sys.platform != "linux":
        return 1
    return min(MOST_PROCESSES, len(os.sched_getaffinity(0)))


class _Checker:
    """Makes examples from rows and checks them.

    Args:
        make: makes the examples.
        encoder: encodes them.
        objective: would learn from them.
        processes: number of processes that check the blocks of rows after the first.
    """

    def __init__(
        self, make: ExampleMaker, encoder: Encoder, objective: Objective, processes: int
    ) -> None:
        self._make, self._encoder, self._objective = make, encoder, objective
        self._processes = processes

    def blocks(self, blocks: Iterable[Rows]) -> Iterator[BlockExamples]:
        """Every block, checked, in order; the first one keeps its encoded examples."""
        rest = iter(blocks)
        for first in rest:
            yield self.check(first, keep=True)
            break
        second = next(rest, None)
        if second is None:
            return
        if self._processes == 1:
            yield from map(self.check, chain([second], rest))
        else:
            yield from self._in_processes(chain([second], rest))

    def _in_processes(self, blocks: Iterator[Rows]) -> Iterator[BlockExamples]:
        pending: deque[Future[tuple[BlockExamples, list[str]]]] = deque()
        fault: FastslowError | None = None
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(self._processes, context, _start_worker, (self,))
        try:
            while True:
                try:
                    while fault is None and len(pending) < READ_AHEAD * self._processes:
                        pending.append(pool.submit(_checked, next(blocks)))
                except StopIteration:
                    pass
                except FastslowError as error:  # Raised after the blocks before it.
                    fault = error
                if not pending:
                    break
                block, notes = pending.popleft().result()
                self._encoder.add_notes(notes)
                yield block
        finally:
            pool.shutdown(cancel_futures=True)
        if fault is not None:
            raise fault

    @property
    def notes(self) -> list[str]:
        """Notes of the encoder, of which each process has its own."""
        return self._encoder.notes

    def check(self, rows: Rows, *, keep: bool = False) -> BlockExamples:
        """The rows' examples, checked; `keep` keeps the encoded examples too."""
        block = self._make(rows)
        results: list[Checked | None] = [self._unusable(example) for example in block.examples]
        usable = [index for index, result in enumerate(results) if result is None]
        for first in range(0, len(usable), TOGETHER):
            indices = usable[first : first + TOGETHER]
            encoded = self._encoder.encode_all([block.examples[index] for index in indices])
            for index, item in zip(indices, encoded, strict=True):
                results[index] = _measured(item, keep=keep)
        block.examples = results
        return block

    def _unusable(self, example: Example) -> Checked | None:
        if is_idle_tie(example, self._objective):
            return Checked(*_common_fields(example), idle=True)
        missing = missing_fields(example, self._objective)
        return Checked(*_common_fields(example), missing=missing) if missing else None


def response_names(example: Example) -> tuple[str, ...]:
    """What each response of an example is, in its order."""
    if isinstance(example, Pair):
        return ("tied response 1", "tied response 2") if example.is_tie else ("chosen", "rejected")
    if isinstance(example, Ranking):
        return tuple(f"rank {rank}" for rank in example.ranks)
    if isinstance(example, Rating):
        return ("liked" if example.desirable else "not liked",)
    return ("demonstrated",)


def _common_fields(example: Example) -> tuple[str, str, tuple[str, ...], bool, int, int]:
    """The fields of `Checked` without defaults, in order."""
    is_tie = isinstance(example, Pair) and example.is_tie
    about, says = hash(key_of(example)), verdict_of(example)
    return example.source, example.domain, response_names(example), is_tie, about, says


def _measured(item: Encoded | Dropped, *, keep: bool) -> Checked:
    common = _common_fields(item.example)
    if isinstance(item, Dropped):
        return Checked(*common, dropped=item.reason)
    return Checked(
        *common,
        truncated=item.truncated,
        prompt_truncated=item.prompt_truncated,
        prompt_length=len(item.tree.prompt),
        response_lengths=tuple(item.tree.num_scored),
        full_length=item.full_length,
        encoded=item if keep else None,
    )


_checker: _Checker
"""The checker of this worker process."""


def _start_worker(checker: _Checker) -> None:
    global _checker
    _checker = checker
    end_with_parent()
    gc.freeze()  # The collector skips existing objects, so their memory stays shared.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent process.


def _checked(rows: Rows) -> tuple[BlockExamples, list[str]]:
    """The rows' examples, checked, and the encoder's notes so far."""
    return _checker.check(rows), _checker.notes
