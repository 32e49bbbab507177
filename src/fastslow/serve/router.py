"""Assigns a domain to a prompt that names none, by its words.

Naive Bayes over the words, word pairs and length of prompts whose domain somebody named: new
prompts are added to the counts, old ones subtracted. It uses no model, because engines serve no
embeddings, and does not learn from its own decisions.
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
"""Prompts a domain needs before others may be assigned to it."""
MOST = 512
"""Prompts kept of each domain, the newest ones."""
LEAST_IN_COMMON = 0.5
"""Least similarity of a prompt to its domain, as a share of the usual similarity within the domain.
Below it the prompt belongs to none; new things asked in known ways lie above it (LOG.md)."""
COMPARED = 100
"""Newest prompts of a domain whose median similarity counts as usual."""
LONGEST = 2000
"""Characters used of a prompt, from its beginning and its end."""
UNSEEN = 0.5
"""Smoothing, added to every count."""
UNSEEN_MASS = 8192.0
"""Smoothing, added to the sum of a domain's counts."""

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Assigned:
    """The domain of a request."""

    domain: str
    by: Literal["label", "router", "default"]
    """Who chose it: the request, the router, or nobody: the prompt is like no domain, or fewer than
    two are known well enough."""


@dataclass(slots=True)
class _Domain:
    """Feature counts of a domain's prompts."""

    prompts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Features by the prompt's number."""
    counts: Counter[int] = field(default_factory=Counter)
    total: int = 0
    usual: float | None = None
    """Usual similarity of one of them to the others; None until it is needed."""

    def add(self, number: int, features: tuple[int, ...]) -> None:
        """Add a prompt; beyond MOST, drop the oldest."""
        if number in self.prompts:
            return
        self.prompts[number] = features
        self.counts.update(features)
        self.total += len(features)
        if len(self.prompts) > MOST:
            old = self.prompts.pop(min(self.prompts))
            self.counts.subtract(old)
            for feature in old:
                if not self.counts[feature]:
                    del self.counts[feature]
            self.total -= len(old)
        self.usual = None

    def likelihood(self, features: Sequence[int]) -> float:
        """Log-likelihood of a prompt, per feature."""
        return self.in_common(features) - math.log(self.total + UNSEEN_MASS)

    def in_common(self, features: Sequence[int], *, own: int = 0) -> float:
        """Similarity of a prompt: how often the domain's prompts have its features, mean log; 0 for
        never. `own` is 1 for one of them, which does not count itself."""
        counts = self.counts
        logs = (math.log((counts.get(feature, 0) - own + UNSEEN) / UNSEEN) for feature in features)
        return sum(logs) / len(features)

    def usually_in_common(self) -> float:
        """Median similarity of the newest prompts to all others."""
        if self.usual is None:
            newest = islice(sorted(self.prompts, reverse=True), COMPARED)
            self.usual = median(self.in_common(self.prompts[number], own=1) for number in newest)
        return self.usual


class Router:
    """Classifies prompts by the newest ones of each domain; the same prompts, the same choices."""

    def __init__(self) -> None:
        self.newest = 0
        """Id of the newest prompt learned."""
        self._domains: dict[str, _Domain] = {}

    def learn(self, prompts: Iterable[Labelled]) -> None:
        """Add prompts whose domain somebody named; known ones change nothing. The default domain is
        skipped: it holds whatever is left and has no typical features."""
        for prompt in prompts:
            self.newest = max(self.newest, prompt.number)
            if prompt.domain != DEFAULT_DOMAIN:
                domain = self._domains.setdefault(prompt.domain, _Domain())
                domain.add(prompt.number, features_of(prompt.messages))

    def assign(self, messages: Messages, named: str | None) -> Assigned:
        """The domain of a request: the one it names, else the router's choice, else the default."""
        if named is not None:
            return Assigned(named, "label")
        chosen = self.choose(messages)
        return Assigned(DEFAULT_DOMAIN, "default") if chosen is None else Assigned(chosen, "router")

    @property
    def known(self) -> dict[str, int]:
        """Number of known prompts of each domain."""
        return {name: len(self._domains[name].prompts) for name in sorted(self._domains)}

    @property
    def tells_apart(self) -> bool:
        """Whether at least two domains have enough prompts."""
        return sum(count >= ENOUGH for count in self.known.values()) > 1

    def choose(self, messages: Messages) -> str | None:
        """The likeliest domain of a prompt; None if it is like none of them, or fewer than two have
        enough prompts."""
        if not self.tells_apart:
            return None
        known = [name for name, count in self.known.items() if count >= ENOUGH]
        features = features_of(messages)
        best = max(known, key=lambda name: self._domains[name].likelihood(features))
        domain = self._domains[best]
        enough = LEAST_IN_COMMON * domain.usually_in_common()
        return best if domain.in_common(features) >= enough else None


def typical(prompts: Sequence[Labelled], count: int) -> list[Labelled]:
    """The `count` prompts that are most similar to the others."""
    group = _Domain()
    for prompt in prompts:
        group.add(prompt.number, features_of(prompt.messages))
    kept = [prompt for prompt in prompts if prompt.number in group.prompts]
    similarity = {
        prompt.number: group.in_common(group.prompts[prompt.number], own=1) for prompt in kept
    }
    return sorted(kept, key=lambda prompt: (-similarity[prompt.number], prompt.number))[:count]


def features_of(messages: Messages) -> tuple[int, ...]:
    """Hashes of the distinct words, word pairs and rough number of words in all turns but the
    model's.

    >>> turn = {"role": "user", "content": "How tall is it?"}
    >>> len(features_of([turn])), features_of([turn]) == features_of([turn, turn])
    (9, False)
    """
    text = "\n".join(str(turn["content"]) for turn in messages if turn["role"] != "assistant")
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} {text[-LONGEST // 2 :]}"
    words = words_of(text)
    word_pairs = {f"{before} {after}" for before, after in pairwise(["", *words])}
    length = f"#{round(2 * math.log(1 + len(words)))}"
    return tuple(sorted({crc32(feature.encode()) for feature in {*words, *word_pairs, length}}))
