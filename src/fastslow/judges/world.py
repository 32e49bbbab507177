"""The true reward of a synthetic world as the judge."""

from collections.abc import Sequence
from pathlib import Path

from fastslow.judges.base import Judge, Judgement, JudgeRequest, scored
from fastslow.records import plain_text
from fastslow.streams.worlds import World


class WorldJudge(Judge):
    """Scores answers by the world's reward, in standard deviations over the world's text.

    Win rates are the probabilities with which a person of the world prefers an answer. Raises
    ConfigError for a prompt that is no request of the world.
    """

    def __init__(self, file: Path) -> None:
        self._world = World.load(file)

    @property
    def name(self) -> str:
        return f"world {self._world.fingerprint()[:12]}"

    def judge(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        world = self._world
        return [
            scored(
                [world.reward(plain_text(request.prompt), answer) for answer in request.answers],
                sharpness=world.sharpness,
            )
            for request in asked
        ]
