"""`python -m benchmarks.live.duels OUT`: would blind fast-slow duels choose the served module
better than losses on votes?

In each world, with a constant or a changing taste, the default learns from votes as they come.
After every update both modules answer the same prompts. True rewards show which should be served,
and some people compare an answer of each, as in a fifth of all pairs. The score is the true reward
of the chosen module: by the learner, by the duels so far, by both, always the same one, or by the
truth.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.live.changing import PHASES, options_of_phases, run_trials
from benchmarks.live.course import AT_ONCE, LONGEST, begun, lived
from benchmarks.live.people import Electorate
from fastslow.bench.suite import kept
from fastslow.feedback import updates
from fastslow.live.process import LiveLearner
from fastslow.streams.worlds import World

FASTEST = 1e-2
DUELS = AT_ONCE // 5
"""Pairs per update that show an answer of each module."""
HALF_LIFE = 4
"""Updates after which a duel has half its weight."""
ASKED = 96
"""Prompts on which true rewards are measured."""
FAST, SLOW = "fast", "slow"


def main() -> None:
    """Run the missing trials and print the results."""
    args = options_of_phases(__doc__)
    calls = [
        partial(_trial, args.out, seed, phases, args.votes)
        for seed in args.seeds
        for phases in (1, PHASES)
    ]
    run_trials(calls, args)


def _trial(out: Path, seed: int, phases: int, votes: int) -> dict[str, Any]:
    run = out / f"{seed}-{phases}"
    return kept(run.with_name(run.name + ".json"), partial(_measured, run, seed, phases, votes))


def _measured(run: Path, seed: int, phases: int, votes: int) -> dict[str, Any]:
    world = World(seed, num_domains=1)
    _, crowd, live = begun(run, world, FASTEST)
    duels, course = _Duels(random.Random(seed)), list[dict[str, Any]]()
    for phase in range(phases):
        crowd.world = replace(world, phase=phase)
        for _ in range(votes // phases // AT_ONCE):
            lived(crowd, live, AT_ONCE)
            course.append(_looked(crowd, live, duels))
    crowd.store.close()
    rewards = {
        name: fmean(look["rewards"][choice(look)] for look in course)
        for name, choice in CHOICES.items()
    }
    return {"seed": seed, "phases": phases, "rewards": rewards, "course": course}


@dataclass
class _Duels:
    """Verdicts on pairs with an answer of each module; older updates have less weight."""

    draw: random.Random
    won: float = 0.0
    """Duels won by fast less those won by slow, weighted."""
    squares: float = 0.0

    def take(self, verdicts: Sequence[int]) -> None:
        """Add the verdicts of an update: 1 where fast was preferred, -1 where slow was."""
        decay = 0.5 ** (1 / HALF_LIFE)
        self.won = self.won * decay + sum(verdicts)
        self.squares = self.squares * decay**2 + len(verdicts)

    @property
    def z(self) -> float:
        """z-score of the verdicts in favour of fast."""
        return self.won / math.sqrt(self.squares) if self.squares else 0.0


def _looked(crowd: Electorate, live: LiveLearner, duels: _Duels) -> dict[str, Any]:
    asked = duels.draw.choices(crowd.world.prompts(crowd.domain), k=ASKED)
    learner = live.learner
    rewards_by_module = {
        name: [
            crowd.reward(prompt, answer.text)
            for prompt, (answer,) in zip(
                asked,
                learner.answers(
                    asked, module=name, num_generations=1, max_new_tokens=LONGEST, seed=place
                ),
                strict=True,
            )
        ]
        for place, name in enumerate((FAST, SLOW))
    }
    pairs = list(zip(rewards_by_module[FAST], rewards_by_module[SLOW], strict=True))[:DUELS]
    duels.take(
        [
            1 if duels.draw.random() < crowd.world.probability(fast, slow) else -1
            for fast, slow in pairs
        ]
    )
    rewards = {name: fmean(values) for name, values in rewards_by_module.items()}
    return {"rewards": rewards, "answers": _answering(crowd), "race": learner.leader, "z": duels.z}


def _answering(crowd: Electorate) -> str:
    """The served module, as chosen by the learner and its gate."""
    with crowd.store.read() as connection:
        number = updates.route_of(connection, crowd.domain).update_id
        gate = {} if number is None else updates.update_of(connection, number).gate
    return str(gate.get("learned", {}).get("leader", SLOW))


def _by_duels(look: dict[str, Any]) -> str:
    return FAST if look["z"] > 0 else SLOW


def _by_both(look: dict[str, Any]) -> str:
    """The learner's choice, unless duels clearly contradict it."""
    return str(look["answers"]) if abs(look["z"]) < 2 else _by_duels(look)


def _best(look: dict[str, Any]) -> str:
    return FAST if look["rewards"][FAST] > look["rewards"][SLOW] else SLOW


CHOICES: dict[str, Callable[[dict[str, Any]], str]] = {
    "as it does": lambda look: str(look["answers"]),
    "by the race": lambda look: str(look["race"]),
    "by duels": _by_duels,
    "by both": _by_both,
    "always fast": lambda look: FAST,
    "always slow": lambda look: SLOW,
    "the better one": _best,
}


if __name__ == "__main__":
    main()
