"""The results in a few lines."""

from typing import Any

GB = 1e9
COLUMNS = ("ms", "ms learning", "ms, first", "ms learning, first")
"""Of attention."""


def table(results: dict[str, Any]) -> str:
    """Markdown; a part that failed or was left out says so in its place."""
    machine = results["machine"]
    peak = machine["peak of a square product"]
    lines = [f"{machine['device']}, {peak / 1e12:.0f} TFLOP/s in a large product", ""]
    for name, found in results.items():
        make = next((make for part, make in TABLES.items() if name.startswith(part)), None)
        if make is not None:
            lines += [f"{name}", ""]
            lines += [found] if isinstance(found, str) else make(found, peak)
            lines.append("")
    return "\n".join(lines)


def _correct(found: dict[str, Any], peak: float) -> list[str]:
    columns = list(next(iter(found.values())))
    rows = [[name, *(f"{row[key]:.2g}" for key in columns)] for name, row in found.items()]
    return _rows(["nats from float64", *columns], rows)


def _speed(found: dict[str, Any], peak: float) -> list[str]:
    setting = found["setting"]
    tokens = setting["prompt_tokens"] + 2 * setting["response_tokens"]
    columns = ["system", "pairs/s", "tokens/s", "times TRL", "from, to", "peak GB", "times TRL's",
               "of the shape's peak", "of the large product's"]  # fmt: skip
    rows = []
    for name, row in found["systems"].items():
        ratio = row.get("speed_ratio", {"median": 0, "least": 0, "most": 0})
        share = row["share_of_peak"]
        rows.append(
            [
                name,
                f"{row['pairs_per_s']:.1f}",
                f"{tokens * row['pairs_per_s']:.0f}",
                f"{ratio['median']:.2f}",
                f"{ratio['least']:.2f}, {ratio['most']:.2f}",
                f"{row['peak_bytes'] / GB:.1f}",
                f"{row.get('memory_ratio', 0):.2f}",
                f"{share:.0%}",
                f"{share * found['matmul_peak'] / peak:.0%}",
            ]
        )
    said = f"{setting['prompt_tokens']:.0f} + 2 x {setting['response_tokens']:.0f} tokens a pair"
    return [said, "", *_rows(columns, rows)]


def _step(found: dict[str, Any], peak: float) -> list[str]:
    kinds = [[kind, f"{took:.2f}"] for kind, took in found["kinds ms"].items()]
    said = (
        f"a step takes {found['step ms']:.1f} ms, the device is busy for {found['busy ms']:.1f}, "
        f"{found['kernels']:.0f} kernels, {found['waits']:.0f} waits"
    )
    return [said, "", *_rows(["kernels", "ms"], kinds)]


def _memory(found: dict[str, Any], peak: float) -> list[str]:
    columns = ["foreseen", "peak", "used"]
    rows = [
        [name, *(f"{(row.get(key) or 0) / GB:.2f}" for key in columns), f"{row['step ms']:.0f}"]
        for name, row in found.items()
    ]
    return _rows(["run", "foreseen GB", "held GB", "used GB", "step ms"], rows)


def _attention(found: dict[str, Any], peak: float) -> list[str]:
    def cell(value: float | str) -> str:
        return value[:40] if isinstance(value, str) else f"{value:.2f}"

    rows = [
        [f"{part}: {name}", *(cell(row.get(key, "")) for key in COLUMNS)]
        for part in ("passes", "one layer")
        for name, row in found[part].items()
    ]
    said = f"{found['tokens']} tokens, ragged differs by {found['ragged']}"
    return [said, "", *_rows(["sizes", *COLUMNS], rows)]


def _rows(columns: list[str], rows: list[list[str]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return head + [f"| {' | '.join(cells)} |" for cells in rows]


TABLES = {
    "correct": _correct,
    "speed": _speed,
    "step": _step,
    "memory": _memory,
    "attention": _attention,
}
