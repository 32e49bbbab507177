"""One adapter that answers each domain's prompts as that domain's teacher does.

A sum of modules has one direction for domains that contradict each other. A student need not: shown
what each teacher predicts on its own domain, it learns to tell the domains apart. Labels are not
needed, only kept examples. The loss is the KL from teacher to student over the whole vocabulary,
summed over a kept response:

    mean over examples of sum_t KL(teacher(. | prompt, response_<t) || student(. | ...))
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fastslow.scoring import Encoded
from fastslow.training.continual.memory import endless
from fastslow.training.loop.evaluator import length_groups
from fastslow.training.policies.policies import Policies
from fastslow.training.state.event_log import Progress

STEPS = 150
EXAMPLES = 48
"""Kept examples of each step, of all domains together."""
LARGEST = 1.0
"""Norm that a gradient is clipped to."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """The kept examples of one domain, and the policy whose predictions on them are learned."""

    teacher: str
    examples: Sequence[Encoded]


def distil(
    policies: Policies,
    student: str,
    lessons: Sequence[Lesson],
    *,
    rate: float,
    seed: int,
    progress: Progress,
) -> float:
    """Teach the student, in place; all domains have the same share.

    Args:
        policies: of the student, which is trainable, and of all teachers.
        rate: Adam's learning rate at the start; it falls to 0 in a straight line.

    Returns the KL to the teachers in the last tenth of the steps, nats per response.
    """
    parameters = list(policies.modules.parameters(student).values())
    optimizer = torch.optim.Adam(parameters, lr=rate)
    draws = [endless(lesson.examples, f"{seed}/{i}") for i, lesson in enumerate(lessons)]
    found: list[float] = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / STEPS)
        total = 0.0
        for place, lesson in enumerate(lessons):
            # Which domains have one example more goes round.
            count = len(range((place + step) % len(lessons), EXAMPLES, len(lessons)))
            total += _learn(
                policies, student, lesson.teacher, [next(draws[place]) for _ in range(count)]
            )
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST)
        optimizer.step()
        optimizer.zero_grad()
        found.append(total / EXAMPLES)
        progress(step + 1, STEPS)
    last = found[-max(1, STEPS // 10) :]
    return sum(last) / len(last)


def _learn(policies: Policies, student: str, teacher: str, examples: list[Encoded]) -> float:
    """Add the gradient of some examples' share of a step; the sum of their KLs."""
    total = 0.0
    for group in length_groups(examples):
        batch = policies.batch([item.tree for item in group])
        kl = policies.kl(teacher, student, batch, learning=True)
        counts = [len(item.tree.responses) for item in group]
        mean = torch.stack([own.mean() for own in kl.split(counts)]).sum()
        (mean / EXAMPLES).backward()
        total += mean.item()
    return total
