"""The interface to an evaluation tool: files to write, a command to run, results to read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fastslow.config import LlmJudgeConfig, Recipe
from fastslow.evaluation import BenchmarkScore
from fastslow.scoring import RenderedPair


class ScoredRow(Protocol):
    """A run's score of a pair; `fastslow.RowScore` is one."""

    @property
    def margin(self) -> float | None: ...

    @property
    def skipped(self) -> str | None: ...


class EvaluatedRun(Protocol):
    """A run whose policy a tool evaluates; `fastslow.Run` is one."""

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
    """Options of an evaluation. None leaves the choice to the tool."""

    module: str = "leader"
    data: Any = None
    """Held-out pairs, or the file of the benchmark's questions."""
    limit: int | None = None
    """Use only the first N pairs or questions."""
    judge: LlmJudgeConfig | None = None
    max_new_tokens: int | None = None
    """Longest answer, tokens."""
    temperature: float | None = None
    """Sampling temperature of the answers; 0 takes the likeliest token."""
    seed: int | None = None
    """Seed of the sampled answers."""
    arguments: tuple[str, ...] = ()
    """Passed on to the tool's own command."""

    def given(self) -> list[str]:
        """The names of the options that are set, except `module`."""
        options = {name: getattr(self, name) for name in self.__slots__ if name != "module"}
        return [name for name, value in options.items() if value not in (None, ())]


@dataclass(frozen=True, slots=True)
class ToolCommand:
    """How a tool is called."""

    arguments: Sequence[str]
    """After the Python of its environment."""
    packages: Sequence[str]
    """Distributions that this environment must have; the tool's own comes first."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set."""


class Harness(Protocol):
    """An evaluation tool."""

    name: str
    options: frozenset[str]
    """Fields of a request that the tool supports."""
    by_hand: bool
    """Whether fastslow cannot run it, so that a person must."""

    def prepare(
        self, run: EvaluatedRun, request: EvaluationRequest, folder: Path
    ) -> ToolCommand | str | None:
        """Write the tool's files into an empty folder. Returns the command to run, or instructions
        for a person where fastslow cannot run it; None if the results are among the files. Raises
        ConfigError or DataError for a request that the tool cannot fulfil."""

    def read(self, folder: Path) -> list[BenchmarkScore]:
        """The tool's results in that folder; empty if there are none yet. Raises StateError if they
        cannot be read."""
