"""`python -m benchmarks.live.drift OUT`: people's taste changes while the model learns from them.

The default, fast-slow chasing with two modules, against one module at each of several learning
rates. The score is the mean true reward of all answers people were shown, from the first vote to
the last. An admin approves every update that waits because its votes are a surprise.
"""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.live.changing import PHASES, options_of_phases, run_trials
from benchmarks.live.course import begun, lived
from fastslow.bench.suite import kept
from fastslow.streams.worlds import World

CHASE = "chase"
OF_CHASE = 1e-2
"""Learning rate of the fast module; the slow one has 0.3 times that."""
RATES = (1e-3, 3e-3, 1e-2)


def main() -> None:
    """Run the missing trials and print the results."""
    args = options_of_phases(__doc__)
    names = (CHASE, *(f"one at {rate:g}" for rate in RATES))
    calls = [
        partial(_trial, args.out, seed, name, rate, args.votes)
        for seed in args.seeds
        for name, rate in zip(names, (OF_CHASE, *RATES), strict=True)
    ]
    run_trials(calls, args)


def _trial(out: Path, seed: int, name: str, rate: float, votes: int) -> dict[str, Any]:
    run = out / f"{seed}-{name.replace(' ', '-')}"
    call = partial(_measured, run, seed, name, rate, votes)
    return kept(run.with_name(run.name + ".json"), call)


def _measured(run: Path, seed: int, name: str, rate: float, votes: int) -> dict[str, Any]:
    world = World(seed, num_domains=1)
    alone = {} if name == CHASE else {"chase": None}
    _, crowd, live = begun(run, world, rate, **alone)
    phases = []
    for phase in range(PHASES):
        crowd.world = replace(world, phase=phase)
        phases.append(lived(crowd, live, votes // PHASES))
    crowd.store.close()
    rewards = [fmean(look["reward"] for look in course) for course in phases]
    ends = [course[-1]["reward"] for course in phases]
    course = [look for looks in phases for look in looks]
    verdicts = Counter(verdict for look in course for verdict in look["updates"])
    facts = {"seed": seed, "name": name, "rate": rate, "reward": fmean(rewards)}
    return {**facts, "phases": rewards, "ends": ends, "updates": dict(verdicts), "course": course}


if __name__ == "__main__":
    main()
