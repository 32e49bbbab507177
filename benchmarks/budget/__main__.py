"""`python -m benchmarks.budget OUT`: six domains a world at each rate, every policy that results.

Interrupted, it resumes; `tasks.py` says what is in OUT.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks.budget.tasks import Task, run
from fastslow.bench.suite import gathered


def main() -> None:
    """Run what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--domains", type=int, default=6)
    parser.add_argument("--set", nargs="*", default=[], help="settings, as key=value")
    parser.add_argument("--final", help="how the modules are combined again at the end")
    parser.add_argument("--name", default="default", help="of this setting")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    tasks = [
        Task(args.out, seed, rate, args.domains, args.name, args.final, tuple(args.set))
        for seed in args.seeds
        for rate in args.rates
    ]
    # The worlds first, as several runs share each.
    worlds = {task.seed: task.scenario for task in tasks}
    gathered([*worlds.values()], workers=args.workers, progress=partial(_tell, "worlds"))
    calls = [partial(run, task) for task in tasks]
    gathered(calls, workers=args.workers, progress=partial(_tell, "runs"))


def _tell(what: str, done: int, of: int) -> None:
    print(f"{what}: {done}/{of}", flush=True)


if __name__ == "__main__":
    main()
