"""`fastslow world`: a small world with a known reward, as files to train and measure on."""

from pathlib import Path

import typer

from fastslow.cli.console import tell
from fastslow.cli.task_progress import task_progress


def world(
    to: Path = typer.Argument(metavar="DIR", help="Folder to write; it must not exist."),
    seed: int = typer.Option(0, min=0, help="Seed of the world; each gives another one."),
    domains: int = typer.Option(3, help="Number of domains, from 1 to 6."),
    conflict: float = typer.Option(
        0.5, help="Share of what a domain values on which the domains oppose each other, 0 to 1."
    ),
    sharpness: float = typer.Option(
        2.0, help="Log-odds per unit of reward that the better answer is preferred."
    ),
    pairs: int = typer.Option(768, min=1, help="Training pairs of each domain."),
    held_out: int = typer.Option(128, min=1, help="Held-out pairs of each domain."),
    noise: float = typer.Option(0.0, min=0, max=1, help="Share of flipped training labels."),
    stream: str = typer.Option(
        None, help="Also one stream of domains in this order, such as reviews,guests,reviews."
    ),
    overlap: float = typer.Option(
        0.0, min=0, max=1, help="Share of a domain's length over which the stream changes to it."
    ),
) -> None:
    """Write pairs of every domain, the world itself, and a tiny base model pretrained on it."""
    from functools import partial

    from fastslow import make_world
    from fastslow.adapters.library_logging import quiet_libraries

    quiet_libraries()
    with task_progress(transient=True) as show:
        made = make_world(
            to,
            seed=seed,
            domains=domains,
            conflict=conflict,
            sharpness=sharpness,
            pairs=pairs,
            held_out=held_out,
            noise=noise,
            stream=stream.split(",") if stream else None,
            overlap=overlap,
            progress=partial(show, "pretraining the base"),
        )
    tell(f"wrote {to}: base, world.json, train.jsonl and test.jsonl of each domain:")
    for domain in made.domains:
        row = next(made.pairs(domain, seed=seed))
        tell(f"  {domain}: {row['prompt']}")
        tell(f"    preferred: {row['chosen']}")
        tell(f"    over:      {row['rejected']}")
