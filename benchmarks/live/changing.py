"""Options and trials shared by benchmarks in which people's taste changes."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.bench.suite import gathered
from fastslow.training.state.summary import versions

PHASES = 4
"""Number of successive tastes."""


def options_of_phases(doc: str | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--votes", type=int, default=2000, help="votes over all phases")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, help="JSON file to write")
    return parser.parse_args()


def run_trials(calls: Sequence[Callable[[], dict[str, Any]]], args: argparse.Namespace) -> None:
    """Run the missing trials and print the results, without the course of each."""
    results = gathered(calls, workers=args.workers, progress=lambda done, of: None)
    for result in results:
        print(json.dumps({key: value for key, value in result.items() if key != "course"}))
    if args.results:
        text = json.dumps({"trials": results, "versions": versions()}, indent=1) + "\n"
        write_text(args.results, text)
