"""Measures policies on the same held-out pairs and prompts of every domain, after each domain."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE, load_tokenizer
from fastslow.config import Recipe
from fastslow.evaluation import degradation
from fastslow.training.continual.combined import Combination, open_combination
from fastslow.training.data.dataset import objective_of
from fastslow.training.loop.evaluator import Evaluator, held_out
from fastslow.training.policies.loading import SharedBase, make_encoder
from fastslow.training.policies.policies import Policies
from fastslow.training.state.event_log import Listener, progress_of

WHOLE_STREAM = "held out"
"""The only measured domain of a stream that drift splits."""


def measured_sources(recipe: Recipe) -> dict[str, Any]:
    """The held-out pairs of each domain that can be measured, by name."""
    assert recipe.continual is not None
    sources: dict[str, Any] = {d.name: d.eval for d in recipe.continual.domains}
    if not sources:
        sources = {WHOLE_STREAM: recipe.data.eval}
    return {name: source for name, source in sources.items() if source}


class DomainEvaluator:
    """Measures policies of a continual run on all its domains, always against the base."""

    def __init__(self, recipe: Recipe, bases: SharedBase, listener: Listener) -> None:
        self._recipe = recipe
        self._bases = bases
        self._objective = objective_of(recipe)
        self._listener = listener
        self._tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
        self._sources = measured_sources(recipe)

    @property
    def names(self) -> tuple[str, ...]:
        """The domains that can be measured."""
        return tuple(self._sources)

    @cached_property
    def _held_out(self) -> dict[str, Evaluator]:
        encoder = make_encoder(self._recipe, self._tokenizer)
        evaluators = {}
        for name, source in self._sources.items():
            data = self._recipe.data.model_copy(update={"eval": source, "domain": name})
            evaluators[name], _ = held_out(
                self._recipe.model_copy(update={"data": data}), encoder, self._objective
            )
        return evaluators

    @contextmanager
    def of(self, folder: Path) -> Iterator[tuple[Policies, str]]:
        """The policies in a combination's folder, and the name of the one that answers."""
        combination = Combination.read(folder)
        yield (
            open_combination(folder, combination, self._recipe, self._tokenizer, self._bases),
            combination.policy,
        )

    def evaluate(
        self, policies: Policies, name: str, *, label: str, domains: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The policy's measurement on each domain; `label` names it in the progress.

        `domains` names those to measure; all by default.
        """
        measurements = []
        names = self.names if domains is None else domains
        for domain in names:
            evaluator = self._held_out[domain]
            task = f"evaluating {label} on {domain}"
            measurement = evaluator.evaluate(
                policies,
                name,
                reference=BASE,
                progress=progress_of(self._listener, task),
            )
            measurements.append(asdict(measurement))
        results = dict(zip(names, measurements, strict=True))
        self._listener({"event": "measured", "label": label, "results": results})
        return measurements

    def warnings(
        self, initial: Sequence[Mapping[str, Any]], final: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """A warning for each domain on which the policy has degraded against the base."""
        messages = {
            name: degradation(now, start, num_answers=self._held_out[name].num_answers)
            for name, start, now in zip(self.names, initial, final, strict=True)
        }
        return [f"on {name}: {warning}" for name, warning in messages.items() if warning]

    def samples(self, policies: Policies, name: str) -> list[dict[str, Any]]:
        """Answers of the base and of the policy to a few prompts of each domain, side by side."""
        policies_shown = {"base": BASE, name: name}
        shown = [each.side_by_side(policies, policies_shown) for each in self._held_out.values()]
        return [answers for domain in shown for answers in domain]
