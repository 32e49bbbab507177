"""A recipe to the values the loop needs: model, modules, objective, stream, optimisers.

Everything that can be wrong with a request is found here, cheapest first, before any step.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch.optim import Optimizer

from fastslow.adapters import BASE, Modules, load_base, load_end_ids, load_tokenizer
from fastslow.config import EngineConfig, Recipe
from fastslow.dynamics import Race
from fastslow.errors import ConfigError
from fastslow.judges import make_judge
from fastslow.objectives import ActorCritic, Objective
from fastslow.sampling import Engine
from fastslow.scoring import Encoder, compile_layers
from fastslow.streams import Reservoir
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.dataset import (
    eval_objective,
    eval_stream,
    objective_of,
    replayed_stream,
    stored_per_batch,
    train_stream,
)
from fastslow.training.data.delayed_labels import Preview
from fastslow.training.data.prefetch import AheadReader
from fastslow.training.distributed.fsdp import shard_layers
from fastslow.training.distributed.processes import Team
from fastslow.training.loop.anchor import Anchor
from fastslow.training.loop.drift import DriftDetector
from fastslow.training.loop.evaluator import HeldOut
from fastslow.training.loop.reference_cache import Remembered
from fastslow.training.memory.device_memory import give_back_at_once
from fastslow.training.memory.estimate import Memory, check_memory
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.on_policy.critic import CRITIC, Critic
from fastslow.training.on_policy.filtered_reader import FilteredReader
from fastslow.training.on_policy.online_kl import OnlineKl
from fastslow.training.on_policy.online_reader import FreshReader
from fastslow.training.on_policy.sampler import Asker
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.reward import RewardPolicies
from fastslow.training.policies.routed import RoutedPolicies, Router
from fastslow.training.preflight import plan
from fastslow.training.state.state import Reader, TrainingState

PREVIOUS = "previous"
"""Name of the frozen copy of the adapter that a run starts from."""

MOVING = "reference"
"""Name of the frozen module that a moving reference is."""

ENDLESS = 1_000_000
"""Passes over stored examples that stand beside fresh ones: as many as those need."""

OPTIMIZERS: dict[str, Any] = {
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True, slots=True)
class Run:
    """A recipe's values, ready for the loop."""

    recipe: Recipe
    accelerator: Accelerator
    team: Team
    policies: Policies
    objective: Objective
    anchor: Anchor | None
    micro: MicroBatches
    online_kl: OnlineKl | None
    critic: Critic | None
    heldout: HeldOut | None
    heldout_counts: dict[str, int]
    state: TrainingState
    total_steps: int | None
    """Optimiser steps planned; None for a stream without a known end."""
    memory: Memory | None
    """What it will take; None where that is no question."""
    warnings: list[str]
    """What looks odd about the data."""


def assemble(recipe: Recipe) -> Run:
    """Load and build everything a recipe names. Raises ConfigError or DataError."""
    planned = plan(recipe)
    # Both are settled here, whatever a launcher's environment says: the loop weighs micro-batches
    # itself and opens autocast for each pass.
    accelerator = Accelerator(
        mixed_precision="no", gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1)
    )
    objective = objective_of(recipe)
    torch.manual_seed(recipe.seed)  # LoRA dropout draws from the global generator.
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    encoder = make_encoder(recipe, tokenizer)
    if recipe.train.gradient_checkpointing and accelerator.device.type == "cpu":
        give_back_at_once()
    warnings = list(planned.warnings)
    memory = check_memory(recipe, encoder, make_modules, accelerator.device, warn=warnings.append)
    base = make_base(recipe, accelerator.device)
    heldout, heldout_counts = held_out(recipe, encoder) if recipe.data.eval_sources else (None, {})
    modules = make_modules(recipe, base)
    policies = make_policies(recipe, modules, tokenizer)
    if recipe.train.compile:
        compile_layers(modules.causal_lm)
    race = _race(recipe)
    micro = MicroBatches(
        recipe.train.micro_batch_size or recipe.train.batch_size,
        coupled=recipe.objective.name if objective.coupled else None,
    )
    critic = _critic(recipe, objective, policies, micro)
    reader = _reader(recipe, planned.stream, encoder, objective, policies, race, critic)
    state = TrainingState(
        modules=modules,
        optimizers={name: _optimizer(recipe, modules, name) for name in modules.trainable},
        race=race,
        moving=_moving_modules(recipe),
        reader=reader,
        memory=Reservoir(recipe.data.memory, seed=recipe.seed),
        drift=DriftDetector(recipe.drift) if recipe.drift else None,
        preview=_preview(recipe, encoder),
        remembered=Remembered() if _comes_again(recipe) else None,
        running={name: objective.initial_state() for name in recipe.module_names},
    )
    return Run(
        recipe=recipe,
        accelerator=accelerator,
        team=Team(),
        policies=policies,
        objective=objective,
        anchor=Anchor(recipe.anchor, modules, PREVIOUS) if recipe.anchor else None,
        micro=micro,
        online_kl=_online_kl(recipe, policies, encoder, micro),
        critic=critic,
        heldout=heldout,
        heldout_counts=heldout_counts,
        state=state,
        total_steps=planned.total_steps,
        memory=memory,
        warnings=warnings,
    )


def _online_kl(
    recipe: Recipe, policies: Policies, encoder: Encoder, micro: MicroBatches
) -> OnlineKl | None:
    if recipe.online_kl is None:
        return None
    return OnlineKl(recipe.online_kl, policies, encoder, micro)


def _critic(
    recipe: Recipe, objective: Objective, policies: Policies, micro: MicroBatches
) -> Critic | None:
    if not isinstance(objective, ActorCritic):
        return None
    assert recipe.online is not None
    return Critic(
        policies,
        objective,
        reference=MOVING if recipe.moving_reference else reference_policy(recipe),
        temperature=recipe.online.temperature,
        micro=micro,
    )


def _reader(
    recipe: Recipe,
    stream: Any,
    encoder: Encoder,
    objective: Objective,
    policies: Policies,
    race: Race,
    critic: Critic | None,
) -> Reader:
    size = recipe.train.batch_size
    seed = (recipe.seed + 1) * 1_000_003
    if recipe.judge is None or recipe.online is None:
        reader = BatchReader(stream, encoder, objective, batch_size=size)
        if recipe.judge is None or recipe.filter is None:
            # What came on standard input cannot be given back.
            return reader if "-" in recipe.data.train_sources else AheadReader(reader)
        judge = make_judge(recipe.judge)
        return FilteredReader(
            reader,
            policies,
            encoder,
            judge,
            recipe.filter,
            leader=lambda: race.leader,
            seed=seed,
        )
    stored = stored_per_batch(recipe)
    asker = Asker(
        policies,
        encoder,
        make_judge(recipe.judge),
        recipe.online,
        leader=lambda: race.leader,
        different=not objective.on_policy,
        engine=make_engine(recipe, recipe.online.engine),
        folder=served_folder(recipe, recipe.online.engine),
    )
    return FreshReader(
        stream=stream,
        stored=BatchReader(
            train_stream(recipe, epochs=ENDLESS), encoder, objective, batch_size=stored
        )
        if stored
        else None,
        objective=objective,
        asker=asker,
        critic=critic,
        config=recipe.online,
        batch_size=size - stored,
        seed=seed,
    )


def served_folder(recipe: Recipe, config: EngineConfig | None) -> Path:
    """Where modules are written for an engine to read."""
    run = Path(recipe.output_dir)
    return Path(config.folder) / run.name if config and config.folder else run / "served"


def make_engine(recipe: Recipe, config: EngineConfig | None) -> Engine | None:
    """The engine that a section of the recipe asks for; None to answer here."""
    if config is None:
        return None
    settings = config.model_dump(exclude={"folder"})
    return Engine(plain=recipe.data.template == "plain", **settings)


def _preview(recipe: Recipe, encoder: Encoder) -> Preview | None:
    if not recipe.data.label_delay:
        return None
    size = recipe.train.batch_size
    reader = BatchReader(replayed_stream(recipe), encoder, objective_of(recipe), batch_size=size)
    return Preview(reader, delay=recipe.data.label_delay, batch_size=size)


def make_base(recipe: Recipe, device: torch.device) -> Any:
    """The recipe's frozen base model on a device, or its part of it where layers are divided."""
    divided = Team().divided
    base = load_base(
        recipe.model,
        precision=recipe.train.precision,
        load_in_4bit=recipe.load_in_4bit,
        trust_remote_code=recipe.trust_remote_code,
        device=None if divided else device,
    )
    return shard_layers(base, device) if divided else base


def make_encoder(recipe: Recipe, tokenizer: Any) -> Encoder:
    """The encoder of a recipe; the model's generation settings name further end tokens."""
    return Encoder(
        tokenizer,
        max_length=recipe.data.max_length,
        template=recipe.data.template,
        end_ids=load_end_ids(recipe.model),
    )


def make_modules(recipe: Recipe, base: Any) -> Modules:
    """The recipe's trainable modules, fresh or from an adapter with its frozen copy beside them."""
    critics = (CRITIC,) if isinstance(objective_of(recipe), ActorCritic) else ()
    names, frozen = (*recipe.module_names, *critics), _moving_modules(recipe)
    modules = _lora_modules(recipe, base, names, frozen)
    for name in recipe.module_names if recipe.trains == "reward" else critics:
        modules.add_head(name)
    return modules


def _lora_modules(
    recipe: Recipe, base: Any, names: tuple[str, ...], frozen: tuple[str, ...]
) -> Modules:
    if recipe.lora.start_from is None:
        return Modules.attach(
            base,
            names,
            frozen=frozen,
            rank=recipe.lora.rank,
            alpha=recipe.lora.alpha,
            dropout=recipe.lora.dropout,
            targets=recipe.lora.targets,
            seed=recipe.seed,
        )
    folder = Path(recipe.lora.start_from)
    return Modules.load(base, dict.fromkeys((*names, PREVIOUS, *frozen), folder), trainable=names)


def _comes_again(recipe: Recipe) -> bool:
    """Whether the same examples meet the same reference more than once."""
    return recipe.train.epochs > 1 and recipe.online is None and recipe.moving_reference is None


def _moving_modules(recipe: Recipe) -> tuple[str, ...]:
    """Names of the frozen modules that go after the policy."""
    return (MOVING,) if recipe.moving_reference else ()


def make_policies(
    recipe: Recipe, modules: Modules, tokenizer: Any, *, router: Router | None = None
) -> Policies:
    """The policies of a recipe, in its precision; with a router also the one it makes."""
    pad_id = tokenizer.pad_token_id
    rows = modules.causal_lm.get_input_embeddings().weight.shape[0]
    # Padding is masked, so any known token serves where the model has no row for the pad token.
    known = pad_id is not None and pad_id < rows
    settings: dict[str, Any] = {
        "bfloat16": recipe.train.precision != "float32",
        "max_length": recipe.data.max_length,
        "pad_id": pad_id if known else tokenizer.eos_token_id,
        "recompute": recipe.train.gradient_checkpointing,
    }
    if recipe.trains == "reward":
        return RewardPolicies(modules, **settings)
    return RoutedPolicies(modules, router, **settings) if router else Policies(modules, **settings)


def open_policies(
    recipe: Recipe,
    folders: dict[str, Path],
    tokenizer: Any,
    *,
    trainable: tuple[str, ...] = (),
    router: Router | None = None,
) -> Policies:
    """Policies of adapters in PEFT folders, by name, on a freshly loaded base of the recipe."""
    modules = Modules.load(
        make_base(recipe, Accelerator().device),
        folders,
        trainable=trainable,
        heads=recipe.trains == "reward",
    )
    return make_policies(recipe, modules, tokenizer, router=router)


def reference_policy(recipe: Recipe) -> str:
    """Name of the module that is the reference, or that a moving one begins at; BASE for the bare
    model. What is measured is measured against it."""
    return BASE if recipe.reference_name == "base" else PREVIOUS


def held_out(recipe: Recipe, encoder: Encoder) -> tuple[HeldOut, dict[str, int]]:
    """The recipe's held-out pairs, encoded, and the counts of what was read and left out."""
    if not recipe.data.eval_sources:
        raise ConfigError("data.eval: is missing; give files, a folder or a hub id")
    size = recipe.eval.max_pairs
    reader = BatchReader(
        eval_stream(recipe), encoder, eval_objective(recipe), batch_size=size or 1024
    )
    examples = []
    for batch in reader:
        examples += batch
        if size is not None:
            break
    judging = recipe.eval.judge or recipe.judge
    heldout = HeldOut(
        examples,
        encoder,
        sampling=recipe.eval.model_copy(update={"samples": 0} if recipe.trains == "reward" else {}),
        seed=recipe.seed,
        judge=make_judge(judging) if judging else None,
    )
    return heldout, reader.summary()


def _optimizer(recipe: Recipe, modules: Modules, name: str) -> Optimizer:
    kind = OPTIMIZERS[recipe.train.optimizer]
    optimizer: Optimizer = kind(
        list(modules.parameters(name).values()),
        lr=recipe.train.learning_rate,
        weight_decay=recipe.train.weight_decay,
    )
    return optimizer


def _race(recipe: Recipe) -> Race:
    if recipe.chase is None:
        return Race(recipe.module_names)
    return Race(
        recipe.module_names,
        swap_every=recipe.chase.swap_every,
        memory=recipe.chase.loss_memory,
        may_swap=recipe.chase.swap != "never",
    )
