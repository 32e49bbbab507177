"""`python -m benchmarks.budget.table OUT RESULTS`: writes RESULTS.json and RESULTS.md."""

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
"""A policy counts as over its limit if its KL on answers other than those it was scaled on is more
than this many times the limit."""
AT = (0.4, 1.0, 1.5)
"""Nats per answer at which the final policies of different rates are compared."""

NEEDED = ("reward", "reverse_kl")
"""Measurements of a frontier that are kept."""

Record = Mapping[str, Any]


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--earlier", type=Path, help="results of other worlds to add")
    args = parser.parse_args()
    earlier = json.loads(args.earlier.read_text())["runs"] if args.earlier else []
    runs = [*earlier, *_runs(args.out)]
    rows = list(_rows(runs))
    results = {"settings": rows, "runs": runs, "versions": versions()}
    text = json.dumps(results, indent=1) + "\n"
    write_text(args.results.with_suffix(".json"), text)
    write_text(args.results.with_suffix(".md"), as_markdown(rows))


def _runs(out: Path) -> Iterator[dict[str, Any]]:
    """The record and the frontier of each finished run."""
    for path in sorted(out.glob("frontiers/*/*.json")):
        setting = path.parent.name
        record = json.loads((out / "records" / setting / path.name).read_text())
        points = [
            {
                **point,
                "domains": [{key: domain[key] for key in NEEDED} for domain in point["domains"]],
            }
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
    """Summary of the runs at one rate."""
    domains = [domain for record in records for domain in record["domains"].values()]
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
    """The final policy, averaged over all domains."""
    measured = record["final"].values()
    means = {key: fmean(result[key] for result in measured) for key in ("gain", "reverse_kl")}
    return {**means, "budget": record["budget"]}


def _kept(record: Record) -> float:
    """The final policy's gain divided by what each domain's own module gained when it was new."""
    last = [record["final"][name]["gain"] for name in record["domains"]]
    return fmean(last) / fmean(domain["gain"] for domain in record["domains"].values())


def _policies(found: Sequence[Record]) -> dict[str, Any]:
    limited = [policy for policy in found if policy["budget"]]
    return {
        "policies": len(found),
        "below_base": sum(policy["gain"] < 0 for policy in found),
        "gain": interval([policy["gain"] for policy in found]),
        "worst_gain": min(policy["gain"] for policy in found),
        "reverse_kl": fmean(policy["reverse_kl"] for policy in found),
        "largest_kl": max(policy["reverse_kl"] for policy in found),
        "scaled_down": sum(policy["budget"]["strength"] < 1 for policy in limited),
        "over": sum(policy["reverse_kl"] > OVER * policy["budget"]["limit"] for policy in limited),
        "largest_share": max(
            (policy["reverse_kl"] / policy["budget"]["limit"] for policy in limited), default=None
        ),
    }


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Two tables: the domains' own policies, and the final ones."""
    head = "| setting | rate | policies | below the base | gain | worst | KL | largest |"
    head += " scaled down | over 1.15 times the limit |"
    parts = []
    for whose, kls in (("domains", ()), ("final", AT)):
        names = "".join(f" gain at {kl:g} nats |" for kl in kls)
        names += " kept of the modules' gain |" if kls else ""
        lines = [f"{head}{names}", "|" + "---|" * (10 + len(kls) + bool(kls))]
        for row in rows:
            summary = row[whose]
            cells = [row["setting"], f"{row['rate']:g}", summary["policies"], summary["below_base"]]
            cells += [shown(summary["gain"]), f"{summary['worst_gain']:+.2f}"]
            cells += [f"{summary['reverse_kl']:.2f}", f"{summary['largest_kl']:.2f}"]
            cells += [summary["scaled_down"], summary["over"]]
            cells += [shown(row[f"gain@{kl:g}"]) for kl in kls]
            cells += [shown(row["kept"])] if kls else []
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
