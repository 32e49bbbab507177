"""What was asked, on disk: one line each, there before the run goes further."""

from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

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


@dataclass(frozen=True, slots=True)
class Written:
    """Some texts that a model wrote as instructions."""

    texts: list[str]
    truncated: list[bool]
    """Which of them were cut by the length limit."""
    cost: dict[str, int]


Row = TypeVar("Row", Record, Written)


class RowLog(Generic[Row]):
    """Rows in a file; a last line that is not whole is cut off.

    Raises StateError where the file is damaged, and as `disk_errors`.
    """

    def __init__(self, path: Path, kind: type[Row]) -> None:
        whole = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
        self._log = EventLog(path, size=whole)
        self.rows: list[Row] = []
        for number, line in read_log(path):
            if fault := misfit(line, kind, "the line"):
                raise StateError(f"{path}:{number}: {fault}; remove the run folder to start over")
            self.rows.append(kind(**line))

    def add(self, row: Row) -> None:
        """Keep a row; it is on disk when this returns."""
        event: Any = asdict(row)
        self._log.write(event)
        self._log.sync()
        self.rows.append(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.close()


class EvaluationLog(RowLog[Record]):
    """The evaluations."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Record)

    def find(self, split: str, candidate: int) -> Record | None:
        """A candidate's evaluation, if it was evaluated."""
        asked = (row for row in self.rows if (row.split, row.candidate) == (split, candidate))
        return next(asked, None)
