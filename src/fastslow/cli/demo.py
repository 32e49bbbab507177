"""`fastslow demo`: retention over several domains, and chasing against tuned learning rates."""

import os
import sys
from pathlib import Path
from typing import Any

import typer

from fastslow.cli.console import say, screen
from fastslow.cli.stopping import stoppable

NAMES = {
    "sequential": "sequential DPO",
    "sum": "sum (COFS-DPO)",
    "distilled": "student (default)",
    "routed": "routed, keeps all",
}


def demo(
    to: Path = typer.Option(Path("demo"), help="Output folder."),
    seed: int = typer.Option(0, min=0, help="Seed of the synthetic world."),
    workers: int = typer.Option(
        min(2, os.cpu_count() or 1), min=1, help="Trainings in parallel, one thread each if > 1."
    ),
    live: bool = typer.Option(
        False,
        "--live",
        help="Instead: a live server and its page, with voters, some of them malicious.",
    ),
    port: int = typer.Option(0, min=0, max=65535, help="With --live; 0 takes any free port."),
    stay: bool = typer.Option(
        None, help="With --live: keep the page open until Ctrl-C; by default on a terminal."
    ),
) -> None:
    """Learn three domains in sequence in several ways; race chasing against DPO at six rates."""
    if live:
        _live(to, seed, port, stay)
        return
    import time

    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.bench.demo import run_demo
    from fastslow.cli.progress import RunDisplay
    from fastslow.cli.task_progress import task_progress
    from fastslow.reports import write_report

    quiet_libraries()
    began = time.monotonic()
    console = screen(soft_wrap=True, highlight=False)
    with stoppable(), RunDisplay(brief=True) as display, task_progress() as progress:
        shown = run_demo(
            to, seed=seed, workers=workers, begin=display.say, listener=display.show,
            progress=progress,
        )  # fmt: skip
    for name in shown.folders:
        console.print(_retention(name, shown.ways[name]))
        console.print()
    console.print(_ends(shown.ways))
    for line in (*_parts(shown.ways), *_race(shown.race)):
        console.print(line)
    console.print()
    for sample in shown.samples:
        _show_sample(console, sample, shown.world)
    report = write_report([to], to / "report.html")
    console.print(f"\n{time.monotonic() - began:.0f} s. Retention, frontier and curves: {report}")


def _live(to: Path, seed: int, port: int, stay: bool | None) -> None:
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.cli.live_demo import live_demo

    quiet_libraries()
    stays = sys.stdout.isatty() if stay is None else stay
    live_demo(to, seed=seed, port=port, stay=stays, say=say)


def _retention(name: str, way: Any) -> Any:
    """True reward gained over the base on every domain, after each domain."""
    from rich.table import Table

    summary = way.summary
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


def _ends(ways: Any) -> Any:
    """All ways side by side, at the same KL and as they ended."""
    from rich.table import Table

    table = Table(
        "after all domains", "rate", "gain at 2 nats", "as it ended", "its KL", "forgetting",
        box=None, pad_edge=False,
    )  # fmt: skip
    for name, way in ways.items():
        has_run = name in ("sequential", "distilled")
        forgetting = way.summary.metrics["reward"]["forgetting"] if has_run else None
        table.add_row(
            NAMES[name],
            f"{way.rate:g}",
            f"{way.gain:+.2f}",
            f"{way.ended:+.2f}",
            f"{way.reverse_kl:.2f}",
            "" if forgetting is None else f"{forgetting:+.2f}",
        )
    return table


def _parts(ways: Any) -> list[str]:
    """What each part contributes."""
    gain = {name: way.gain for name, way in ways.items()}
    return [
        "",
        f"One student in place of the modules' sum: {gain['distilled'] - gain['sum']:+.2f}. "
        f"Keeping all modules instead: {gain['routed'] - gain['distilled']:+.2f}.",
    ]


def _race(race: Any) -> list[str]:
    """Loss above the best of six rates in hindsight, on a stream whose tastes change."""
    plain = {name.removeprefix("dpo-"): above for name, above in race.items() if name != "chase"}
    rates = sorted(plain, key=float)
    best = min(plain, key=lambda rate: plain[rate])
    each = ", ".join(f"{rate} {plain[rate]:+.0%}" for rate in rates)
    return [
        "Tastes that change, test-then-train loss above the best of six DPO rates, known only "
        f"afterwards ({best}):",
        f"  DPO at {each}",
        f"  chasing, started at 1e-2 without knowing: {race['chase']:+.1%}. "
        "Where the rate is known, chasing adds nothing.",
    ]


def _show_sample(console: Any, sample: Any, world: Any) -> None:
    from rich.text import Text

    likes = world.likes(sample["domain"])
    console.print(f"{sample['prompt']} ({sample['domain']} like: {', '.join(likes)})", style="bold")
    liked = {word.lower() for words in likes.values() for word in words}
    for label, answer in sample["answers"].items():
        marked = " ".join(
            f"*{word}*" if word.strip(".").lower() in liked else word for word in answer.split()
        )
        reward = f" ({sample['rewards'][label]:+.2f}): "
        console.print(Text.assemble("  ", (label, "cyan"), reward, marked))
