"""`python -m benchmarks.induction OUT`: what each method finds on tasks for a model made here.

Every seed has a model, a pool of 500 instructions and a task for each of eight operations; on each
all methods run through `fastslow.optimise_prompt` at the same budget. Interrupted, it resumes;
`tasks.py` says what is in OUT.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.induction.language import OPERATIONS
from benchmarks.induction.tasks import METHODS, Sizes, Tasks
from fastslow.atomic_io import write_text
from fastslow.evaluation import bootstrap_interval
from fastslow.training.state.summary import versions

Record = Mapping[str, Any]


def main() -> None:
    """Run what is not done yet, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--results", type=Path, help="JSON to write; default OUT/induction.json")
    args = parser.parse_args()
    records: list[Record] = []
    for seed in args.seeds:
        tasks = Tasks(args.out, seed, Sizes())
        tasks.write()
        for operation in OPERATIONS:
            summary = tasks.run(operation)
            methods = {name: _kept(asdict(own)) for name, own in summary.methods.items()}
            records.append({"seed": seed, "task": operation, "methods": methods})
            print(seed, operation, {k: round(v["test"], 3) for k, v in methods.items()}, flush=True)
    rows = list(compared(records))
    found = {"methods": rows, "tasks": records, "versions": versions()}
    write_text(args.results or args.out / "induction.json", json.dumps(found, indent=1) + "\n")
    print("\n".join(map(json.dumps, rows)))


def compared(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """A row for each method: means over all tasks, and how far ZOPO is above it.

    The tasks of a seed share a model and a pool, so the interval is over the seeds.
    """
    for method in METHODS:
        own = [record["methods"][method] for record in records]
        above: dict[int, list[float]] = {}
        for record in records:
            ahead = record["methods"]["zopo"]["test"] - record["methods"][method]["test"]
            above.setdefault(record["seed"], []).append(ahead)
        means = [fmean(of_seed) for of_seed in above.values()]
        yield {
            "method": method,
            **{key: fmean(one[key] for one in own) for key in own[0] if key != "instruction"},
            "zopo_above": fmean(means),
            "zopo_above_interval": bootstrap_interval(means),
        }


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "candidates"}


if __name__ == "__main__":
    main()
