"""`python -m benchmarks.live.clean OUT`: how often does the gate quarantine clean updates?

In each world and at each learning rate people with its taste vote on answers of the policy served
at the time, and every 64 votes make an update. All are clean, so every update that the gate
quarantines or leaves to a person is a false alarm; an admin approves the waiting ones.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from benchmarks.live.course import begun, lived
from fastslow.atomic_io import write_text
from fastslow.bench.suite import gathered, kept
from fastslow.feedback import holding
from fastslow.live.gate.gate import QUARANTINED, WAITS
from fastslow.streams.worlds import World
from fastslow.training.state.summary import versions

RATES = (1e-3, 3e-3, 1e-2)


def main() -> None:
    """Run the missing trials and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--votes", type=int, default=1008)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    calls = [
        partial(_trial, args.out, seed, rate, args.votes)
        for seed in args.seeds
        for rate in args.rates
    ]
    trials = gathered(calls, workers=args.workers, progress=lambda done, of: None)
    result = summed(trials)
    print(json.dumps(result, indent=1))
    if args.results:
        facts = {**result, "trials": trials, "versions": versions()}
        write_text(args.results, json.dumps(facts, indent=1) + "\n")


def summed(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts over all trials: updates, those quarantined and those left to a person, with exact
    95 % intervals (Clopper-Pearson), the checks they failed, and held-back rows."""
    looks = [look for trial in trials for look in trial["course"]]
    verdicts = Counter(verdict for look in looks for verdict in look["updates"])
    failed = Counter(name for look in looks for names in look["failed"] for name in names)
    return {
        "updates": verdicts.total(),
        "set_aside": _share(verdicts[QUARANTINED], verdicts.total()),
        "left_to_a_person": _share(verdicts[WAITS], verdicts.total()),
        "failed": dict(failed),
        "held_back": sum(trial["held_back"] for trial in trials),
        "suspects": sorted({suspect for look in looks for suspect in _flat(look["suspects"])}),
    }


def _share(count: int, of: int) -> dict[str, Any]:
    interval = binomtest(count, of).proportion_ci(method="exact")
    return {"count": count, "share": count / of, "interval": [interval.low, interval.high]}


def _flat(nested: Iterable[Iterable[str]]) -> list[str]:
    return [item for items in nested for item in items]


def _trial(out: Path, seed: int, rate: float, votes: int) -> dict[str, Any]:
    name = f"{seed}-{rate:g}"
    call = partial(_measured, out / name, seed, rate, votes)
    return kept(out / f"{name}.json", call)


def _measured(run: Path, seed: int, rate: float, votes: int) -> dict[str, Any]:
    _, crowd, live = begun(run, World(seed, num_domains=1), rate)
    course = lived(crowd, live, votes)
    with crowd.store.read() as connection:
        held_back = sum(entry.rows for entry in holding.held_in(connection, crowd.domain))
    crowd.store.close()
    return {"seed": seed, "rate": rate, "held_back": held_back, "course": course}


if __name__ == "__main__":
    main()
