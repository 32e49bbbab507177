"""The small English of the worlds: prompts, answers, and the traits of an answer.

An answer is one to three sentences in one of three forms. Most words of a sentence fill a slot, and
a slot's word moves one trait up, down, or not at all: 'Clearly the cafe is very lovely ...' is
sure, bold and kind. A sentence that no form fits is malformed.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

THINGS = (
    "cafe", "hotel", "film", "garden", "museum", "bakery", "library", "market", "station",
    "concert", "bridge", "school", "harbour", "theatre", "gallery", "orchard", "tower", "castle",
    "meadow", "novel", "painting", "kitchen", "workshop", "festival", "village", "river",
)  # fmt: skip
"""What prompts and answers are about."""

REQUESTS: Mapping[str, tuple[str, str, str]] = {
    "reviews": ("Write a short review of the {}.", "How would you rate the {}?", "Review the {}."),
    "guests": ("A guest asks about the {}.", "Tell a visitor of the {}.", "Welcome me to the {}."),
    "notes": ("Sum up the notes on the {}.", "Give me the gist of the {}.", "Summarise the {}."),
    "letters": ("Write home about the {}.", "Begin a letter on the {}.", "Thank Ann for the {}."),
    "news": (
        "Report the news from the {}.",
        "Write a story on the {}.",
        "What happened at the {}?",
    ),
    "advice": ("Should I see the {}?", "Give some advice on the {}.", "Is the {} for me?"),
}
"""The domains, and how each asks; no request belongs to two domains."""

FORMS = (
    "{opener} the {thing} is {degree} {quality} and we {verb} it {manner}.",
    "{opener} we {manner} {verb} the {degree} {quality} {thing}.",
    "{opener} people {verb} the {thing} for its {degree} {quality} {detail}.",
)
DETAILS = ("look", "sound", "price", "place")


@dataclass(frozen=True, slots=True)
class Slot:
    """The words of one slot by their effect on its trait."""

    trait: str
    up: tuple[str, ...]
    down: tuple[str, ...]
    neutral: tuple[str, ...]

    @property
    def poles(self) -> tuple[tuple[str, ...], ...]:
        """The words that pull up, down and nowhere."""
        return self.up, self.down, self.neutral

    @property
    def values(self) -> dict[str, float]:
        """Each word's pull: 1, -1 or 0."""
        pulls = (1.0, -1.0, 0.0)
        return {word: pull for words, pull in zip(self.poles, pulls, strict=True) for word in words}


SLOTS: Mapping[str, Slot] = {
    "opener": Slot(
        "certainty",
        ("Clearly", "Certainly", "Surely"),
        ("Perhaps", "Maybe", "Possibly"),
        ("Also", "Here", "Overall"),
    ),
    "quality": Slot(
        "warmth",
        ("lovely", "charming", "gentle"),
        ("awful", "dreadful", "gloomy"),
        ("new", "local", "large"),
    ),
    "degree": Slot(
        "emphasis",
        ("very", "truly", "deeply"),
        ("rather", "slightly", "somewhat"),
        ("quite", "fairly", "still"),
    ),
    "verb": Slot(
        "formality",
        ("commend", "appreciate", "endorse"),
        ("like", "fancy", "enjoy"),
        ("know", "mention", "describe"),
    ),
    "manner": Slot(
        "pace",
        ("eagerly", "briskly", "gladly"),
        ("slowly", "calmly", "quietly"),
        ("together", "again", "alone"),
    ),
}
TRAITS = (*(slot.trait for slot in SLOTS.values()), "brevity")
"""The traits of an answer, each in [-1, 1]."""
MANNERS: Mapping[str, tuple[str, str]] = {
    "certainty": ("sure", "unsure"),
    "warmth": ("kind", "harsh"),
    "emphasis": ("bold", "mild"),
    "formality": ("formal", "casual"),
    "pace": ("lively", "calm"),
    "brevity": ("brief", "long"),
}
"""How a request may ask for more or less of a trait: 'Be kind.'"""
LONGEST = 3
"""Sentences of the longest well-formed answer."""


def _pattern(form: str) -> re.Pattern[str]:
    words = {name: tuple(slot.values) for name, slot in SLOTS.items()}
    words |= {"thing": THINGS, "detail": DETAILS}
    groups = {name: f"(?P<{name}>{'|'.join(options)})" for name, options in words.items()}
    return re.compile(form.replace(".", r"\.").format_map(groups))


_PATTERNS = tuple(_pattern(form) for form in FORMS)
_VALUES = {name: slot.values for name, slot in SLOTS.items()}


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says."""

    traits: tuple[float, ...]
    """Mean pull of each of TRAITS over the slots that carry it, in [-1, 1]."""
    relevance: float
    """Share of the sentences that are about the thing asked for."""
    malformed: float
    """Share of the sentences that fit no form; 1 for an empty answer."""


def read(answer: str, thing: str) -> Reading:
    """What an answer says to a request about a thing."""
    sentences = re.findall(r"[^.]*\.|[^.]+$", answer.strip())
    found = [match for text in sentences if (match := _match(text.strip()))]
    pulls: dict[str, list[float]] = {trait: [] for trait in TRAITS}
    for match in found:
        for name, word in match.groupdict().items():
            if name in SLOTS:
                pulls[SLOTS[name].trait].append(_VALUES[name][word])
    if found:
        pulls["brevity"].append(max(-1.0, 2.0 - len(sentences)))
    about = sum(match["thing"] == thing for match in found)
    count = max(1, len(sentences))
    return Reading(
        traits=tuple(sum(pulls[trait]) / max(1, len(pulls[trait])) for trait in TRAITS),
        relevance=about / count,
        malformed=1.0 - len(found) / count,
    )


def _match(sentence: str) -> re.Match[str] | None:
    return next((match for pattern in _PATTERNS if (match := pattern.fullmatch(sentence))), None)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A text distribution: frequencies of words, moods and lengths, sampled once per world.

    An answer has one mood per slot (up, down or neutral), which most of its words follow, so that a
    model can learn a trait rather than single words.
    """

    words: Mapping[str, tuple[tuple[float, ...], ...]]
    """For each slot and mood, how often each of its words comes."""
    moods: Mapping[str, tuple[float, ...]]
    """For each slot, how often each mood comes."""
    lengths: tuple[float, ...]
    """How often an answer has 1, 2, 3 sentences."""
    keeps_mood: float = 0.85
    """How often a word follows the answer's mood."""
    keeps_to_thing: float = 0.75
    """How often a sentence is about the thing asked for."""

    @classmethod
    def draw(cls, generator: random.Random) -> "Speaker":
        """Habits that differ between generators and favour no trait much."""

        def shares(count: int) -> tuple[float, ...]:
            return tuple(generator.uniform(0.8, 1.2) for _ in range(count))

        return cls(
            words={name: tuple(shares(len(p)) for p in slot.poles) for name, slot in SLOTS.items()},
            moods={name: shares(len(slot.poles)) for name, slot in SLOTS.items()},
            lengths=shares(LONGEST),
        )

    def answer(
        self, thing: str, generator: random.Random, asked: Mapping[str, int] | None = None
    ) -> str:
        """One answer to a request about a thing.

        `asked` says for some traits which way the request wants them, 0 up and 1 down.
        """
        asked = asked or {}
        count = 1 + _pick(range(LONGEST), self.lengths, generator)
        if "brevity" in asked:
            count = (1, LONGEST)[asked["brevity"]]
        moods = {
            name: asked.get(SLOTS[name].trait, _pick(range(3), weights, generator))
            for name, weights in self.moods.items()
        }
        return " ".join(self._sentence(thing, moods, generator) for _ in range(count))

    def conversation(self, request: str, thing: str, generator: random.Random) -> tuple[str, str]:
        """A prompt, often with a requested style, and an answer that follows it."""
        traits = generator.sample(list(MANNERS), generator.choice((0, 3, 6)))
        asked = {trait: generator.randrange(2) for trait in traits}
        wishes = [f"Be {MANNERS[trait][way]}." for trait, way in asked.items()]
        return " ".join([request, *wishes]), self.answer(thing, generator, asked)

    def _sentence(self, thing: str, moods: Mapping[str, int], generator: random.Random) -> str:
        words = {name: self._word(name, mood, generator) for name, mood in moods.items()}
        if generator.random() >= self.keeps_to_thing:
            thing = generator.choice(THINGS)
        form = generator.choice(FORMS)
        return form.format(thing=thing, detail=generator.choice(DETAILS), **words)

    def _word(self, name: str, mood: int, generator: random.Random) -> str:
        if generator.random() >= self.keeps_mood:
            mood = generator.randrange(3)
        return _pick(SLOTS[name].poles[mood], self.words[name][mood], generator)


def _pick(options: Sequence[T], weights: Sequence[float], generator: random.Random) -> T:
    return generator.choices(options, weights)[0]
