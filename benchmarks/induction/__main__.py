"""`python -m benchmarks.induction OUT`: what each method finds on synthetic tasks.

Every seed has a model, pools of instructions and a task for each of eight operations. On each task
all methods run through `fastslow.optimise_prompt` at the same budget, in each of SETTINGS.
Interrupted benchmarks resume. `tasks.py` describes OUT.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.induction.language import OPERATIONS
from benchmarks.induction.tasks import METHODS, SETTINGS, Tasks
from fastslow.atomic_io import write_text
from fastslow.evaluation import bootstrap_interval
from fastslow.training.state.summary import versions

Record = Mapping[str, Any]
Task = tuple[int, str]
"""A seed and an operation."""
NUMBERS = ("validation", "test", "evaluations", "found_at")


def main() -> None:
    """Run the missing tasks and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    parser.add_argument("--results", type=Path, help="JSON to write; default OUT/induction.json")
    args = parser.parse_args()
    records: list[Record] = []
    for seed, setting in itertools.product(args.seeds, SETTINGS):
        tasks = Tasks(args.out, seed)
        tasks.write()
        for operation in OPERATIONS:
            summary = tasks.run(operation, setting)
            methods = {name: _kept(asdict(result)) for name, result in summary.methods.items()}
            task = {"setting": setting.name, "seed": seed, "task": operation}
            records.append({**task, "methods": methods})
            print(*task.values(), {k: v["test"] for k, v in methods.items()}, flush=True)
    rows = list(compared(records))
    text = f'{{"methods": {_lines(rows)}, "tasks": {_lines(records)}, "versions": '
    text += json.dumps(versions()) + "}\n"
    write_text(args.results or args.out / "induction.json", text)
    print(_lines(rows))


def compared(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """A row for each method of each setting: means over all tasks, and the difference to random
    search and the other methods at the same budget, on the test rows and on validation.

    The tasks of a seed share a model and a pool, so the intervals are over seeds.
    """
    by_method: dict[tuple[str, str], dict[Task, Any]] = {}
    for record in records:
        for method, result in record["methods"].items():
            results = by_method.setdefault((record["setting"], method), {})
            results[record["seed"], record["task"]] = result
    for (setting, method), results in by_method.items():
        budget = setting.split(",")[0]
        yield {
            "setting": setting,
            "method": method,
            "tasks": len(results),
            **{key: round(fmean(result[key] for result in results.values()), 4) for key in NUMBERS},
            "above": {
                other: {
                    key: _above(results, by_method[budget, other], key)
                    for key in ("validation", "test")
                }
                for other in METHODS
                if (budget, other) != (setting, method)
            },
        }


def _above(own: Mapping[Task, Any], others: Mapping[Task, Any], key: str) -> dict[str, Any]:
    """Mean difference over the tasks, with a 95 % bootstrap interval over the seeds' means."""
    by_seed: dict[int, list[float]] = {}
    for (seed, task), result in own.items():
        by_seed.setdefault(seed, []).append(result[key] - others[seed, task][key])
    means = [fmean(differences) for differences in by_seed.values()]
    low, high = bootstrap_interval(means)
    return {"mean": round(fmean(means), 4), "interval": (round(low, 4), round(high, 4))}


def _lines(rows: Sequence[Record]) -> str:
    """JSON with one row per line."""
    return "[" + ",\n ".join(map(json.dumps, rows)) + "]"


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "candidates"}


if __name__ == "__main__":
    main()
