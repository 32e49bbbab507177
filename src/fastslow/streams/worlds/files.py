"""A world written out as files that any recipe reads.

world.json               what it is
<domain>/train.jsonl     pairs of each domain
<domain>/test.jsonl      pairs on requests that are not in train.jsonl
"""

from itertools import islice
from pathlib import Path

from fastslow.durable import write_rows
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
