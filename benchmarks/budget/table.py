"""`python -m benchmarks.budget.table OUT RESULTS`: what was measured, as RESULTS.json and .md."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.bench.table import gain_at_kl, interval, shown
from fastslow.training.state.summary import versions

OVER = 1.15
"""Times its limit that a policy's KL may measure by other answers than those it was scaled on."""
AT = (0.4, 1.0, 1.5)
"""Nats per answer at which the last policies of different rates are compared."""

NEEDED = ("reward", "reverse_kl")
"""What is kept of a frontier's measurements."""

Record = Mapping[str, Any]


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--earlier", type=Path, help="results of other worlds, to be added")
    args = parser.parse_args()
    earlier = json.loads(args.earlier.read_text())["runs"] if args.earlier else []
    runs = [*earlier, *_runs(args.out)]
    rows = list(_rows(runs))
    found = {"settings": rows, "runs": runs, "versions": versions()}
    text = json.dumps(found, indent=1) + "\n"
    write_text(args.results.with_suffix(".json"), text)
    write_text(args.results.with_suffix(".md"), as_markdown(rows))


def _runs(out: Path) -> Iterator[dict[str, Any]]:
    """The record and the frontier of each run that is done."""
    for path in sorted(out.glob("frontiers/*/*.json")):
        setting = path.parent.name
        record = json.loads((out / "records" / setting / path.name).read_text())
        points = [
            {**point, "domains": [{key: one[key] for key in NEEDED} for one in point["domains"]]}
            for point in json.loads(path.read_text())["points"]
        ]
        yield {"setting": setting, **record, "points": points}


def _rows(runs: Sequence[Record]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, float], list[Record]] = {}
    for run in runs:
        groups.setdefault((run["setting"], run["rate"]), []).append(run)
    for setting, rate in sorted(groups):
        yield {"setting": setting, "rate": rate, **_row(groups[setting, rate])}


def _row(records: Sequence[Record]) -> dict[str, Any]:
    """Of the runs at one rate."""
    domains = [one for record in records for one in record["domains"].values()]
    finals = [_final(record) for record in records]
    row: dict[str, Any] = {
        "worlds": [record["seed"] for record in records],
        "wall_s": median(record["wall_s"] for record in records),
        "domains": _policies(domains),
        "final": _policies(finals),
        "kept": interval([_kept(record) for record in records]),
    }
    for kl in AT:
        gains = [gain_at_kl(record, "reward", kl) for record in records]
        row[f"gain@{kl:g}"] = interval(gains)
    return row


def _final(record: Record) -> dict[str, Any]:
    """The last policy over all domains."""
    measured = record["final"].values()
    means = {key: fmean(one[key] for one in measured) for key in ("gain", "reverse_kl")}
    return {**means, "budget": record["budget"]}


def _kept(record: Record) -> float:
    """What the last policy gains over what each domain's own module gained when it was new."""
    last = [record["final"][name]["gain"] for name in record["domains"]]
    return fmean(last) / fmean(one["gain"] for one in record["domains"].values())


def _policies(found: Sequence[Record]) -> dict[str, Any]:
    limited = [one for one in found if one["budget"]]
    return {
        "policies": len(found),
        "below_base": sum(one["gain"] < 0 for one in found),
        "gain": interval([one["gain"] for one in found]),
        "worst_gain": min(one["gain"] for one in found),
        "reverse_kl": fmean(one["reverse_kl"] for one in found),
        "largest_kl": max(one["reverse_kl"] for one in found),
        "scaled_down": sum(one["budget"]["strength"] < 1 for one in limited),
        "over": sum(one["reverse_kl"] > OVER * one["budget"]["limit"] for one in limited),
        "largest_share": max(
            (one["reverse_kl"] / one["budget"]["limit"] for one in limited), default=None
        ),
    }


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Two tables to read: of the domains' own policies, and of the last ones."""
    head = "| setting | rate | policies | below the base | gain | worst | KL | largest |"
    head += " scaled down | over 1.15 times the limit |"
    parts = []
    for whose, more in (("domains", ()), ("final", AT)):
        names = "".join(f" gain at {kl:g} nats |" for kl in more)
        names += " kept of the modules' gain |" if more else ""
        lines = [f"{head}{names}", "|" + "---|" * (10 + len(more) + bool(more))]
        for row in rows:
            own = row[whose]
            cells = [row["setting"], f"{row['rate']:g}", own["policies"], own["below_base"]]
            cells += [shown(own["gain"]), f"{own['worst_gain']:+.2f}"]
            cells += [f"{own['reverse_kl']:.2f}", f"{own['largest_kl']:.2f}"]
            cells += [own["scaled_down"], own["over"]]
            cells += [shown(row[f"gain@{kl:g}"]) for kl in more]
            cells += [shown(row["kept"])] if more else []
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
