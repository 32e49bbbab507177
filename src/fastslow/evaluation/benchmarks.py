"""Results of external evaluation tools for a policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastslow.foreign_files import misfit


@dataclass(frozen=True, slots=True)
class BenchmarkScore:
    """One number of a tool."""

    task: str
    """The task, as the tool calls it."""
    metric: str
    value: float
    """In the tool's own unit."""
    stderr: float | None = None
    """Standard error, in the same unit; None where the tool gives none."""
    count: int | None = None
    """Examples that the number is a mean over; None where the tool does not say."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All numbers of one tool for one policy of a run."""

    tool: str
    module: str
    """The policy: a module's name, `base` or `routed`."""
    version: str | None
    """Of the tool; None where only its files were read."""
    scores: Sequence[BenchmarkScore]


SHAPE: dict[str, Any] = {
    "tool": str, "module": str, "version": str | None, "scores": list[BenchmarkScore],
}  # fmt: skip
"""Shape of a benchmark as JSON."""


def read_benchmarks(values: Any) -> list[Benchmark]:
    """Benchmarks from the JSON of a summary. Raises ValueError with what is wrong."""
    if fault := misfit(values, list[dict[str, Any]], "'benchmarks'"):
        raise ValueError(fault)
    return [_benchmark(value) for value in values]


def _benchmark(value: Mapping[str, Any]) -> Benchmark:
    for key, shape in SHAPE.items():
        if fault := misfit(value.get(key), shape, repr(key)):
            raise ValueError(f"'benchmarks': {fault}")
    scores = [BenchmarkScore(**score) for score in value["scores"]]
    return Benchmark(value["tool"], value["module"], value["version"], scores)


def with_benchmark(known: Sequence[Benchmark], found: Benchmark) -> list[Benchmark]:
    """The benchmarks of a run with another one added. The tool's earlier scores of the same policy
    on other tasks are kept."""
    tasks = {score.task for score in found.scores}
    others, scores = [], list(found.scores)
    for benchmark in known:
        if (benchmark.tool, benchmark.module) == (found.tool, found.module):
            scores = [*(s for s in benchmark.scores if s.task not in tasks), *scores]
        else:
            others.append(benchmark)
    return [*others, replace(found, scores=scores)]
