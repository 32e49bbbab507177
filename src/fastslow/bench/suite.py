"""Runs every method on every scenario and writes a record of each; resumes where it stopped.

out/
  scenarios/<name>/                 a world's files and base
  runs/<scenario>/<training>-<rate>/    training runs
  records/<scenario>/<method>-<rate>.json
"""

import itertools
import json
import multiprocessing
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.bench.measure import measure_method
from fastslow.bench.methods import METHODS
from fastslow.bench.scenario import Scenario
from fastslow.config import Recipe
from fastslow.errors import StateError
from fastslow.orphans import end_with_parent
from fastslow.training.loop.signals import StopSignals, StopToken
from fastslow.training.state.event_log import Listener, Progress
from fastslow.training.state.summary import ContinualSummary, RunSummary

OnSteps = Callable[[int], None]
STEPS_EVERY_S = 10.0


class StoppedError(StateError):
    """A signal stopped a run, which can resume."""


@dataclass(frozen=True, slots=True)
class Task:
    """One training on one scenario, and the methods that are measured on it."""

    scenario: Scenario
    training: str
    rate: float
    methods: tuple[str, ...]
    out: Path
    pairs: int
    """Training pairs of each domain."""
    retention: bool
    """Whether the policy is measured after each domain too."""

    @property
    def run(self) -> Path:
        """The training's run folder."""
        return self.out / "runs" / self.scenario.name / f"{self.training}-{self.rate:g}"

    def record(self, method: str) -> Path:
        """File of a method's record."""
        return self.out / "records" / self.scenario.name / f"{method}-{self.rate:g}.json"

    @property
    def done(self) -> bool:
        """Whether every record exists."""
        return all(self.record(method).exists() for method in self.methods)


def plan(
    scenarios: Iterable[Scenario],
    rates: Mapping[str, Sequence[float]],
    out: Path,
    *,
    pairs: int,
    retention: bool,
) -> list[Task]:
    """The tasks that measure each method at its rates on each scenario."""
    wanted: dict[tuple[str, float], list[str]] = {}
    for method, method_rates in rates.items():
        for rate in method_rates:
            wanted.setdefault((METHODS[method].training, rate), []).append(method)
    return [
        Task(scenario, training, rate, tuple(methods), out, pairs, retention)
        for scenario in scenarios
        for (training, rate), methods in wanted.items()
    ]


def run_task(task: Task) -> None:
    """Train, measure each method, write the records, and remove what only resuming needed."""
    recipe = task.scenario.recipe(
        task.training,
        task.rate,
        task.run,
        pairs=task.pairs,
        measure=task.retention,
    )
    finished(recipe)
    for method in task.methods:
        kept(task.record(method), partial(_record, task, method))
    for checkpoints in task.run.rglob("checkpoints"):
        shutil.rmtree(checkpoints)


def _record(task: Task, method: str) -> dict[str, Any]:
    facts = {"scenario": task.scenario.name, "method": method, "rate": task.rate}
    return facts | measure_method(task.scenario, METHODS[method], task.run)


def finished(recipe: Recipe, listener: Listener | None = None) -> RunSummary | ContinualSummary:
    """Train a run to its end. Raises StoppedError if a signal stopped it."""
    from fastslow.training import train

    summary = train(recipe, listener=listener or _count)
    if summary is None:
        raise StoppedError(f"the run in {recipe.output_dir} was stopped by a signal")
    return summary


def trained(recipe: Recipe, listener: Listener | None = None) -> RunSummary:
    """The same for an ordinary run."""
    summary = finished(recipe, listener)
    assert isinstance(summary, RunSummary)
    return summary


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record in a file; made and written first if the file does not exist."""
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    record = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")
    return record


def run_tasks(tasks: Sequence[Task], *, workers: int, progress: Progress) -> None:
    """Run the tasks not done yet, several in parallel; each worker computes on one thread."""
    waiting = [task for task in tasks if not task.done]
    done = len(tasks) - len(waiting)
    progress(done, len(tasks))
    for _ in in_parallel([partial(run_task, task) for task in waiting], workers=workers):
        done += 1
        progress(done, len(tasks))


def in_parallel(
    calls: Sequence[Callable[[], Any]], *, workers: int, on_steps: OnSteps = lambda steps: None
) -> Iterator[Any]:
    """The results of calls as they finish, from new processes of one thread each.

    With one worker the calls run here, on all threads. The first that fails stops the rest. Where
    one is stopped by a signal, or this process is interrupted, so are the trainings under way.
    `on_steps` is called now and then with the steps that all trainings have taken.
    """
    if workers == 1:
        taken = itertools.count(1)
        _process["step"] = lambda: on_steps(next(taken))
        try:
            for call in calls:
                yield call()
        finally:
            del _process["step"]
        return
    context = multiprocessing.get_context("spawn")
    stopped, steps = context.Event(), context.Value("q", 0)
    with ProcessPoolExecutor(workers, context, _one_thread, (stopped, steps)) as pool:
        with _signals_ignored():  # As a worker does until it has a call.
            pending = {pool.submit(_stoppable, call) for call in calls}
        try:
            while pending:
                done, pending = wait(pending, STEPS_EVERY_S, return_when=FIRST_COMPLETED)
                on_steps(steps.value)
                for future in done:
                    yield future.result()
        except (KeyboardInterrupt, StoppedError, GeneratorExit):
            stopped.set()  # For workers that start, and for calls that they have been sent.
            for worker in multiprocessing.active_children():
                worker.terminate()  # SIGTERM, at which a training writes a checkpoint.
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def gathered(
    calls: Sequence[Callable[[], Any]],
    *,
    workers: int,
    progress: Progress,
    on_steps: OnSteps = lambda steps: None,
) -> list[Any]:
    """The results of `in_parallel`, in the order they finish, with progress."""
    results: list[Any] = []
    progress(0, len(calls))
    for result in in_parallel(calls, workers=workers, on_steps=on_steps):
        results.append(result)
        progress(len(results), len(calls))
    return results


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM in the main thread, and in the processes that it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stoppable(call: Callable[[], Any]) -> Any:
    """Run a call in a worker. Raises StoppedError if a signal stops it."""
    try:
        with StopSignals(StopToken(), lambda name: None, at_once=True):
            if not _process["stopped"].is_set():
                return call()
    except KeyboardInterrupt:
        pass
    raise StoppedError("a training was stopped by a signal")


_process: dict[str, Any] = {}
"""Of this process: what to call at a step, and in a worker the event after which no calls run."""


def _count(event: Any) -> None:
    if event["event"] == "step" and "step" in _process:
        _process["step"]()


def _add_one(steps: Any) -> None:
    with steps.get_lock():
        steps.value += 1


def _one_thread(stopped: Any, steps: Any) -> None:
    import torch

    from fastslow.adapters.library_logging import quiet_libraries

    end_with_parent()
    _process.update(stopped=stopped, step=partial(_add_one, steps))
    torch.set_num_threads(1)
    quiet_libraries()


def read_records(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The records of finished tasks."""
    return [
        json.loads(task.record(method).read_text(encoding="utf-8"))
        for task in tasks
        for method in task.methods
    ]
