"""One world: people vote while the model learns, and then a run learns the same votes offline."""

from pathlib import Path
from typing import Any

from benchmarks.live.people import Electorate, new_electorate
from fastslow import train
from fastslow.api.learner import Learner
from fastslow.atomic_io import write_rows
from fastslow.bench.scenario import world_scenario
from fastslow.bench.suite import kept
from fastslow.config import Recipe, load_recipe
from fastslow.evaluation import reward_at_kl
from fastslow.feedback import ledger, updates
from fastslow.feedback.places import adapter_folder
from fastslow.live.process import LiveLearner
from fastslow.streams.worlds import World

AT_ONCE = 72
"""Votes between two looks of the learner: a tenth of them is held out."""
MEASURED = 16
"""Answers to each held-out prompt, by which policies are compared."""
STRENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
PASSES = (1, 2, 4)
"""Over the votes, offline."""
SERVED = "served"


class Trial:
    """One world."""

    def __init__(self, out: Path, seed: int, votes: int, rate: float) -> None:
        self.out, self.seed, self.votes, self.rate = out, seed, votes, rate

    def __call__(self) -> dict[str, Any]:
        return kept(self.out / "record.json", self._measured)

    def _measured(self) -> dict[str, Any]:
        world = World(self.seed, num_domains=1)
        scenario = world_scenario(world, self.out / "world", pairs=64)
        recipe = self._recipe(str(scenario.settings["model"]))
        crowd = new_electorate(self.out / "live", world, world.domains[0], self.seed)
        live = LiveLearner(crowd.store, self.out / "live", recipe)
        course = self._live(crowd, live)
        end = _measured(live.learner, crowd, _answering(crowd, self.out / "live"))
        with crowd.store.read() as connection:
            rows = [one.row for one in ledger.entries(connection) if one.row and not one.holdout]
        write_rows(self.out / "votes.jsonl", rows)
        offline = [
            {"passes": passes, **self._offline(recipe, crowd, live.learner, passes)}
            for passes in PASSES
        ]
        crowd.store.close()
        own = end["points"][STRENGTHS.index(1.0) + 1]
        best = max(reward_at_kl(_points(one), own["reverse_kl"]) for one in offline)
        base = end["points"][0]["reward"]
        return {
            "seed": self.seed,
            "votes": self.votes,
            "base": base,
            "live": own,
            "offline_at_that_kl": best,
            "share": (own["reward"] - base) / (best - base),
            "course": course,
            "offline": offline,
        }

    def _recipe(self, model: str) -> Recipe:
        return load_recipe(
            {
                "model": model,
                "data": {"max_length": 128},
                "lora": {"rank": 8, "alpha": 16.0},
                "objective": {"name": "davidson"},
                "train": {"learning_rate": self.rate, "schedule": "constant", "batch_size": 16},
                "eval": {"num_prompts": 0, "max_new_tokens": 48},
            }
        )

    def _live(self, crowd: Electorate, live: LiveLearner) -> list[dict[str, Any]]:
        """Vote and learn in turns; the mean reward of what was voted on, and every update."""
        course, cast = list[dict[str, Any]](), 0
        while cast < self.votes:
            asked = crowd.prompts(AT_ONCE)
            with _opened(live.learner, _answering(crowd, self.out / "live")) as name:
                answers = live.learner.answers(
                    asked, module=name, num_generations=2, max_new_tokens=48, seed=cast
                )
            crowd.vote(asked, answers, crowd.honest)
            cast += AT_ONCE
            rewards = [
                crowd.world.reward(prompt, one.text)
                for prompt, both in zip(asked, answers, strict=True)
                for one in both
            ]
            verdicts = list[str]()
            live.once(lambda event: verdicts.append(event.gate["verdict"]))  # noqa: B023
            mean = sum(rewards) / len(rewards)
            course.append({"votes": cast, "reward": mean, "updates": verdicts})
        return course

    def _offline(
        self, recipe: Recipe, crowd: Electorate, learner: Learner, passes: int
    ) -> dict[str, Any]:
        to = self.out / f"offline-{passes}"
        raw = recipe.model_dump(mode="json", exclude_unset=True)
        raw |= {"output_dir": str(to)}
        raw["data"] |= {"train": str(self.out / "votes.jsonl")}
        raw["train"] |= {"epochs": passes, "schedule": "linear"}
        run = train(load_recipe(raw))
        return _measured(learner, crowd, to / "adapters" / run.leader)


def _answering(crowd: Electorate, folder: Path) -> Path | None:
    """The folder of what answers now; None of the base."""
    with crowd.store.read() as connection:
        number = updates.route_of(connection, crowd.domain).update_id
        name = number and updates.update_of(connection, number).adapter
    return adapter_folder(folder, name) if name else None


class _opened:
    """An adapter beside the learner's own, or the base."""

    def __init__(self, learner: Learner, folder: Path | None) -> None:
        self._beside = learner.beside({SERVED: folder} if folder else {})
        self._name = SERVED if folder else "base"

    def __enter__(self) -> str:
        self._beside.__enter__()
        return self._name

    def __exit__(self, *error: Any) -> None:
        self._beside.__exit__(*error)


def _measured(learner: Learner, crowd: Electorate, folder: Path | None) -> dict[str, Any]:
    """True reward and reverse KL to the base on held-out prompts, at several strengths."""
    asked = crowd.world.prompts(crowd.domain, held_out=True)
    points = [_point(learner, crowd, asked, "base", 0.0)]
    with _opened(learner, folder) as name:
        modules = learner.core.policies.modules
        for strength in STRENGTHS if folder else ():
            modules.set_scale(name, strength)
            points.append(_point(learner, crowd, asked, name, strength))
    return {"points": points}


def _point(
    learner: Learner, crowd: Electorate, asked: list[str], name: str, strength: float
) -> dict[str, float]:
    answers = learner.answers(
        asked, module=name, num_generations=MEASURED, max_new_tokens=48, seed=7
    )
    rewards = [
        crowd.world.reward(prompt, one.text)
        for prompt, own in zip(asked, answers, strict=True)
        for one in own
    ]
    kl = learner.reverse_kl(asked * 4, module=name, max_new_tokens=48, seed=7) if strength else 0.0
    return {"strength": strength, "reward": sum(rewards) / len(rewards), "reverse_kl": kl}


def _points(found: dict[str, Any]) -> list[tuple[float, float]]:
    return [(one["reverse_kl"], one["reward"]) for one in found["points"]]
