"""`python -m benchmarks.budget OUT`: six domains per world at each learning rate.

Interrupted benchmarks resume. `tasks.py` describes OUT.
"""

import argparse
from functools import partial
from pathlib import Path

from benchmarks.budget.tasks import Task, run
from fastslow.bench.suite import gathered


def main() -> None:
    """Run the missing tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    parser.add_argument("--domains", type=int, default=6)
    parser.add_argument("--set", nargs="*", default=[], help="settings, as key=value")
    parser.add_argument("--final", help="another way to combine the modules at the end")
    parser.add_argument("--name", default="default", help="name of this setting")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    tasks = [
        Task(args.out, seed, rate, args.domains, args.name, args.final, tuple(args.set))
        for seed in args.seeds
        for rate in args.rates
    ]
    # Worlds first: several runs share each.
    worlds = {task.seed: task.scenario for task in tasks}
    gathered([*worlds.values()], workers=args.workers, progress=partial(_tell, "worlds"))
    calls = [partial(run, task) for task in tasks]
    gathered(calls, workers=args.workers, progress=partial(_tell, "runs"))


def _tell(what: str, done: int, of: int) -> None:
    print(f"{what}: {done}/{of}", flush=True)


if __name__ == "__main__":
    main()
