"""The results as Markdown tables."""

from collections.abc import Mapping, Sequence
from typing import Any

GIB = 2**30
COLUMNS = ("ms", "ms learning", "ms, first", "ms learning, first")
"""Columns for attention."""
ENDINGS = ("failed", "stopped", "skipped")


def table(results: Mapping[str, Any]) -> str:
    """Markdown; a part that failed or was skipped says so in its place."""
    lines = []
    for name, result in results.items():
        lines += [f"{name}", ""]
        if result.keys() - set(ENDINGS):
            lines += TABLES[name.split()[0]](result)
        lines += [f"{ending}: {result[ending]}" for ending in ENDINGS if ending in result]
        lines.append("")
    return "\n".join(lines)


def _machine(results: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    vendor = f"{results['peak'] / 1e12:.0f} by its maker" if results["peak"] else "not known"
    square = results["peak of a square product"] / 1e12
    device = f"{results['device']}, {results['precision']}"
    return [
        f"{device}: {square:.3g} TFLOP/s in a large product, {vendor}",
        f"python {results['python']}, {versions}",
    ]


def _correct(results: dict[str, Any]) -> list[str]:
    columns = list(next(iter(results.values())))
    rows = [[name, *(f"{row[key]:.2g}" for key in columns)] for name, row in results.items()]
    return _rows(["nats from float64", *columns], rows)


def _tests(results: dict[str, Any]) -> list[str]:
    return [", ".join(f"{number} {kind}" for kind, number in results["counts"].items())]


def _speed(results: dict[str, Any]) -> list[str]:
    setting = results["setting"]
    columns = ["system", "pairs/s", "tokens/s", "times TRL", "from, to", "peak GiB",
               "estimated GiB", "times TRL's", "MFU", "of the shape's peak"]  # fmt: skip
    rows = [[name, *_speed_cells(row)] for name, row in results["systems"].items()]
    summary = (
        f"{setting['batch_size']} pairs of {setting['prompt_tokens']:.0f} + 2 x "
        f"{setting['response_tokens']:.0f} tokens in a step"
    )
    systems = results["systems"].items()
    notes = [
        f"{name}: {row[key]}"
        for name, row in systems
        for key in ("options", "notes", "failed")
        if row.get(key)
    ]
    return [summary, "", *_rows(columns, rows), "", *notes]


def _speed_cells(row: dict[str, Any]) -> list[str]:
    if "pairs_per_s" not in row:
        return [row["failed"], *[""] * 8]
    ratio = row.get("speed_ratio")
    estimated = row.get("estimated_bytes")
    return [
        f"{row['pairs_per_s']:.2f}",
        f"{row['tokens_per_s']:.0f}",
        f"{ratio['median']:.2f}" if ratio else "",
        f"{ratio['least']:.2f}, {ratio['most']:.2f}" if ratio else "",
        f"{row['peak_bytes'] / GIB:.2f}",
        f"{estimated / GIB:.2f}" if estimated else "",
        f"{row['memory_ratio']:.2f}" if ratio else "",
        f"{row['mfu']:.1%}" if row["mfu"] else "",
        f"{row['share_of_peak']:.1%}",
    ]


def _generation(results: dict[str, Any]) -> list[str]:
    summary = (
        f"{results['prompts']} prompts x {results['answers']} answers "
        f"of {results['new tokens']} tokens"
    )
    rows = [[name, f"{pace:.0f}"] for name, pace in results["tokens per s"].items()]
    return [summary, "", *_rows(["", "tokens/s"], rows)]


def _profile(results: dict[str, Any]) -> list[str]:
    kinds = [[kind, f"{took:.2f}"] for kind, took in results["kinds ms"].items()]
    summary = (
        f"a step takes {results['step ms']:.1f} ms, "
        f"the device is busy for {results['busy ms']:.1f}, "
        f"{results['kernels']:.0f} kernels, {results['waits']:.0f} waits; {results['trace']}"
    )
    return [summary, "", *_rows(["kernels", "ms"], kinds)]


def _memory(results: dict[str, Any]) -> list[str]:
    columns = ["estimated", "peak", "used"]
    cases = {name: row for name, row in results.items() if isinstance(row, dict)}
    rows = [
        [name, row["failed"], "", "", ""]
        if "failed" in row
        else [
            name,
            *(f"{(row.get(key) or 0) / GIB:.2f}" for key in columns),
            f"{row['step ms']:.0f}",
        ]
        for name, row in cases.items()
    ]
    return _rows(["run", "estimated GiB", "held GiB", "used GiB", "step ms"], rows)


def _attention(results: dict[str, Any]) -> list[str]:
    def cell(value: float | str) -> str:
        return value[:40] if isinstance(value, str) else f"{value:.2f}"

    rows = [
        [f"{part}: {name}", *(cell(row.get(key, "")) for key in COLUMNS)]
        for part in ("passes", "one layer")
        for name, row in results[part].items()
    ]
    summary = f"{results['tokens']} tokens, ragged differs by {results['ragged']}"
    return [summary, "", *_rows(["sizes", *COLUMNS], rows)]


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return head + [f"| {' | '.join(cells)} |" for cells in rows]


TABLES = {
    "machine": _machine,
    "correct": _correct,
    "tests": _tests,
    "speed": _speed,
    "generation": _generation,
    "profile": _profile,
    "memory": _memory,
    "attention": _attention,
}
