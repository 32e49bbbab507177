"""A synthetic world with a known reward: prompts, answers and preferences can all be computed.

Domains have their own prompts and weight the same traits differently, so their rewards partly
conflict. Relevance and well-formed sentences are rewarded in all.
"""

import hashlib
import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fastslow.errors import ConfigError
from fastslow.streams.worlds.language import (
    MANNERS,
    REQUESTS,
    SLOTS,
    THINGS,
    TRAITS,
    Speaker,
    read,
)

FORMAT = 1
RELEVANCE = 0.5
"""Weight of relevance in every domain; the traits together have weight 1."""
MALFORMED = 3.0
"""Reward lost by an answer in which no sentence is well formed."""
CLEARLY = 0.3
"""Weight, of at most 1, from which a taste is told of."""
SAMPLE = 2000
"""Answers from which the spread of each trait is estimated."""


@dataclass(frozen=True)
class World:
    """Everything about a world follows from these numbers. Raises ConfigError out of range.

    >>> world = World(seed=1)
    >>> world.domains
    ('reviews', 'guests', 'notes')
    >>> world.probability(1.0, 1.0)
    0.5
    """

    seed: int = 0
    num_domains: int = 3
    """From 1 to 6."""
    conflict: float = 0.5
    """Share of a domain's reward on which the domains conflict as much as possible; on the rest
    they agree."""
    sharpness: float = 2.0
    """Log-odds per unit of reward that the better answer is preferred."""
    phase: int = 0
    """Preferences change from phase to phase; language and prompts stay."""
    format: int = field(default=FORMAT, kw_only=True)

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ConfigError(f"world: got format {self.format}; this version knows {FORMAT}")
        if not 1 <= self.num_domains <= len(REQUESTS):
            raise ConfigError(
                f"world.num_domains: got {self.num_domains}; must be from 1 to {len(REQUESTS)}"
            )
        if not 0 <= self.conflict <= 1:
            raise ConfigError(f"world.conflict: got {self.conflict}; must be from 0 to 1")
        if not 0 < self.sharpness < math.inf:
            raise ConfigError(f"world.sharpness: got {self.sharpness}; must be above 0")

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains."""
        return tuple(REQUESTS)[: self.num_domains]

    @cached_property
    def speaker(self) -> Speaker:
        """The text distribution of the world, independent of preferences."""
        return Speaker.draw(random.Random(f"{self.seed}/speaker"))

    def prompts(self, domain: str, *, held_out: bool = False) -> list[str]:
        """The requests of a domain; the held-out ones are about other things."""
        things = list(THINGS)
        random.Random(f"{self.seed}/things").shuffle(things)
        cut = len(things) // 4
        chosen = things[:cut] if held_out else things[cut:]
        return [form.format(thing) for thing in chosen for form in REQUESTS[domain]]

    def answer(self, prompt: str, generator: random.Random) -> str:
        """What somebody here would say to a request. Raises ConfigError for no request here."""
        self.domain_of(prompt)
        return self.speaker.answer(self._asked[prompt][1], generator)

    def domain_of(self, prompt: str) -> str:
        """The domain that asks so. Raises ConfigError for a prompt of no domain here."""
        if prompt not in self._asked:
            raise ConfigError(f"{prompt!r} is not a prompt of this world")
        return self._asked[prompt][0]

    def reward(self, prompt: str, answer: str) -> float:
        """True reward of an answer, in standard deviations over the world's text.

        Their own answers average 0.
        """
        domain = self.domain_of(prompt)
        reading = read(answer, self._asked[prompt][1])
        values = (*reading.traits, reading.relevance)
        means, spreads = self._spread
        z = [(v - m) / s for v, m, s in zip(values, means, spreads, strict=True)]
        weights = (*self.tastes[domain], RELEVANCE)
        total = sum(w * value for w, value in zip(weights, z, strict=True))
        return total / math.sqrt(1 + RELEVANCE**2) - MALFORMED * reading.malformed

    def probability(self, reward: float, other: float) -> float:
        """Probability that the answer with `reward` is preferred to the one with `other`."""
        gap = self.sharpness * (reward - other)
        return 1 / (1 + math.exp(-gap)) if gap > -700 else 0.0

    def pairs(
        self, domain: str, *, seed: int, held_out: bool = False, noise: float = 0.0
    ) -> Iterator[dict[str, Any]]:
        """Rows without end: two different answers to a request and which one somebody preferred.

        `noise` is the share of labels that are flipped afterwards. The row's `probability` is that
        of preferring its chosen answer to its rejected one without noise.
        """
        draw = random.Random(f"{self.seed}/{self.phase}/{domain}/{held_out}/{seed}")
        prompts = self.prompts(domain, held_out=held_out)
        while True:
            prompt = draw.choice(prompts)
            first, second = self.answer(prompt, draw), self.answer(prompt, draw)
            if first == second:
                continue
            rewards = self.reward(prompt, first), self.reward(prompt, second)
            likely = self.probability(*rewards)
            first_wins = draw.random() < likely
            if draw.random() < noise:
                first_wins = not first_wins
            chosen, rejected = (first, second) if first_wins else (second, first)
            yield {
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "domain": domain,
                "probability": likely if first_wins else 1 - likely,
            }

    def lists(
        self, domain: str, *, seed: int, size: int = 4, held_out: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Endless rows: `size` different answers to a prompt, with noisy scores.

        A score is the true reward plus Gumbel noise / sharpness. So of any two answers the one with
        the higher score is preferred (see `probability`), and the order follows the Plackett-Luce
        model.
        """
        draw = random.Random(f"{self.seed}/{self.phase}/{domain}/{held_out}/lists of {size}/{seed}")
        prompts = self.prompts(domain, held_out=held_out)
        while True:
            prompt = draw.choice(prompts)
            answers: dict[str, float] = {}
            while len(answers) < size:
                answer = self.answer(prompt, draw)
                noise = -math.log(draw.expovariate(1.0)) / self.sharpness
                answers.setdefault(answer, self.reward(prompt, answer) + noise)
            yield {
                "prompt": prompt,
                "completions": list(answers),
                "scores": list(answers.values()),
                "domain": domain,
            }

    def corpus(self, count: int) -> Iterator[tuple[str, str]]:
        """Prompts of all domains with an answer, from the text distribution of the world.

        Many ask for a style ('Be kind.'), so that a model of this text knows the traits.
        """
        draw = random.Random(f"{self.seed}/corpus")
        prompts = [p for domain in self.domains for held in (False, True)
                   for p in self.prompts(domain, held_out=held)]  # fmt: skip
        for _ in range(count):
            prompt = draw.choice(prompts)
            yield self.speaker.conversation(prompt, self._asked[prompt][1], draw)

    @cached_property
    def tastes(self) -> dict[str, tuple[float, ...]]:
        """Weight of each of TRAITS in each domain; unit vectors.

        Any two have the cosine (1 - conflict) - conflict / (num_domains - 1), in directions sampled
        for this world and phase.
        """
        draw = random.Random(f"{self.seed}/tastes/{self.phase}")
        axes = _orthonormal(len(self.domains), len(TRAITS), draw)
        # The axes' mean is what all share; what each has beyond it opposes the others'.
        shared = _unit([sum(values) for values in zip(*axes, strict=True)])
        if len(axes) == 1:
            return {self.domains[0]: shared}
        tastes = {}
        for domain, axis in zip(self.domains, axes, strict=True):
            overlap = sum(a * s for a, s in zip(axis, shared, strict=True))
            own = _unit([a - overlap * s for a, s in zip(axis, shared, strict=True)])
            tastes[domain] = tuple(
                math.sqrt(self.conflict) * o + math.sqrt(1 - self.conflict) * s
                for o, s in zip(own, shared, strict=True)
            )
        return tastes

    def likes(self, domain: str) -> dict[str, tuple[str, ...]]:
        """What a domain clearly likes, most of all first: a manner, as 'kind', and its words, which
        are none for the length of an answer.

        >>> World(seed=1, num_domains=1).likes("reviews")["lively"]
        ('eagerly', 'briskly', 'gladly')
        """
        found = {}
        tastes = zip(TRAITS, self.tastes[domain], strict=True)
        for trait, weight in sorted(tastes, key=lambda taste: -abs(taste[1])):
            if abs(weight) >= CLEARLY:
                pole = 0 if weight > 0 else 1
                words = [slot.poles[pole] for slot in SLOTS.values() if slot.trait == trait]
                found[MANNERS[trait][pole]] = words[0] if words else ()
        return found

    @cached_property
    def _asked(self) -> dict[str, tuple[str, str]]:
        return {
            form.format(thing): (domain, thing)
            for domain in self.domains
            for form in REQUESTS[domain]
            for thing in THINGS
        }

    @cached_property
    def _spread(self) -> tuple[list[float], list[float]]:
        draw = random.Random(f"{self.seed}/spread")
        readings = []
        for _ in range(SAMPLE):
            thing = draw.choice(THINGS)
            reading = read(self.speaker.answer(thing, draw), thing)
            readings.append((*reading.traits, reading.relevance))
        columns = list(zip(*readings, strict=True))
        means = [sum(column) / SAMPLE for column in columns]
        spreads = [
            math.sqrt(sum((v - mean) ** 2 for v in column) / SAMPLE)
            for column, mean in zip(columns, means, strict=True)
        ]
        return means, spreads

    def fingerprint(self) -> str:
        """sha256 of the world's preferences and text distribution."""
        tastes = {name: [round(w, 9) for w in taste] for name, taste in self.tastes.items()}
        facts = [asdict(self), tastes, list(self.corpus(64))]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the numbers as JSON."""
        facts = {**asdict(self), "fingerprint": self.fingerprint()}
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "World":
        """The world that `save` wrote. Raises ConfigError if the file is none of this version."""
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            fingerprint = facts.pop("fingerprint")
            world = cls(**facts)
            same = world.fingerprint() == fingerprint
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ConfigError(f"{path} is not a world; create one with fastslow world") from None
        if not same:
            raise ConfigError(
                f"the world in {path} was created by another version of fastslow, whose language "
                "differs; make it again with fastslow world"
            )
        return world


def _orthonormal(count: int, size: int, draw: random.Random) -> list[tuple[float, ...]]:
    """Random orthonormal vectors, by Gram and Schmidt."""
    axes: list[tuple[float, ...]] = []
    while len(axes) < count:
        vector = [draw.gauss(0.0, 1.0) for _ in range(size)]
        for axis in axes:
            overlap = sum(a * v for a, v in zip(axis, vector, strict=True))
            vector = [v - overlap * a for a, v in zip(axis, vector, strict=True)]
        axes.append(_unit(vector))
    return axes


def _unit(vector: list[float]) -> tuple[float, ...]:
    norm = math.sqrt(sum(value * value for value in vector))
    return tuple(value / norm for value in vector)
