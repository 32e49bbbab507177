"""The same held-out pairs and prompts of every domain, measured after each of them."""

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
"""The one measured domain of a stream that drift cuts up."""


def measured_sources(recipe: Recipe) -> dict[str, Any]:
    """The held-out pairs of each domain that can be measured, by its name."""
    assert recipe.continual is not None
    sources: dict[str, Any] = {d.name: d.eval for d in recipe.continual.domains}
    if not sources:
        sources = {WHOLE_STREAM: recipe.data.eval}
    return {name: given for name, given in sources.items() if given}


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
        found = {}
        for name, source in self._sources.items():
            data = self._recipe.data.model_copy(update={"eval": source, "domain": name})
            found[name], _ = held_out(
                self._recipe.model_copy(update={"data": data}), encoder, self._objective
            )
        return found

    @contextmanager
    def of(self, folder: Path) -> Iterator[tuple[Policies, str]]:
        """The policies of a combination's folder, and the name of the one that answers."""
        combination = Combination.read(folder)
        yield (
            open_combination(folder, combination, self._recipe, self._tokenizer, self._bases),
            combination.policy,
        )

    def evaluate(
        self, policies: Policies, name: str, *, label: str, domains: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The policy's measurement on each domain; `label` names it in the progress.

        `domains` names those to be measured; all by default.
        """
        found = []
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
            found.append(asdict(measurement))
        results = dict(zip(names, found, strict=True))
        self._listener({"event": "measured", "label": label, "results": results})
        return found

    def warnings(
        self, initial: Sequence[Mapping[str, Any]], final: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Where the final measurements show a degraded policy, beside those of the base."""
        found = {
            name: degradation(now, start, num_answers=self._held_out[name].num_answers)
            for name, start, now in zip(self.names, initial, final, strict=True)
        }
        return [f"on {name}: {warning}" for name, warning in found.items() if warning]

    def samples(self, policies: Policies, name: str) -> list[dict[str, Any]]:
        """Answers of the base and of the policy to a few prompts of each domain, side by side."""
        policies_shown = {"base": BASE, name: name}
        shown = [h.side_by_side(policies, policies_shown) for h in self._held_out.values()]
        return [answers for domain in shown for answers in domain]
