"""`python -m benchmarks.live OUT`: how good is a policy learned from votes as they come?

In each world people with its taste vote on two answers of the policy served at the time, and every
64 votes make an update. Then a run trains on the same votes offline, from the base, with the best
number of passes, and both are compared at the same reverse KL.
"""

import argparse
import json
from pathlib import Path

from benchmarks.live.trial import Trial
from fastslow.atomic_io import write_text
from fastslow.bench.suite import gathered
from fastslow.training.state.summary import versions


def main() -> None:
    """Run the missing trials and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--votes", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    calls = [Trial(args.out / f"{seed}", seed, args.votes, args.rate) for seed in args.seeds]
    results = gathered(calls, workers=args.workers, progress=lambda done, of: None)
    for result in results:
        print(json.dumps({key: value for key, value in result.items() if key != "course"}))
    if args.results:
        text = json.dumps({"worlds": results, "versions": versions()}, indent=1) + "\n"
        write_text(args.results, text)


if __name__ == "__main__":
    main()
