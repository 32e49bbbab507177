"""Votes and updates in turns, in a world, without a server."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.live.people import TRIES, Asked, Attack, Electorate
from fastslow.api.learner import Learner
from fastslow.api.view import Answer
from fastslow.bench.scenario import world_scenario
from fastslow.bench.suite import kept
from fastslow.config import Recipe, load_recipe
from fastslow.feedback import decisions, updates
from fastslow.feedback.places import adapter_folder
from fastslow.live.gate.gate import WAITS
from fastslow.live.process import Event, LiveLearner
from fastslow.streams.worlds import World

AT_ONCE = 72
"""Votes between two looks of the learner: a tenth of them is held out."""
EACH = 2
"""Answers to a prompt."""
LONGEST = 48
"""Tokens of an answer."""
SERVED = "served"
WAIT = " wait: "
"""Is in what a record says of rows that are held back."""
Decision = Callable[..., Any]
"""Of an admin: `decisions.approve` or another one."""


def live_recipe(model: str, rate: float, **sections: Any) -> Recipe:
    """How votes are learned: the defaults, but for the rate and what is given."""
    return load_recipe(
        {
            "model": model,
            "data": {"max_length": 128},
            "lora": {"rank": 8, "alpha": 16.0},
            "objective": {"name": "davidson"},
            "train": {"learning_rate": rate, "schedule": "constant", "batch_size": 16},
            "eval": {"num_prompts": 0, "max_new_tokens": LONGEST},
            **sections,
        }
    )


def begun(
    run: Path, world: World, rate: float, *, attack: Attack | None = None, **sections: Any
) -> tuple[Recipe, Electorate, LiveLearner]:
    """A recipe, people of a world and a learner of their votes, from nothing: what another run has
    left in its folder is removed. The world's model is kept beside it, for all runs."""
    shutil.rmtree(run, ignore_errors=True)
    scenario = world_scenario(world, run.parent / f"world-{world.seed}", pairs=64)
    recipe = live_recipe(str(scenario.settings["model"]), rate, **sections)
    crowd = Electorate(run, world, world.seed, attack)
    return recipe, crowd, LiveLearner(crowd.store, crowd.folder, recipe)


def lived(
    crowd: Electorate,
    live: LiveLearner,
    votes: int,
    *,
    decide: Decision = decisions.approve,
    script: Path | None = None,
) -> list[dict[str, Any]]:
    """Have people vote on what answers at the time, and learn, until so many votes are cast.

    Args:
        votes: of honest people; an attack's come on top.
        decide: what the admin does about an update that waits.
        script: a folder of what honest people were answered in another run of the same people, and
            are again, so that they vote the same; written where it is not there yet.

    Returns for every look of the learner the mean reward of what was voted on, and what became of
    the updates, with what they failed and who was suspected.
    """
    course, cast = list[dict[str, Any]](), 0
    while cast < votes:
        honest = crowd.asked(AT_ONCE)
        asked = crowd.with_attacks(honest)
        attacks = [one for one in asked if one.attacked]
        with Served(crowd, live.learner) as name:
            make = partial(_answers, live.learner, name, honest, EACH, cast)
            said = make() if script is None else _scripted(script / f"{cast}.json", make)
            served = _answers(live.learner, name, attacks, TRIES, cast)
        answers = {False: iter(said), True: iter(served)}
        crowd.vote(asked, [next(answers[one.attacked]) for one in asked])
        cast += AT_ONCE
        rewards = [
            crowd.reward(one.prompt, answer.text)
            for one, both in zip(honest, said, strict=True)
            for answer in both
        ]
        gates = _looked(crowd, live, decide)
        course.append(
            {
                "votes": cast,
                "reward": sum(rewards) / len(rewards),
                "updates": [gate["verdict"] for gate in gates],
                "failed": [_failed(gate) for gate in gates],
                "suspects": [_suspects(gate) for gate in gates],
            }
        )
    return course


def _answers(
    learner: Learner, policy: str, asked: Sequence[Asked], each: int, seed: int
) -> list[list[Answer]]:
    """Answers to each prompt."""
    if not asked:
        return []
    return learner.answers(
        [one.written for one in asked],
        module=policy, num_generations=each, max_new_tokens=LONGEST, seed=seed,
    )  # fmt: skip


def _scripted(path: Path, make: Callable[[], list[list[Answer]]]) -> list[list[Answer]]:
    """Answers of another run; made where there are none."""
    found = kept(path, lambda: {"answers": [[asdict(one) for one in own] for own in make()]})
    return [[Answer(**one) for one in own] for own in found["answers"]]


def _failed(gate: Mapping[str, Any]) -> dict[str, str]:
    """What an update did not pass, and what was said of it."""
    return {check["name"]: check["said"] for check in gate["checks"] if not check["passed"]}


def _suspects(gate: Mapping[str, Any]) -> list[str]:
    """Who has put a phrase in, as an update's record says."""
    return [note for note in gate.get("learned", {}).get("notes", ()) if WAIT in note]


def _looked(crowd: Electorate, live: LiveLearner, decide: Decision) -> list[Mapping[str, Any]]:
    """Have the learner look once; what the gate said of the updates."""
    events = list[Event]()
    live.once(lambda event: events.append(event) if isinstance(event, Event) else None)
    for event in events:
        if event.gate["verdict"] == WAITS:
            crowd.store.write(decide, update_id=event.update.id, now=crowd.now, by=crowd.voters[0])
    return [event.gate for event in events]


class Served:
    """Inside, what answers now is beside the learner's own modules, under the name it gives."""

    def __init__(self, crowd: Electorate, learner: Learner) -> None:
        folder = answering(crowd)
        self._beside = learner.beside({SERVED: folder} if folder else {})
        self._name = SERVED if folder else "base"

    def __enter__(self) -> str:
        self._beside.__enter__()
        return self._name

    def __exit__(self, *error: Any) -> None:
        self._beside.__exit__(*error)


def answering(crowd: Electorate) -> Path | None:
    """The folder of what answers now; None of the base."""
    with crowd.store.read() as connection:
        number = updates.route_of(connection, crowd.domain).update_id
        name = number and updates.update_of(connection, number).adapter
    return adapter_folder(crowd.folder, name) if name else None
