"""Prompts that are nearly the same belong together, so that none of them is held out alone.

MinHash over word trigrams: two prompts that share four of five trigrams fall into one cluster with
78 % probability, two that share half of them with 8 %.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b, sha256

from sqlalchemy import Connection, bindparam, select

from fastslow.feedback.schema import cluster_keys, prompts

WORDS = 3
BANDS = 5
ROWS = 6
"""Of the smallest hashes in a band, all of which must agree."""
HELD_OUT = 10
"""Percent of the clusters, by chance."""
FIRST_WITHIN = 5
"""Clusters of a domain of which one at least is held out..."""
LONGEST_GAP = 16
"""...and one at least of so many later ones."""
LAST_CLUSTERS = (
    select(prompts.c.holdout)
    .where(prompts.c.domain == bindparam("domain"), prompts.c.id == prompts.c.cluster)
    .order_by(prompts.c.id.desc())
    .limit(LONGEST_GAP - 1)
)
"""Whether the last clusters of a domain are held out."""


def cluster_of(connection: Connection, text: str, *, own: int) -> int:
    """The cluster of a prompt: that of the earliest one it resembles, or `own`."""
    keys = band_keys(text)
    found = dict(
        connection.execute(
            select(cluster_keys.c.key, cluster_keys.c.cluster).where(cluster_keys.c.key.in_(keys))
        ).all()
    )
    cluster = min(found.values(), default=own)
    if missing := [{"key": key, "cluster": cluster} for key in keys if key not in found]:
        connection.execute(cluster_keys.insert(), missing)
    return cluster


def held_out(connection: Connection, store: str, cluster: int, domain: str) -> bool:
    """Whether nothing is learned from a cluster: as its first prompt was decided on.

    A new one is held out by chance, which hangs on the store's uuid, and where that has let too
    many in a row pass: prompts from a template are few clusters, of which a tenth by chance alone
    may be none, and then nothing could be tested.
    """
    first = select(prompts.c.holdout).where(prompts.c.id == cluster, prompts.c.cluster == cluster)
    if (known := connection.scalar(first)) is not None:
        return bool(known)
    before = list(connection.scalars(LAST_CLUSTERS, {"domain": domain}))
    longest = FIRST_WITHIN if len(before) < LONGEST_GAP else LONGEST_GAP
    if len(before) >= longest - 1 and not any(before):
        return True
    return int(sha256(f"{store}:{cluster}".encode()).hexdigest(), 16) % 100 < HELD_OUT


def band_keys(text: str) -> list[str]:
    """Keys of which similar texts share at least one.

    >>> shared = set(band_keys("Write a poem, please!")) & set(band_keys("write a poem please"))
    >>> len(shared) == BANDS
    True
    """
    shingles = _shingles(re.findall(r"\w+", text.lower()))
    smallest = [
        min(_hash(f"{number}:{shingle}") for shingle in shingles) for number in range(BANDS * ROWS)
    ]
    bands = [smallest[start : start + ROWS] for start in range(0, len(smallest), ROWS)]
    # Bands that agree by chance of their place would be other bands.
    return sorted({_hash(f"{place}:{band}") for place, band in enumerate(bands)})


def _shingles(words: list[str]) -> Iterable[str]:
    last = max(1, len(words) - WORDS + 1)
    return {" ".join(words[place : place + WORDS]) for place in range(last)}


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
