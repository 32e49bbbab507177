"""How far a judge can be trusted: against labels, against itself, and at what cost."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastslow.evaluation import wilson_interval
from fastslow.judges.base import Judge, JudgeRequest
from fastslow.records import Pair, plain_text

LOTS = 0.5
"""Position consistency of a random judge."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How a judge does on labelled pairs: shares of them, some with their 95 % interval."""

    judge: str
    pairs: int
    agreement: float
    """With the labels, the mean of both orders, so that position bias cancels; ties count half."""
    agreement_low: float
    agreement_high: float
    ties: float
    """Share of pairs where the judge prefers neither."""
    consistent: float
    """Position consistency: the same answer wins, or none, when the order is swapped."""
    consistent_low: float
    consistent_high: float
    repeatable: float
    """Repeat consistency: share of pairs with the same judgement on repetition."""
    seconds: float
    """For one pair in one order, mean."""
    cost: dict[str, int]
    """The judge's usage in total."""

    @property
    def warnings(self) -> list[str]:
        """Reasons why nothing could be learned from the judge, one line each."""
        lines = []
        if self.ties == 1:
            lines.append(
                f"the judge prefers neither answer in all {self.pairs} pairs; it decides nothing"
            )
        if self.consistent_high < LOTS:
            lines.append(
                f"the judge prefers the same answer in both orders in {self.consistent:.0%} of the "
                "pairs, less than one that draws lots"
            )
        return lines


def probe(
    judge: Judge,
    pairs: Sequence[Pair],
    *,
    max_concurrency: int,
    progress: Callable[[int, int], None],
) -> Probe:
    """Ask a judge about pairs in both orders, and once more in the first.

    Args:
        pairs: one or more, none of them a tie.
        max_concurrency: pairs asked about in one call.

    Raises JudgeError if the judge fails.
    """
    straight: list[int] = []
    turned: list[int] = []
    again: list[int] = []
    began = time.monotonic()
    for first in range(0, len(pairs), max_concurrency):
        requests = [_asked(pair) for pair in pairs[first : first + max_concurrency]]
        straight += _winners(judge, requests)
        turned += [
            -winner for winner in _winners(judge, [_turned(request) for request in requests])
        ]
        again += _winners(judge, requests)
        progress(len(straight), len(pairs))
    count = len(pairs)
    right = sum(0.25 * (winner + 2) for winner in map(sum, zip(straight, turned, strict=True)))
    same = sum(a == b for a, b in zip(straight, turned, strict=True))
    low, high = wilson_interval(right, count)
    same_low, same_high = wilson_interval(same, count)
    return Probe(
        judge=judge.name,
        pairs=count,
        agreement=right / count,
        agreement_low=low,
        agreement_high=high,
        ties=straight.count(0) / count,
        consistent=same / count,
        consistent_low=same_low,
        consistent_high=same_high,
        repeatable=sum(a == b for a, b in zip(straight, again, strict=True)) / count,
        seconds=(time.monotonic() - began) / (3 * count),
        cost=dict(judge.cost),
    )


def _asked(pair: Pair) -> JudgeRequest:
    return JudgeRequest(pair.prompt, (plain_text(pair.chosen), plain_text(pair.rejected)))


def _turned(asked: JudgeRequest) -> JudgeRequest:
    return JudgeRequest(asked.prompt, asked.answers[::-1])


def _winners(judge: Judge, asked: Sequence[JudgeRequest]) -> list[int]:
    """1 where the first answer scores higher, -1 where the second does, 0 where neither."""
    pairs = [judgement.scores for judgement in judge.judge(asked)]
    return [(first > second) - (first < second) for first, second in pairs]
