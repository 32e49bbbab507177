"""Several judges: the mean of their win rates."""

from collections import Counter
from collections.abc import Mapping, Sequence

from fastslow.judges.base import Judge, Judgement, JudgeRequest, mean_rate


class EnsembleJudge(Judge):
    """Averages win rates, so that the judges' scales do not matter."""

    def __init__(self, members: Sequence[Judge]) -> None:
        self._members = list(members)

    @property
    def name(self) -> str:
        return f"ensemble of {'; '.join(member.name for member in self._members)}"

    @property
    def cost(self) -> Mapping[str, int]:
        total: Counter[str] = Counter()
        for member in self._members:
            total.update(member.cost)
        return total

    def judge(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        by_member = [member.judge(asked) for member in self._members]
        return [_mean(judgements) for judgements in zip(*by_member, strict=True)]


def _mean(judgements: Sequence[Judgement]) -> Judgement:
    columns = zip(*(judgement.win_rates for judgement in judgements), strict=True)
    rates = tuple(map(mean_rate, columns))
    return Judgement(rates, rates)
