"""The true reward of a world, where everything is invented and known."""

from collections.abc import Sequence
from pathlib import Path

from fastslow.judges.base import Asked, Judgement, scored
from fastslow.records import plain_text
from fastslow.streams.worlds import World


class WorldJudge:
    """Scores answers by the world's reward times its sharpness, without people's noise.

    That is the log-odds at which somebody there prefers one. Raises ConfigError for a prompt that
    is no request of the world.
    """

    def __init__(self, file: Path) -> None:
        self._world = World.load(file)

    @property
    def name(self) -> str:
        return f"world {self._world.fingerprint()[:12]}"

    def judge(self, asked: Sequence[Asked]) -> list[Judgement]:
        """A judgement of each."""
        world = self._world
        return [
            scored([world.sharpness * world.reward(plain_text(one.prompt), a) for a in one.answers])
            for one in asked
        ]
