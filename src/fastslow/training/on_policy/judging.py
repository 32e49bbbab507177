"""Asks a judge in the main process, and shares its judgements with the other processes."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial

from fastslow.errors import JudgeError
from fastslow.judges import Judge, Judgement, JudgeRequest
from fastslow.training.data.serialization import to_tuples
from fastslow.training.distributed.messages import Codec, list_of
from fastslow.training.distributed.processes import ProcessGroup

PATIENCE = 256
"""Prompts in a row without a preference after which a judge is given up. A judge with a preference
on one prompt in fifty gets there once in 200 runs."""
JUDGEMENT: Codec[Judgement] = Codec(astuple, lambda sent: Judgement(*to_tuples(sent)))


def judge_in_main(
    judge: Judge, requests: Sequence[JudgeRequest], processes: ProcessGroup
) -> list[Judgement]:
    """The judgement of each request. Raises JudgeError in all processes if the judge fails."""
    return processes.broadcast_from_main(partial(judge.judge, requests), list_of(JUDGEMENT))


@dataclass(slots=True)
class PreferenceWatch:
    """Gives up a judge that has no preference for too long, as nothing is learned from it.

    Single answers are compared with those to other prompts.
    """

    judge: Judge
    in_a_row: int = 0
    """Prompts since the last one with a preference."""
    alike: int = 0
    """Those of them whose answers were all the same, so that the judge was not asked."""
    _score: float | None = None

    def see(self, judgements: Sequence[Judgement], *, alike: int = 0) -> None:
        """Count the judge's preferences on some prompts. Raises JudgeError if it has too few."""
        for judgement in judgements:
            if self._prefers(judgement):
                self.in_a_row = self.alike = 0
            else:
                self.in_a_row += 1
            self._score = judgement.scores[-1]
        self.in_a_row += alike
        self.alike += alike
        if self.in_a_row >= PATIENCE:
            raise JudgeError(
                f"{self.judge.name} preferred no answer to any of the last {self.in_a_row} prompts "
                f"({self.alike} of them got the same answer each time), so nothing is learned. Use "
                "another judge, or raise the temperature."
            )

    def _prefers(self, judgement: Judgement) -> bool:
        if len(judgement.scores) == 1:
            return self._score is not None and judgement.scores[0] != self._score
        return len(set(judgement.scores)) > 1
