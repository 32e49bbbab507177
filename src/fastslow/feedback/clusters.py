"""Clusters of near-duplicate prompts, which are held out together.

MinHash over word trigrams: two prompts that share four of five trigrams fall into one cluster with
78 % probability, two that share half of them with 8 %.
"""

from collections.abc import Iterable
from hashlib import blake2b, sha256
from heapq import nsmallest

from sqlalchemy import Connection, bindparam, select

from fastslow.feedback.schema import cluster_keys, prompts
from fastslow.words import words_of

WORDS = 3
BANDS = 5
ROWS = 6
"""Smallest hashes per band, all of which must agree."""
MOST = 2048
"""Most trigrams of a prompt that are hashed: people who vote wait for it."""
FIRST_WITHIN = 5
"""One of the first so many clusters of a domain is held out..."""
NEXT_AFTER = range(5, 16)
"""...and then one after so many, at random: a tenth of them."""
LAST_CLUSTERS = (
    select(prompts.c.id, prompts.c.holdout)
    .where(prompts.c.domain == bindparam("domain"), prompts.c.id == prompts.c.cluster)
    .order_by(prompts.c.id.desc())
    .limit(max(NEXT_AFTER))
)
"""The last clusters of a domain, newest first, and whether they are held out."""


def cluster_of(connection: Connection, text: str, *, own: int) -> int:
    """The cluster of a prompt: that of the earliest prompt it resembles, or `own`."""
    keys = band_keys(text)
    clusters = dict(
        connection.execute(
            select(cluster_keys.c.key, cluster_keys.c.cluster).where(cluster_keys.c.key.in_(keys))
        ).all()
    )
    cluster = min(clusters.values(), default=own)
    if missing := [{"key": key, "cluster": cluster} for key in keys if key not in clusters]:
        connection.execute(cluster_keys.insert(), missing)
    return cluster


def held_out(connection: Connection, store: str, cluster: int, domain: str) -> bool:
    """True if nothing is learned from a cluster, as decided for its first prompt.

    A new cluster is held out after a random number of others, seeded by the store's uuid. If each
    were held out independently, prompts from a template, which make few clusters, could have none
    of them held out, or half.
    """
    first = select(prompts.c.holdout).where(prompts.c.id == cluster, prompts.c.cluster == cluster)
    if (known := connection.scalar(first)) is not None:
        return bool(known)
    before = connection.execute(LAST_CLUSTERS, {"domain": domain}).all()
    for gap, prompt in enumerate(before, 1):
        if prompt.holdout:
            return gap >= NEXT_AFTER[_chance(f"{store}:{prompt.id}", len(NEXT_AFTER))]
    return len(before) >= _chance(f"{store}:{domain}", FIRST_WITHIN)


def _chance(name: str, ways: int) -> int:
    """A number below `ways`, the same for the same name."""
    return int(sha256(name.encode()).hexdigest(), 16) % ways


def band_keys(text: str) -> list[str]:
    """Keys of which similar texts share at least one.

    >>> shared = set(band_keys("Write a poem, please!")) & set(band_keys("write a poem please"))
    >>> len(shared) == BANDS
    True
    """
    shingles = _shingles(words_of(text))
    smallest = [
        min(_hash(f"{number}:{shingle}") for shingle in shingles) for number in range(BANDS * ROWS)
    ]
    bands = [smallest[start : start + ROWS] for start in range(0, len(smallest), ROWS)]
    # The position is hashed too, so that equal bands at different positions do not match.
    return sorted({_hash(f"{place}:{band}") for place, band in enumerate(bands)})


def _shingles(words: list[str]) -> Iterable[str]:
    last = max(1, len(words) - WORDS + 1)
    shingles = {" ".join(words[place : place + WORDS]) for place in range(last)}
    # Chosen by hash, so that similar texts keep the same ones.
    return shingles if len(shingles) <= MOST else nsmallest(MOST, shingles, key=_hash)


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
