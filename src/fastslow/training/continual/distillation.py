"""One adapter that answers each domain's prompts as that domain's teacher does.

A sum of modules has one direction for domains that contradict each other. A student is not bound to
one: shown what each teacher predicts on its own domain, it learns to tell the domains apart. It
needs no labels, only kept examples. The loss is the KL from teacher to student over the whole
vocabulary, summed over a kept response:

    mean over examples of sum_t KL(teacher(. | prompt, response_<t) || student(. | ...))
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from fastslow.scoring import Encoded
from fastslow.training.continual.memory import endless
from fastslow.training.loop.evaluator import length_groups
from fastslow.training.policies.policies import Policies
from fastslow.training.state.checkpoint import Snapshot, read_newest, write_checkpoint
from fastslow.training.state.event_log import Progress
from fastslow.training.state.state import load_optimizer_tensors, optimizer_tensors

EXAMPLES = 16
"""Kept examples of each step, of all domains together."""
KEPT_EVERY = 20
"""Steps between two checkpoints."""
PACE = 0.15
"""Adam's initial learning rate, as a share of the root mean square of the student's weights, so
that it suits modules that moved little and modules that moved far."""
DECAY = 0.003
"""Share of each weight that decays in the first step. Without it, a student trained on the same
examples for long answers well on their prompts but not on new ones (LOG.md)."""
LARGEST = 1.0
"""Gradient norm above which gradients are clipped."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """The kept examples of one domain, and the policy whose predictions on them are taught."""

    teacher: str
    examples: Sequence[Encoded]


def distil(
    policies: Policies,
    student: str,
    lessons: Sequence[Lesson],
    *,
    steps: int,
    seed: int,
    progress: Progress,
    checkpoints: Path | None = None,
) -> float:
    """Teach the student, in place; all domains have the same share.

    Args:
        policies: holds the student, which is trainable, and all teachers.
        student: its initial weights set the learning rate; learning rate and decay fall linearly
            to 0.
        steps: each on EXAMPLES kept examples.
        checkpoints: folder for checkpoints; resuming from one gives the same bits.

    Returns the KL to the teachers in the last tenth of the steps, nats per response.
    """
    parameters = list(policies.modules.parameters(student).values())
    rate = PACE * _root_mean_square(parameters)
    # Weights that are all 0 stay 0: teachers that have learned nothing teach nothing.
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=DECAY / rate if rate else 0.0)
    draws = [endless(lesson.examples, f"{seed}/{i}") for i, lesson in enumerate(lessons)]
    kls = _resume(policies, student, optimizer, checkpoints)
    for step in range(len(kls)):
        _drawn(draws, step)
    for step in range(len(kls), steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        total = 0.0
        for lesson, examples in zip(lessons, _drawn(draws, step), strict=True):
            total += _learn(policies, student, lesson.teacher, examples)
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST)
        optimizer.step()
        optimizer.zero_grad()
        kls.append(total / EXAMPLES)
        if checkpoints is not None and len(kls) % KEPT_EVERY == 0:
            _keep(policies, student, optimizer, kls, checkpoints)
        progress(step + 1, steps)
    last = kls[-max(1, steps // 10) :]
    return sum(last) / len(last)


def _root_mean_square(tensors: Sequence[Tensor]) -> float:
    return (
        torch.cat([tensor.detach().flatten() for tensor in tensors]).square().mean().sqrt().item()
    )


def _drawn(draws: Sequence[Iterator[Encoded]], step: int) -> list[list[Encoded]]:
    """The examples of a step, by domain; the domains take turns to have one more."""
    count = len(draws)
    return [
        [next(draw) for _ in range((place + step) % count, EXAMPLES, count)]
        for place, draw in enumerate(draws)
    ]


def _resume(
    policies: Policies, student: str, optimizer: Optimizer, checkpoints: Path | None
) -> list[float]:
    """Load the newest checkpoint, if there is one; returns the KL of every step up to it."""
    snapshot = read_newest(checkpoints)[0] if checkpoints else None
    if snapshot is None:
        return []
    policies.modules.load_tensors(student, dict(snapshot.tensors["student"]))
    load_optimizer_tensors(optimizer, snapshot.tensors["optimizer"])
    return list(snapshot.facts["found"])


def _keep(
    policies: Policies, student: str, optimizer: Optimizer, kls: list[float], to: Path
) -> None:
    tensors = {
        "student": policies.modules.tensors(student),
        "optimizer": optimizer_tensors(optimizer),
    }
    write_checkpoint(to, len(kls), Snapshot(tensors, {"found": kls}), keep=1)


def _learn(policies: Policies, student: str, teacher: str, examples: list[Encoded]) -> float:
    """Add the examples' share of a step's gradient; returns the sum of their KLs."""
    total = 0.0
    for group in length_groups(examples):
        batch = policies.batch([item.tree for item in group])
        kl = policies.kl(teacher, student, batch, learning=True)
        counts = [len(item.tree.responses) for item in group]
        mean = torch.stack([response_kls.mean() for response_kls in kl.split(counts)]).sum()
        (mean / EXAMPLES).backward()
        total += mean.item()
    return total
