"""`fastslow demo`: forgetting, and how fast-slow modules reduce it, within minutes."""

from pathlib import Path
from typing import Any

import typer

from fastslow.cli.console import screen


def demo(
    to: Path = typer.Option(Path("demo"), help="Output folder."),
    seed: int = typer.Option(0, min=0, help="Seed of the synthetic world."),
) -> None:
    """Train on three domains in sequence, with sequential DPO and with fast-slow modules."""
    import time

    from rich.text import Text

    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.bench.demo import run_demo
    from fastslow.cli.progress import RunDisplay
    from fastslow.reports import write_report

    quiet_libraries()
    began = time.monotonic()
    console = screen(soft_wrap=True, highlight=False)
    with RunDisplay(brief=True) as display:
        shown = run_demo(to, seed=seed, begin=display.say, listener=display.show)
    for name, summary in shown.summaries.items():
        console.print(_retention(name, summary))
        console.print()
    console.print(_ends(shown))
    console.print()
    for sample in _one_per_domain(shown.samples):
        console.print(sample["prompt"], style="bold")
        for label, answer in sample["answers"].items():
            reward = f" ({sample['rewards'][label]:+.2f}): "
            console.print(Text.assemble("  ", (label, "cyan"), reward, answer))
    report = write_report([to / name for name in shown.summaries], to / "report.html")
    console.print(f"\n{time.monotonic() - began:.0f} s. Curves, frontier and samples: {report}")


def _retention(name: str, summary: Any) -> Any:
    """True reward gained over the base on every domain, after each domain."""
    from rich.table import Table

    table = Table(
        f"{name}: reward gained after",
        *(f"on {domain}" for domain in summary.measured),
        box=None,
        pad_edge=False,
    )
    for trained, row in zip(summary.domains, summary.after, strict=True):
        gains = zip(row, summary.initial, strict=True)
        table.add_row(
            trained, *(f"{policy['reward'] - base['reward']:+.2f}" for policy, base in gains)
        )
    return table


def _ends(shown: Any) -> Any:
    """The final policies side by side."""
    from statistics import fmean

    from rich.table import Table

    table = Table(
        "after all domains", "mean reward gained", "beats the base", "reverse KL", "forgetting",
        box=None, pad_edge=False,
    )  # fmt: skip
    rows = {name: summary.after[-1] for name, summary in shown.summaries.items()}
    rows["fastslow, routed"] = shown.routed
    initial = next(iter(shown.summaries.values())).initial
    for name, row in rows.items():
        gain = fmean(m["reward"] for m in row) - fmean(m["reward"] for m in initial)
        wins, kl = (fmean(m[key] for m in row) for key in ("win_rate", "reverse_kl"))
        summary = shown.summaries.get(name)
        forgetting = summary.metrics["reward"]["forgetting"] if summary else None
        table.add_row(
            name,
            f"{gain:+.2f}",
            f"{wins:.0%}",
            f"{kl:.2f}",
            "" if forgetting is None else f"{forgetting:+.2f}",
        )
    return table


def _one_per_domain(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first: dict[str, dict[str, Any]] = {}
    for sample in samples:
        first.setdefault(sample["domain"], sample)
    return list(first.values())
