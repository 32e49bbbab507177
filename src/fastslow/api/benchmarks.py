"""A run evaluated by a tool of others; what it found goes into the run's summary."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fastslow.api.run import Run
from fastslow.api.view import llm_judge
from fastslow.errors import StateError
from fastslow.evaluation import Benchmark, read_benchmarks, with_benchmark
from fastslow.harnesses import (
    EvaluationRequest,
    ToolEvaluation,
    harness_named,
    read_evaluation,
    run_harness,
)
from fastslow.training.export.open_run import read_run
from fastslow.training.state.summary import ContinualSummary, RunSummary


def evaluate_with(
    run: Run | str | Path,
    tool: str,
    *,
    module: str = "leader",
    data: Any = None,
    limit: int | None = None,
    judge: Any = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    seed: int | None = None,
    arguments: Sequence[str] = (),
    python: str | None = None,
    read: bool = False,
) -> ToolEvaluation:
    """Evaluate a policy with a tool of others: docs/evaluation.md says what each needs.

    Its files are written to `benchmarks` in the run folder, it is called where it is installed,
    and what it found goes into `summary.benchmarks`.

    Args:
        run: a finished run, or its folder.
        tool: `lm-eval`, `alpaca-eval`, `mt-bench`, `arena-hard` or `rewardbench`.
        module: as of `Run.generate`.
        data: pairs as of `Run.evaluate`, or the file of the benchmark's questions.
        limit: use the first so many of them.
        judge: a mapping with `kind: llm`, `url` and `model`, where the tool asks one.
        max_new_tokens: longest answer, tokens.
        temperature: of the answers.
        seed: of the answers.
        arguments: handed on to the tool's own command.
        python: the Python of the environment that the tool is installed in; None takes this
            one.
        read: only read what the tool has left there, where it was called by hand.

    Returns the folder, the result, and what is left to do by hand. Raises ConfigError,
    DataError or StateError, also where the run is not finished.
    """
    opened = run if isinstance(run, Run) else Run.load(run)
    _, summary = read_run(opened.folder, trust_code=False)
    harness = harness_named(tool)
    if read:
        found = read_evaluation(harness, opened, module)
    else:
        asked = EvaluationRequest(
            module=module,
            data=data,
            limit=limit,
            judge=None if judge is None else llm_judge(judge),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            arguments=tuple(arguments),
        )
        found = run_harness(harness, opened, asked, python=python)
    if found.result is not None:
        _keep(opened, summary, found.result)
    return found


def _keep(run: Run, summary: RunSummary | ContinualSummary, found: Benchmark) -> None:
    """Put what a tool found into the run's summary."""
    path = run.folder / "summary.json"
    try:
        known = read_benchmarks(summary.benchmarks)
    except ValueError as error:
        raise StateError(f"{path} is damaged: {error}; restore it") from None
    benchmarks = [asdict(one) for one in with_benchmark(known, found)]
    run.summary = replace(summary, benchmarks=benchmarks)
    run.summary.write(path)
