"""Examples that are checked and not learned from, in as many processes as there are cores.

What is left of each are a few numbers, which are quickly sent. What is counted and said, and in
which order, does not depend on the number of processes.
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
"""Blocks of rows for each process that are read before they are checked."""
TOGETHER = 32
"""Examples that are tokenised in one call: where it refuses one, each is tried alone."""


class Checked(NamedTuple):
    """What is left of an example; lengths in tokens. A tuple, as millions are sent."""

    source: str
    domain: str
    names: tuple[str, ...]
    """What each response is."""
    is_tie: bool
    about: int
    """Hash of the prompt and the responses in any order."""
    says: int
    """Hash of what is said of these."""
    idle: bool = False
    """Whether nothing was preferred and the objective learns from preferences alone."""
    missing: str | None = None
    """What the objective needs and it does not say."""
    dropped: str | None = None
    """Why it cannot be scored."""
    truncated: bool = False
    prompt_truncated: bool = False
    prompt_length: int = 0
    response_lengths: tuple[int, ...] = ()
    """Scored tokens."""
    full_length: int = 0
    """Of the prompt with the longest response, before truncation."""
    encoded: Encoded | None = None
    """The example itself, of the first block of rows only."""


class CheckedReader(BatchReader):
    """As BatchReader, of which the batches hold what is Checked of the examples.

    The stream must not be live, and is read through once.
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
        return [Dropped(one, one.dropped) if one.dropped else one for one in examples]


def num_processes() -> int:
    """As many as there are cores, up to MOST_PROCESSES; 1 where processes cannot be forked, as new
    ones would take longer to start than they save."""
    if sys.platform != "linux":
        return 1
    return min(MOST_PROCESSES, len(os.sched_getaffinity(0)))


class _Checker:
    """Makes examples of rows and checks them.

    Args:
        make: what makes them.
        encoder: what encodes them.
        objective: what would learn from them.
        processes: how many of these take blocks of rows after the first.
    """

    def __init__(
        self, make: ExampleMaker, encoder: Encoder, objective: Objective, processes: int
    ) -> None:
        self._make, self._encoder, self._objective = make, encoder, objective
        self._processes = processes

    def blocks(self, blocks: Iterable[Rows]) -> Iterator[BlockExamples]:
        """What is Checked of every block, in order; of the first one with the examples."""
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
        pool = ProcessPoolExecutor(self._processes, context, _begin, (self,))
        try:
            while True:
                try:
                    while fault is None and len(pending) < READ_AHEAD * self._processes:
                        pending.append(pool.submit(_checked, next(blocks)))
                except StopIteration:
                    pass
                except FastslowError as error:  # It is the turn of the blocks before it.
                    fault = error
                if not pending:
                    break
                made, notes = pending.popleft().result()
                self._encoder.add_notes(notes)
                yield made
        finally:
            pool.shutdown(cancel_futures=True)
        if fault is not None:
            raise fault

    @property
    def notes(self) -> list[str]:
        """Of the encoder, which is another one in each process."""
        return self._encoder.notes

    def check(self, rows: Rows, *, keep: bool = False) -> BlockExamples:
        """What is Checked of the examples in some rows, with them to `keep`."""
        made = self._make(rows)
        found: list[Checked | None] = [self._unusable(example) for example in made.examples]
        sound = [place for place, one in enumerate(found) if one is None]
        for first in range(0, len(sound), TOGETHER):
            places = sound[first : first + TOGETHER]
            encoded = self._encoder.encode_all([made.examples[place] for place in places])
            for place, item in zip(places, encoded, strict=True):
                found[place] = _measured(item, keep=keep)
        made.examples = found
        return made

    def _unusable(self, example: Example) -> Checked | None:
        if is_idle_tie(example, self._objective):
            return Checked(*_known(example), idle=True)
        missing = missing_fields(example, self._objective)
        return Checked(*_known(example), missing=missing) if missing else None


def response_names(example: Example) -> tuple[str, ...]:
    """What each response of an example is, in its order."""
    if isinstance(example, Pair):
        return ("tied response 1", "tied response 2") if example.is_tie else ("chosen", "rejected")
    if isinstance(example, Ranking):
        return tuple(f"rank {rank}" for rank in example.ranks)
    if isinstance(example, Rating):
        return ("liked" if example.desirable else "not liked",)
    return ("demonstrated",)


def _known(example: Example) -> tuple[str, str, tuple[str, ...], bool, int, int]:
    """The first fields of what is Checked of an example."""
    is_tie = isinstance(example, Pair) and example.is_tie
    about, says = hash(key_of(example)), verdict_of(example)
    return example.source, example.domain, response_names(example), is_tie, about, says


def _measured(item: Encoded | Dropped, *, keep: bool) -> Checked:
    known = _known(item.example)
    if isinstance(item, Dropped):
        return Checked(*known, dropped=item.reason)
    return Checked(
        *known,
        truncated=item.truncated,
        prompt_truncated=item.prompt_truncated,
        prompt_length=len(item.tree.prompt),
        response_lengths=tuple(item.tree.num_scored),
        full_length=item.full_length,
        encoded=item if keep else None,
    )


_checker: _Checker
"""Of this process, where it is one of several."""


def _begin(checker: _Checker) -> None:
    global _checker
    _checker = checker
    gc.freeze()  # What was there before is not looked through again, and so stays shared.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that waits for this one.


def _checked(rows: Rows) -> tuple[BlockExamples, list[str]]:
    """What is Checked of some rows, and the encoder's notes by now."""
    return _checker.check(rows), _checker.notes
