"""Votes and updates in turns, in a world without a server."""

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
"""Votes between two calls of the learner; a tenth of them is held out."""
EACH = 2
"""Answers per prompt."""
LONGEST = 48
"""Most tokens of an answer."""
SERVED = "served"
WAIT = " held back: "
"""Occurs in a record's notes on held-back rows."""
Decision = Callable[..., Any]
"""An admin's decision, such as `decisions.approve`."""


def live_recipe(model: str, rate: float, **sections: Any) -> Recipe:
    """The recipe for learning from votes: defaults except the learning rate and `sections`."""
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
    """A recipe, the people of a world and a learner of their votes, from scratch: an earlier run's
    folder is removed. The world's model is kept beside it, for all runs."""
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
    """Have people vote on the policy served at the time, and learn, until `votes` votes are cast.

    Args:
        votes: of honest people; an attack's come on top.
        decide: what the admin does with a waiting update.
        script: folder of the answers that honest people got in another run. They get the same
            again, so that they vote the same; missing answers are generated and stored.

    Returns, for every call of the learner, the mean reward of the answers voted on, and the
    verdicts on the updates with the checks they failed and the suspects.
    """
    course, cast = list[dict[str, Any]](), 0
    while cast < votes:
        honest = crowd.asked(AT_ONCE)
        asked = crowd.with_attacks(honest)
        attacks = [request for request in asked if request.attacked]
        with Served(crowd, live.learner) as name:
            make = partial(_answers, live.learner, name, honest, EACH, cast)
            honest_answers = make() if script is None else _scripted(script / f"{cast}.json", make)
            attack_answers = _answers(live.learner, name, attacks, TRIES, cast)
        answers = {False: iter(honest_answers), True: iter(attack_answers)}
        crowd.vote(asked, [next(answers[request.attacked]) for request in asked])
        cast += AT_ONCE
        rewards = [
            crowd.reward(request.prompt, answer.text)
            for request, texts in zip(honest, honest_answers, strict=True)
            for answer in texts
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
        [request.written for request in asked],
        module=policy, num_generations=each, max_new_tokens=LONGEST, seed=seed,
    )  # fmt: skip


def _scripted(path: Path, make: Callable[[], list[list[Answer]]]) -> list[list[Answer]]:
    """Answers of another run, generated if missing."""
    record = kept(
        path, lambda: {"answers": [[asdict(answer) for answer in answers] for answers in make()]}
    )
    return [[Answer(**answer) for answer in answers] for answers in record["answers"]]


def _failed(gate: Mapping[str, Any]) -> dict[str, str]:
    """The checks that an update failed, with their messages."""
    return {check["name"]: check["said"] for check in gate["checks"] if not check["passed"]}


def _suspects(gate: Mapping[str, Any]) -> list[str]:
    """Notes of an update's record on people whose rows wait."""
    return [note for note in gate.get("learned", {}).get("notes", ()) if WAIT in note]


def _looked(crowd: Electorate, live: LiveLearner, decide: Decision) -> list[Mapping[str, Any]]:
    """Call the learner once; returns the gate's records of the updates."""
    events = list[Event]()
    live.once(lambda event: events.append(event) if isinstance(event, Event) else None)
    for event in events:
        if event.gate["verdict"] == WAITS:
            crowd.store.write(decide, update_id=event.update.id, now=crowd.now, by=crowd.voters[0])
    return [event.gate for event in events]


class Served:
    """Loads the served policy beside the learner's own modules; entering gives its name."""

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
    """The folder of the served adapter; None for the base."""
    with crowd.store.read() as connection:
        number = updates.route_of(connection, crowd.domain).update_id
        name = number and updates.update_of(connection, number).adapter
    return adapter_folder(crowd.folder, name) if name else None
