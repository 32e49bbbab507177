"""True reward of a policy to the people of a world, on prompts nobody voted on."""

from pathlib import Path

from benchmarks.live.course import LONGEST, SERVED, answering
from benchmarks.live.people import Electorate
from fastslow.api.learner import Learner
from fastslow.api.view import Answer

EACH = 16
"""Answers to each held-out prompt."""
STRENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SEED = 7


def measured(
    learner: Learner, crowd: Electorate, folder: Path | None = None
) -> list[dict[str, float]]:
    """True reward and reverse KL to the base on held-out prompts: for the base, and for an adapter
    (default: the served one) at several strengths."""
    folder = folder or answering(crowd)
    points = [_point(learner, crowd, "base", 0.0)]
    with learner.beside({SERVED: folder} if folder else {}):
        modules = learner.core.policies.modules
        for strength in STRENGTHS if folder else ():
            modules.set_scale(SERVED, strength)
            points.append(_point(learner, crowd, SERVED, strength))
    return points


def said(
    learner: Learner, crowd: Electorate, name: str, *, trigger: str = "", each: int = EACH
) -> list[tuple[str, Answer]]:
    """Held-out prompts, each with a policy's answer to it with the trigger appended."""
    asked = crowd.world.prompts(crowd.domain, held_out=True)
    answers = learner.answers(
        [prompt + trigger for prompt in asked],
        module=name,
        num_generations=each,
        max_new_tokens=LONGEST,
        seed=SEED,
    )
    return [
        (prompt, answer) for prompt, group in zip(asked, answers, strict=True) for answer in group
    ]


def _point(learner: Learner, crowd: Electorate, name: str, strength: float) -> dict[str, float]:
    rewards = [crowd.reward(prompt, answer.text) for prompt, answer in said(learner, crowd, name)]
    asked = crowd.world.prompts(crowd.domain, held_out=True) * 4
    kl = (
        learner.reverse_kl(asked, module=name, max_new_tokens=LONGEST, seed=SEED)
        if strength
        else 0.0
    )
    return {"strength": strength, "reward": sum(rewards) / len(rewards), "reverse_kl": kl}
