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
AT = (1.0, 1.5)
"""Nats per answer at which the last policies of different rates are compared."""

Record = Mapping[str, Any]


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("results", type=Path)
    args = parser.parse_args()
    rows = list(_rows(args.out))
    text = json.dumps({"settings": rows, "versions": versions()}, indent=1) + "\n"
    write_text(args.results.with_suffix(".json"), text)
    write_text(args.results.with_suffix(".md"), as_markdown(rows))


def _rows(out: Path) -> Iterator[dict[str, Any]]:
    for setting in sorted(path.name for path in (out / "records").iterdir()):
        records: dict[float, list[Record]] = {}
        for path in sorted((out / "records" / setting).iterdir()):
            frontier = json.loads((out / "frontiers" / setting / path.name).read_text())
            record = json.loads(path.read_text()) | frontier
            records.setdefault(record["rate"], []).append(record)
        for rate in sorted(records):
            yield {"setting": setting, "rate": rate, **_row(records[rate])}


def _row(records: Sequence[Record]) -> dict[str, Any]:
    """Of the runs at one rate."""
    domains = [one for record in records for one in record["domains"].values()]
    finals = [_final(record) for record in records]
    row: dict[str, Any] = {
        "worlds": [record["seed"] for record in records],
        "wall_s": median(record["wall_s"] for record in records),
        "domains": _policies(domains),
        "final": _policies(finals),
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
        lines = [f"{head}{names}", "|" + "---|" * (10 + len(more))]
        for row in rows:
            own = row[whose]
            cells = [row["setting"], f"{row['rate']:g}", own["policies"], own["below_base"]]
            cells += [shown(own["gain"]), f"{own['worst_gain']:+.2f}"]
            cells += [f"{own['reverse_kl']:.2f}", f"{own['largest_kl']:.2f}"]
            cells += [own["scaled_down"], own["over"]]
            cells += [shown(row[f"gain@{kl:g}"]) for kl in more]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
