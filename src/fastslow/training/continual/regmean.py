"""RegMean for LoRA: the sum that maps each domain's inputs as that domain's module does.

Each module's A is fitted in closed form, B stays: with G_k the mean of x x^T over a layer's
inputs on domain k's kept examples under module k,

    A_k <- A_k (G_k + ridge / K) (sum_j G_j + ridge)^-1

Source: RegMean, arXiv 2212.09849, least squares over the layers' inputs; here the update is fitted
instead of the weight, and each module's B is kept, so that the rank is the sum of the ranks.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from fastslow.adapters import Entry, Factors, combine, load_tokenizer
from fastslow.config import Recipe
from fastslow.training.continual.distillation import Lesson
from fastslow.training.continual.memory import kept_examples
from fastslow.training.loop.evaluator import length_groups
from fastslow.training.policies.loading import SharedBase, make_encoder, open_policies
from fastslow.training.policies.policies import Policies
from fastslow.training.state.event_log import Progress

RIDGE = 0.1
"""Ridge, as a share of the mean diagonal of the summed G."""
STRENGTHS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0)
"""Factors tried for the sum; the one with the lowest KL from the modules is taken."""
COMPARED = 64
"""Kept examples of each domain on which the factors are compared."""
MERGED = "merged"


def average(
    entries: Sequence[Entry], recipe: Recipe, bases: SharedBase, *, progress: Progress
) -> tuple[Factors, float, float]:
    """The sum of the fitted modules, its strength, and its KL from the modules on the kept
    examples, nats per response.

    Raises DataError if an entry has no kept examples.
    """
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    encoder = make_encoder(recipe, tokenizer)
    lessons = [Lesson(entry.name, kept_examples(entry, encoder)) for entry in entries]
    folders = {entry.name: entry.folder for entry in entries}
    modules = [entry.factors() for entry in entries]
    with TemporaryDirectory() as scratch:
        policies = open_policies(recipe, folders, tokenizer, bases)
        fitted = fitted_modules(policies, modules, lessons)
        plain = Path(scratch) / MERGED
        combine(fitted, [1.0] * len(fitted)).write(plain)
        policies = open_policies(recipe, {**folders, MERGED: plain}, tokenizer, bases)
        kl: dict[float, float] = {}
        for done, strength in enumerate(STRENGTHS, 1):
            policies.modules.set_scale(MERGED, strength)
            kl[strength] = math.fsum(_distance(policies, lesson) for lesson in lessons)
            progress(done, len(STRENGTHS))
    best = min(STRENGTHS, key=kl.__getitem__)
    return combine(fitted, [best] * len(fitted)), best, kl[best] / len(lessons)


def _distance(policies: Policies, lesson: Lesson) -> float:
    """KL(module || sum) on a domain's first kept examples, mean over the responses, nats."""
    kls = [
        policies.kl(lesson.teacher, MERGED, policies.batch([item.tree for item in group]))
        for group in length_groups(lesson.examples[:COMPARED])
    ]
    return float(torch.cat(kls).mean())


def fitted_modules(
    policies: Policies, modules: Sequence[Factors], lessons: Sequence[Lesson]
) -> list[Factors]:
    """The modules, in the order of their lessons, each with its A fitted for their plain sum.

    `policies` holds each module under the name of its lesson's teacher.
    """
    totals: dict[str, Tensor] = {}
    sharing: dict[str, int] = {}
    aims: list[dict[str, Tensor]] = []
    for module, lesson in zip(modules, lessons, strict=True):
        moments = _moments(policies, lesson, module.layers)
        aims.append({key: _wide(module.layers[key][0]) @ g for key, g in moments.items()})
        for key, moment in moments.items():
            totals[key] = totals[key] + moment if key in totals else moment
            sharing[key] = sharing.get(key, 0) + 1
    return [
        replace(
            module,
            layers=dict(module.layers)
            | {
                key: _fitted(*module.layers[key], aim, totals[key], sharing[key])
                for key, aim in module_aims.items()
            },
        )
        for module, module_aims in zip(modules, aims, strict=True)
    ]


def _fitted(
    a: Tensor, b: Tensor, aim: Tensor, total: Tensor, sharing: int
) -> tuple[Tensor, Tensor]:
    """One layer's factors with A fitted; `aim` is A G of its own domain."""
    ridge = RIDGE * total.diagonal().mean()
    gram = total + ridge * torch.eye(len(total), dtype=total.dtype)
    target = aim + ridge / sharing * _wide(a)
    return torch.linalg.solve(gram, target.T).T.to(a.dtype).contiguous(), b


def _moments(policies: Policies, lesson: Lesson, layers: Mapping[str, Any]) -> dict[str, Tensor]:
    """Mean of x x^T over each layer's inputs, [in, in], on a domain under its own module."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    padding = 0

    def look(layer: str, given: Tensor) -> None:
        rows = given.detach().flatten(0, -2).float()
        rows = rows[: len(rows) - padding]
        moment = _wide(rows.T @ rows)
        sums[layer] = sums[layer] + moment if layer in sums else moment
        counts[layer] = counts.get(layer, 0) + len(rows)

    with _watching(policies.modules.causal_lm, layers, look):
        for group in length_groups(lesson.examples):
            batch = policies.batch([item.tree for item in group])
            padding = batch.padding if policies.layout.trees else 0
            policies.score(lesson.teacher, batch)
    return {key: total / counts[key] for key, total in sums.items()}


@contextmanager
def _watching(
    model: nn.Module, layers: Mapping[str, Any], look: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Inside, `look` gets the name and the input of each layer that runs."""

    def hook(layer: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, inputs: look(layer, inputs[0])

    handles = [
        module.register_forward_pre_hook(hook(layer))
        for layer, module in model.named_modules()
        if layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _wide(values: Tensor) -> Tensor:
    return values.cpu().double()
