"""A small world with a known reward, as files to train and measure on."""

from collections.abc import Sequence
from pathlib import Path

from fastslow.atomic_io import check_free
from fastslow.bench.tiny_base import copy_base, pretrain_base
from fastslow.streams.worlds import World, write_stream, write_world
from fastslow.training.state.event_log import Progress, unwatched


def make_world(
    to: str | Path,
    *,
    seed: int = 0,
    domains: int = 3,
    conflict: float = 0.5,
    sharpness: float = 2.0,
    pairs: int = 768,
    held_out: int = 128,
    noise: float = 0.0,
    stream: Sequence[str] | None = None,
    overlap: float = 0.0,
    progress: Progress = unwatched,
) -> World:
    """Write pairs of every domain, the world itself, and a tiny base model pretrained on it.

    Args:
        to: folder to write, which must not exist.
        seed: another seed is another world.
        domains: their number, 1 to 6.
        conflict: share of what a domain values on which the domains oppose each other, 0 to 1.
        sharpness: log-odds per unit of reward that the better answer is preferred.
        pairs: training pairs of each domain.
        held_out: held-out pairs of each domain.
        noise: share of flipped training labels, 0 to 1.
        stream: also one stream of domains in this order.
        overlap: share of a domain's length over which the stream changes to it.
        progress: is called with how many of how many pretraining steps are done.

    Raises ConfigError for a setting that is not allowed.
    """
    folder = Path(to)
    check_free(folder)
    made = World(seed=seed, num_domains=domains, conflict=conflict, sharpness=sharpness)
    base = pretrain_base(made, progress=progress)
    if stream:
        folder.mkdir(parents=True)
        write_stream(
            made,
            folder / "stream.jsonl",
            list(stream),
            pairs=pairs,
            overlap=overlap,
            noise=noise,
            seed=seed,
        )
    write_world(made, folder, pairs=pairs, held_out=held_out, noise=noise, seed=seed)
    copy_base(base, folder / "base")
    return made
