"""Evaluations on disk: one line each, there before the search goes further."""

from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from fastslow.errors import StateError
from fastslow.foreign_files import misfit, read_log
from fastslow.training.state.event_log import EventLog


@dataclass(frozen=True, slots=True)
class Record:
    """One instruction, scored on the validation or the test questions."""

    split: str
    candidate: int
    """Its place in the pool."""
    instruction: str
    score: float
    scores: list[float]
    """Of each answer."""
    answers: list[str]
    cost: dict[str, int]


class EvaluationLog:
    """The evaluations in a file, by split and candidate; a last line that is not whole is cut off.

    Raises StateError where the file is damaged, and as `disk_errors`.
    """

    def __init__(self, path: Path) -> None:
        whole = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
        self._log = EventLog(path, size=whole)
        self.known: dict[tuple[str, int], Record] = {}
        for number, line in read_log(path):
            if fault := misfit(line, Record, "the line"):
                raise StateError(f"{path}:{number}: {fault}; remove the run folder to start over")
            self._keep(Record(**line))

    def add(self, record: Record) -> None:
        """Keep an evaluation; it is on disk when this returns."""
        event: Any = asdict(record)
        self._log.write(event)
        self._log.sync()
        self._keep(record)

    def _keep(self, record: Record) -> None:
        self.known[record.split, record.candidate] = record

    def __enter__(self) -> "EvaluationLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.close()
