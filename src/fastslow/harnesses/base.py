"""What an evaluation tool is to us: files that we write, a command, results that we read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fastslow.config import LlmJudgeConfig, Recipe
from fastslow.evaluation import BenchmarkScore
from fastslow.scoring import RenderedPair


class ScoredRow(Protocol):
    """What a run makes of a pair; `fastslow.RowScore` is one."""

    @property
    def margin(self) -> float | None: ...

    @property
    def skipped(self) -> str | None: ...


class EvaluatedRun(Protocol):
    """What the files of a tool are made from; `fastslow.Run` is one."""

    folder: Path

    @property
    def recipe(self) -> Recipe: ...

    def policy(self, module: str) -> str: ...

    def adapter(self, module: str) -> Path | None: ...

    def rendered_pairs(
        self, data: Any = None, *, max_pairs: int | None = None
    ) -> list[RenderedPair]: ...

    def generate(
        self,
        prompts: Sequence[Any],
        *,
        module: str,
        max_new_tokens: int | None,
        temperature: float,
        seed: int,
    ) -> list[list[str]]: ...

    def score(self, rows: Any, *, module: str) -> Sequence[ScoredRow]: ...


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What is asked of a tool. What is None is left to the tool's own rules."""

    module: str = "leader"
    data: Any = None
    """Held-out pairs, or the file of the benchmark's questions."""
    limit: int | None = None
    """Use the first so many pairs or questions."""
    judge: LlmJudgeConfig | None = None
    max_new_tokens: int | None = None
    """Longest answer, tokens."""
    temperature: float | None = None
    """Of the answers; 0 takes the likeliest token."""
    seed: int | None = None
    """Of the answers."""
    arguments: tuple[str, ...] = ()
    """Handed on to the tool's own command."""

    def given(self) -> list[str]:
        """The names of the options that are set, but for `module`."""
        options = {name: getattr(self, name) for name in self.__slots__ if name != "module"}
        return [name for name, value in options.items() if value not in (None, ())]


@dataclass(frozen=True, slots=True)
class ToolCommand:
    """How a tool is called."""

    arguments: Sequence[str]
    """After the Python of its environment."""
    packages: Sequence[str]
    """Distributions that this environment must hold; the tool's own comes first."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are set for it."""


class Harness(Protocol):
    """An evaluation tool."""

    name: str
    options: frozenset[str]
    """Fields of a request that have an effect."""
    by_hand: bool
    """Whether it cannot be called from here."""

    def prepare(
        self, run: EvaluatedRun, request: EvaluationRequest, folder: Path
    ) -> ToolCommand | str | None:
        """Write the tool's files into an empty folder; how it is called, or, where it cannot be
        called from here, what a person does with these files; None where its results are among
        them. Raises ConfigError or DataError for a request that the tool cannot fulfil."""

    def read(self, folder: Path) -> list[BenchmarkScore]:
        """What the tool has left in that folder; empty where there is nothing yet. Raises
        StateError where it cannot be read."""
