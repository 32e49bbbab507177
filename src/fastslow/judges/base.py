"""The interface of judges: requests, judgements, and how scores become win rates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastslow.records import Text


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """A prompt and the answers to compare."""

    prompt: Text
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How good each answer to a prompt is, in their order."""

    scores: tuple[float, ...]
    """Higher is better, on the judge's own scale; equal scores are a tie."""
    win_rates: tuple[float, ...]
    """Probability that each beats a random one of them, itself (1/2) included."""


class Judge(Protocol):
    """Compares answers. Raises JudgeError if it fails."""

    @property
    def name(self) -> str:
        """Names the judge in provenance, with all that its verdicts depend on."""
        ...

    @property
    def cost(self) -> Mapping[str, int]:
        """What asking has cost so far, as named counts; empty if it costs nothing."""
        return {}

    def judge(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        ...


def scored(scores: Sequence[float], *, sharpness: float = 1.0) -> Judgement:
    """The judgement of a judge that scores answers one by one.

    By the Bradley-Terry model, i beats j with probability sigmoid(sharpness (s_i - s_j)).
    """
    rates = [
        sum(_sigmoid(sharpness * (own - other)) for other in scores) / len(scores) for own in scores
    ]
    return Judgement(tuple(scores), tuple(rates))


def compared(wins: Sequence[Sequence[float]]) -> Judgement:
    """The judgement of a judge that compares two answers at a time.

    `wins[i][j]` is the probability that i beats j; the diagonal is 1/2. Scores are win rates.
    """
    rates = tuple(map(mean_rate, wins))
    return Judgement(rates, rates)


def mean_rate(rates: Sequence[float]) -> float:
    """Their mean, rounded so that means of the same are a tie whatever the order of the sum."""
    return round(sum(rates) / len(rates), 12)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
