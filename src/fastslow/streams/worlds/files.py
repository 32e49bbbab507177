"""A world written out as files that any recipe reads.

world.json               what it is
<domain>/train.jsonl     pairs of each domain
<domain>/test.jsonl      pairs on requests that are not in train.jsonl
stream.jsonl             where asked for, all domains in one stream
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from fastslow.atomic_io import write_rows
from fastslow.errors import ConfigError
from fastslow.streams.arrange import arranged
from fastslow.streams.worlds.world import World

TEST_SEED = 1_000_003
"""Added to the seed of the pairs for those held out."""


def write_world(
    world: World, folder: Path, *, pairs: int, held_out: int, noise: float = 0.0, seed: int = 0
) -> None:
    """Write `pairs` training and `held_out` test pairs for each domain; labels of the latter are
    not flipped by `noise`."""
    folder.mkdir(parents=True, exist_ok=True)
    for domain in world.domains:
        (folder / domain).mkdir(exist_ok=True)
        rows = world.pairs(domain, seed=seed, noise=noise)
        write_rows(folder / domain / "train.jsonl", islice(rows, pairs))
        tests = world.pairs(domain, seed=seed + TEST_SEED, held_out=True)
        write_rows(folder / domain / "test.jsonl", islice(tests, held_out))
    world.save(folder / "world.json")


def write_stream(
    world: World,
    path: Path,
    order: Sequence[str],
    *,
    pairs: int,
    overlap: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> None:
    """Write one stream of `pairs` pairs of each domain in the order given, which may repeat some.

    `overlap` is the share of a domain's length over which the next one takes over gradually.
    Raises ConfigError for a domain that the world has not.
    """
    strangers = [name for name in order if name not in world.domains]
    if strangers:
        raise ConfigError(
            f"stream: got domain {strangers[0]!r}; this world has {', '.join(world.domains)}"
        )
    rows = {name: world.pairs(name, seed=seed, noise=noise) for name in world.domains}
    regimes = [rows[name] for name in order]
    write_rows(path, arranged(regimes, each=pairs, overlap=overlap, seed=seed))
