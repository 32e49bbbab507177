"""Builds what the loop needs from a recipe: model, modules, objective, reader, optimisers.

Everything that can be wrong with a recipe is found here, cheapest checks first, before any step.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch.optim import Optimizer

from fastslow.adapters import Modules, load_tokenizer
from fastslow.config import Recipe
from fastslow.dynamics import LeaderSelector
from fastslow.judges import make_judge
from fastslow.objectives import ActorCritic, Objective
from fastslow.scoring import Encoder, compile_layers
from fastslow.streams import ExampleStream, Reservoir
from fastslow.training.budget.budget import make_budget
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.dataset import (
    examples_per_prompt,
    objective_of,
    replayed_stream,
    stored_per_batch,
    temperature_of,
    train_stream,
)
from fastslow.training.data.delayed_labels import DelayedLabels
from fastslow.training.data.prefetch import PrefetchReader
from fastslow.training.data.reader import Reader
from fastslow.training.loop.anchor import WeightAnchor
from fastslow.training.loop.components import Components
from fastslow.training.loop.drift import DriftDetector
from fastslow.training.loop.evaluator import held_out
from fastslow.training.loop.gradient_terms import (
    AnchorTerm,
    CriticTerm,
    GradientTerm,
    OnlineKlTerm,
)
from fastslow.training.loop.learner import Learner
from fastslow.training.loop.lr_schedule import LrSchedule
from fastslow.training.loop.reference_cache import ReferenceCache
from fastslow.training.memory.device_memory import return_memory_at_once
from fastslow.training.memory.estimate import MemoryEstimate, check_memory
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.on_policy.critic import Critic
from fastslow.training.on_policy.filtered_reader import FilteredReader
from fastslow.training.on_policy.online_kl import OnlineKl
from fastslow.training.on_policy.online_reader import OnlineReader
from fastslow.training.on_policy.sampler import RolloutSampler, sampling_seed
from fastslow.training.policies.loading import (
    MOVING,
    PREVIOUS,
    SharedBase,
    make_encoder,
    make_modules,
    make_policies,
    moving_modules,
    reference_policy,
)
from fastslow.training.policies.model_check import expert_warnings
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.publish import make_publisher
from fastslow.training.preflight import plan
from fastslow.training.state.state import Stateful, TrainingState

ENDLESS = 1_000_000
"""Epochs of stored examples that are mixed with fresh ones: as many as the fresh ones need."""

OPTIMIZERS: dict[str, Any] = {
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def build(recipe: Recipe, bases: SharedBase) -> Components:
    """Load and build everything an ordinary recipe names. Raises ConfigError or DataError."""
    processes = bases.processes
    objective = objective_of(recipe)
    planned = plan(recipe, objective, processes)
    accelerator = make_accelerator()
    torch.manual_seed(recipe.seed)  # LoRA dropout draws from the global generator.
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    encoder = make_encoder(recipe, tokenizer)
    if recipe.train.gradient_checkpointing and accelerator.device.type == "cpu":
        return_memory_at_once()
    warnings = [*planned.warnings, *encoder.warnings(planned.first)]
    memory = _check_memory(recipe, objective, encoder, accelerator, bases, warnings)
    base = bases.load(recipe)
    evaluator, heldout_counts = (
        held_out(recipe, encoder, objective) if recipe.data.eval_sources else (None, {})
    )
    modules = make_modules(recipe, base, critic=isinstance(objective, ActorCritic))
    warnings += expert_warnings(recipe, modules)
    policies = make_policies(recipe, modules, tokenizer, processes)
    if recipe.train.compile:
        compile_layers(modules.causal_lm)
    builder = _Builder(recipe, objective, encoder, policies)
    reader, delayed = builder.reader(planned.stream), builder.delayed_labels()
    return Components(
        recipe=recipe,
        tokenizer=tokenizer,
        encoder=encoder,
        learner=builder.learner(accelerator, reader, delayed, planned.total_steps),
        reader=reader,
        delayed_labels=delayed,
        evaluator=evaluator,
        heldout_counts=heldout_counts,
        total_steps=planned.total_steps,
        memory=memory,
        warnings=warnings,
        stream=planned.stream,
    )


def make_accelerator() -> Accelerator:
    """An accelerator that ignores the launcher's precision and accumulation: the learner weights
    micro-batches itself, and policies open autocast for each pass."""
    return Accelerator(
        mixed_precision="no", gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1)
    )


def make_optimizers(recipe: Recipe, modules: Modules) -> dict[str, Optimizer]:
    """One optimiser per trainable module, by name."""
    kind, train = OPTIMIZERS[recipe.train.optimizer], recipe.train
    return {
        name: kind(
            list(modules.parameters(name).values()),
            lr=train.learning_rate,
            weight_decay=train.weight_decay,
        )
        for name in modules.trainable
    }


def make_selector(recipe: Recipe) -> LeaderSelector:
    """The selector that decides which module leads, by the recipe's rule."""
    if recipe.chase is None:
        return LeaderSelector(recipe.module_names)
    return LeaderSelector(
        recipe.module_names,
        swap_every=recipe.chase.swap_every,
        decay=recipe.chase.loss_decay,
        may_swap=recipe.chase.swap != "never",
    )


def _check_memory(
    recipe: Recipe,
    objective: Objective,
    encoder: Encoder,
    accelerator: Accelerator,
    bases: SharedBase,
    warnings: list[str],
) -> MemoryEstimate | None:
    if bases.holds(recipe):  # An earlier part with the same base has fit.
        return None
    return check_memory(
        recipe, objective, encoder, accelerator.device, bases.processes, warn=warnings.append
    )


def build_learner(
    recipe: Recipe,
    objective: Objective,
    encoder: Encoder,
    policies: Policies,
    *,
    reader: Stateful,
) -> Learner:
    """A learner without a run: the caller supplies the batches, and the number of steps is open.

    Args:
        recipe: of an ordinary run; its data and its model are not opened.
        reader: supplies the batches; its position is part of every snapshot.
    """
    builder = _Builder(recipe, objective, encoder, policies)
    return builder.learner(make_accelerator(), reader, None, None)


class _Builder:
    """Builds the parts that share recipe, objective, encoder and policies."""

    def __init__(
        self, recipe: Recipe, objective: Objective, encoder: Encoder, policies: Policies
    ) -> None:
        self._recipe = recipe
        self._objective = objective
        self._encoder = encoder
        self._policies = policies
        self._selector = make_selector(recipe)
        self._reference = MOVING if recipe.moving_reference else reference_policy(recipe)
        self._micro_batches = MicroBatches(
            recipe.train.micro_batch_size or recipe.train.batch_size,
            policies.processes,
            coupled=objective.coupled,
        )
        self._critic = self._make_critic()

    def _make_critic(self) -> Critic | None:
        if not isinstance(self._objective, ActorCritic):
            return None
        assert self._recipe.online is not None
        return Critic(
            self._policies,
            self._objective,
            reference=self._reference,
            temperature=self._recipe.online.temperature,
            micro_batches=self._micro_batches,
        )

    def learner(
        self,
        accelerator: Accelerator,
        reader: Stateful,
        delayed_labels: DelayedLabels | None,
        total_steps: int | None,
    ) -> Learner:
        """The learner built from these parts."""
        recipe, objective, policies = self._recipe, self._objective, self._policies
        modules, processes = policies.modules, policies.processes
        budget = make_budget(recipe, objective, policies, self._encoder, self._micro_batches)
        state = TrainingState(
            modules=modules,
            optimizers=make_optimizers(recipe, modules),
            selector=self._selector,
            moving=moving_modules(recipe),
            reader=reader,
            replay_buffer=Reservoir.of_examples(recipe.data.replay_buffer_size, seed=recipe.seed),
            drift=DriftDetector(recipe.drift) if recipe.drift else None,
            delayed_labels=delayed_labels,
            reference_cache=ReferenceCache(processes) if _comes_again(recipe) else None,
            budget=budget,
            running={name: objective.initial_state() for name in recipe.module_names},
        )
        return Learner(
            recipe,
            policies=policies,
            objective=objective,
            reference=self._reference,
            state=state,
            micro_batches=self._micro_batches,
            terms=list(self._terms()),
            budget=budget,
            schedule=LrSchedule(recipe, total_steps=total_steps),
            accelerator=accelerator,
            temperature=temperature_of(recipe, objective),
            failures=Path(recipe.output_dir),
        )

    def _terms(self) -> list[GradientTerm]:
        recipe, terms = self._recipe, list[GradientTerm]()
        if recipe.online_kl is not None:
            kl = OnlineKl(recipe.online_kl, self._policies, self._encoder, self._micro_batches)
            terms.append(OnlineKlTerm(kl, self._reference))
        if self._critic is not None:
            terms.append(CriticTerm(self._critic))
        if recipe.anchor is not None:
            terms.append(AnchorTerm(WeightAnchor(recipe.anchor, self._policies.modules, PREVIOUS)))
        return terms

    def reader(self, stream: Any) -> Reader:
        """Where batches come from."""
        if self._recipe.online is not None:
            return self._online_reader(stream)
        size, wait_s = self._recipe.train.batch_size, self._recipe.data.max_wait_s
        reader = BatchReader(
            stream, self._encoder, self._objective, batch_size=size, max_wait_s=wait_s
        )
        if self._recipe.filter is not None:
            return self._filtered_reader(reader)
        # With a live source, the next row may take any time.
        return reader if stream.rows.live else PrefetchReader(reader)

    def _filtered_reader(self, reader: BatchReader) -> Reader:
        recipe = self._recipe
        assert recipe.judge is not None and recipe.filter is not None
        return FilteredReader(
            reader,
            self._policies,
            self._encoder,
            make_judge(recipe.judge, device=recipe.train.device),
            recipe.filter,
            leader=lambda: self._selector.leader,
            seed=sampling_seed(recipe),
        )

    def _online_reader(self, stream: ExampleStream) -> Reader:
        recipe, objective = self._recipe, self._objective
        assert recipe.judge is not None and recipe.online is not None
        stored = stored_per_batch(recipe)
        sampler = RolloutSampler(
            self._policies,
            self._encoder,
            make_judge(recipe.judge, device=recipe.train.device),
            recipe.online,
            leader=lambda: self._selector.leader,
            distinct=not objective.on_policy,
            publisher=make_publisher(recipe, recipe.online.engine, self._policies.processes),
        )
        return OnlineReader(
            stream=stream,
            stored=self._stored_reader(stored) if stored else None,
            objective=objective,
            sampler=sampler,
            critic=self._critic,
            config=recipe.online,
            batch_size=recipe.train.batch_size - stored,
            per_prompt=examples_per_prompt(recipe, objective),
            seed=sampling_seed(recipe),
        )

    def _stored_reader(self, batch_size: int) -> BatchReader:
        stream = train_stream(self._recipe, self._objective, epochs=ENDLESS)
        return BatchReader(stream, self._encoder, self._objective, batch_size=batch_size)

    def delayed_labels(self) -> DelayedLabels | None:
        """The pairs shown before their labels arrive, if labels are delayed."""
        recipe = self._recipe
        if not recipe.data.label_delay:
            return None
        size, stream = recipe.train.batch_size, replayed_stream(recipe, self._objective)
        reader = BatchReader(stream, self._encoder, self._objective, batch_size=size)
        return DelayedLabels(reader, delay=recipe.data.label_delay, batch_size=size)


def _comes_again(recipe: Recipe) -> bool:
    """True if the same reference scores the same examples more than once."""
    return recipe.train.epochs > 1 and recipe.online is None and recipe.moving_reference is None
