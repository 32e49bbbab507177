"""The domain of a prompt that names none, by its words.

Naive Bayes over the words, pairs of words and length of prompts whose domain somebody named: counts
to which a prompt is added, and taken from when it is old. No model is asked, as engines serve no
embeddings. What the router itself has decided teaches it nothing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from statistics import median
from typing import Any, Literal
from zlib import crc32

from fastslow.feedback.labelled import Labelled
from fastslow.serve.bodies import DEFAULT_DOMAIN
from fastslow.words import words_of

ENOUGH = 32
"""Prompts of a domain from which on others may be given to it."""
MOST = 512
"""Prompts of a domain that are known, the newest ones."""
LEAST_IN_COMMON = 0.5
"""Share of what a domain's prompts have in common with each other that another one must have with
them. Below it belongs to none: new things are asked about in known ways, and have more in common
(LOG.md)."""
COMPARED = 100
"""Prompts of a domain, the newest ones, of which the median says what is usual there."""
LONGEST = 2000
"""Characters that are looked at: the first and the last ones."""
UNSEEN = 0.5
"""What is added to every count."""
UNSEEN_MASS = 8192.0
"""What is added to the sum of a domain's counts."""

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Assigned:
    """The domain of a request."""

    domain: str
    by: Literal["label", "router", "default"]
    """What says so: the request, the router, or nothing: it is like no domain, or there are fewer
    than two that are known well enough."""


@dataclass(slots=True)
class _Domain:
    """What prompts of a domain look like."""

    prompts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Features by the prompt's number."""
    counts: Counter[int] = field(default_factory=Counter)
    total: int = 0
    usual: float | None = None
    """What is in common between one of them and the others; None until it is needed."""

    def add(self, number: int, features: tuple[int, ...]) -> None:
        """Know a prompt; beyond MOST the oldest is known no more."""
        if number in self.prompts:
            return
        self.prompts[number] = features
        self.counts.update(features)
        self.total += len(features)
        if len(self.prompts) > MOST:
            old = self.prompts.pop(min(self.prompts))
            self.counts.subtract(old)
            for one in old:
                if not self.counts[one]:
                    del self.counts[one]
            self.total -= len(old)
        self.usual = None

    def likelihood(self, features: Sequence[int]) -> float:
        """Log-likelihood of a prompt, per feature."""
        return self.in_common(features) - math.log(self.total + UNSEEN_MASS)

    def in_common(self, features: Sequence[int], *, own: int = 0) -> float:
        """How often the prompts have a prompt's features, mean log; 0 for never. `own` is 1 of one
        of themselves."""
        counts = self.counts
        seen = (math.log((counts.get(one, 0) - own + UNSEEN) / UNSEEN) for one in features)
        return sum(seen) / len(features)

    def usually_in_common(self) -> float:
        """The median of what the newest prompts have in common with all others."""
        if self.usual is None:
            newest = islice(sorted(self.prompts, reverse=True), COMPARED)
            self.usual = median(self.in_common(self.prompts[one], own=1) for one in newest)
        return self.usual


class Router:
    """Knows the domains of a store by their newest prompts; the same prompts, the same choices."""

    def __init__(self) -> None:
        self.newest = 0
        """Number of the last prompt that it was told of."""
        self._domains: dict[str, _Domain] = {}

    def learn(self, prompts: Iterable[Labelled]) -> None:
        """Know prompts whose domain somebody named; those known already change nothing. The default
        domain is what is left, and looks like nothing."""
        for one in prompts:
            self.newest = max(self.newest, one.number)
            if one.domain != DEFAULT_DOMAIN:
                known = self._domains.setdefault(one.domain, _Domain())
                known.add(one.number, features_of(one.messages))

    def assign(self, messages: Messages, named: str | None) -> Assigned:
        """The domain of a request: what it names, or what it looks like, or the default one."""
        if named is not None:
            return Assigned(named, "label")
        found = self.choose(messages)
        return Assigned(DEFAULT_DOMAIN, "default") if found is None else Assigned(found, "router")

    @property
    def known(self) -> dict[str, int]:
        """How many prompts of each domain it knows."""
        return {name: len(self._domains[name].prompts) for name in sorted(self._domains)}

    @property
    def tells_apart(self) -> bool:
        """Whether two domains have enough prompts."""
        return sum(count >= ENOUGH for count in self.known.values()) > 1

    def choose(self, messages: Messages) -> str | None:
        """The domain that a prompt looks like; None where it looks like none of them, or fewer than
        two have enough prompts to tell."""
        if not self.tells_apart:
            return None
        known = [name for name, count in self.known.items() if count >= ENOUGH]
        features = features_of(messages)
        best = max(known, key=lambda name: self._domains[name].likelihood(features))
        domain = self._domains[best]
        enough = LEAST_IN_COMMON * domain.usually_in_common()
        return best if domain.in_common(features) >= enough else None


def typical(prompts: Sequence[Labelled], count: int) -> list[Labelled]:
    """Those of some prompts that have the most in common with the others."""
    found = _Domain()
    for one in prompts:
        found.add(one.number, features_of(one.messages))
    kept = [one for one in prompts if one.number in found.prompts]
    common = {one.number: found.in_common(found.prompts[one.number], own=1) for one in kept}
    return sorted(kept, key=lambda one: (-common[one.number], one.number))[:count]


def features_of(messages: Messages) -> tuple[int, ...]:
    """Hashes of what is in the turns that the model does not say, each once: words, pairs of words,
    and about how many words there are.

    >>> turn = {"role": "user", "content": "How tall is it?"}
    >>> len(features_of([turn])), features_of([turn]) == features_of([turn, turn])
    (9, False)
    """
    text = "\n".join(str(one["content"]) for one in messages if one["role"] != "assistant")
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} {text[-LONGEST // 2 :]}"
    words = words_of(text)
    both = {f"{before} {after}" for before, after in pairwise(["", *words])}
    length = f"#{round(2 * math.log(1 + len(words)))}"
    return tuple(sorted({crc32(one.encode()) for one in {*words, *both, length}}))
