"""One world: people vote while the model learns, then a run learns the same votes offline."""

from pathlib import Path
from typing import Any

from benchmarks.live.course import begun, lived
from benchmarks.live.measured import STRENGTHS, measured
from benchmarks.live.people import Electorate
from fastslow import train
from fastslow.api.learner import Learner
from fastslow.atomic_io import write_rows
from fastslow.bench.suite import kept
from fastslow.config import Recipe, load_recipe
from fastslow.evaluation import reward_at_kl
from fastslow.feedback import ledger
from fastslow.streams.worlds import World

PASSES = (1, 2, 4)
"""Passes over the votes, offline."""


class Trial:
    """One world's trial; call it to run it or read its record."""

    def __init__(self, out: Path, seed: int, votes: int, rate: float) -> None:
        self.out, self.seed, self.votes, self.rate = out, seed, votes, rate

    def __call__(self) -> dict[str, Any]:
        return kept(self.out / "record.json", self._measured)

    def _measured(self) -> dict[str, Any]:
        recipe, crowd, live = begun(self.out / "live", World(self.seed, num_domains=1), self.rate)
        course = lived(crowd, live, self.votes)
        end = measured(live.learner, crowd)
        with crowd.store.read() as connection:
            rows = [
                entry.row for entry in ledger.entries(connection) if entry.row and not entry.holdout
            ]
        write_rows(self.out / "votes.jsonl", rows)
        offline: list[dict[str, Any]] = [
            {"passes": passes, "points": self._offline(recipe, crowd, live.learner, passes)}
            for passes in PASSES
        ]
        crowd.store.close()
        base, served = end[0]["reward"], end[STRENGTHS.index(1.0) + 1]
        best = max(
            reward_at_kl(_points(entry["points"]), served["reverse_kl"]) for entry in offline
        )
        return {
            "seed": self.seed,
            "votes": self.votes,
            "base": base,
            "live": served,
            "offline_at_that_kl": best,
            "share": (served["reward"] - base) / (best - base),
            "course": course,
            "offline": offline,
        }

    def _offline(
        self, recipe: Recipe, crowd: Electorate, learner: Learner, passes: int
    ) -> list[dict[str, float]]:
        to = self.out / f"offline-{passes}"
        raw = recipe.model_dump(mode="json", exclude_unset=True)
        raw |= {"output_dir": str(to)}
        raw["data"] |= {"train": str(self.out / "votes.jsonl")}
        raw["train"] |= {"epochs": passes, "schedule": "linear"}
        run = train(load_recipe(raw))
        return measured(learner, crowd, to / "adapters" / run.leader)


def _points(points: list[dict[str, float]]) -> list[tuple[float, float]]:
    return [(point["reverse_kl"], point["reward"]) for point in points]
