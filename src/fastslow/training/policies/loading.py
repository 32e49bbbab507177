"""A recipe's base model, encoder, modules and policies, loaded or made fresh."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastslow.adapters import (
    BASE,
    Modules,
    load_base,
    load_config,
    load_end_ids,
    num_embeddings_of,
    storage_dtype,
    strip_modules,
)
from fastslow.config import Recipe
from fastslow.scoring import Encoder, unwrap_layers
from fastslow.training.distributed.fsdp import shard_layers
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.precision import in_bfloat16
from fastslow.training.policies.reward import RewardPolicies
from fastslow.training.policies.routed import RoutedPolicies, Router

PREVIOUS = "previous"
"""Name of the frozen copy of the adapter that a run starts from."""

MOVING = "reference"
"""Name of the frozen module that a moving reference is."""

CRITIC = "critic"
"""Name of the critic's module."""


def reference_policy(recipe: Recipe) -> str:
    """Name of the module that is the reference, or that a moving one begins at; BASE for the bare
    model. What is measured is measured against it."""
    return BASE if recipe.reference_name == "base" else PREVIOUS


def budget_reference(recipe: Recipe) -> str:
    """Name of the module that the budget's KL is measured from; BASE for the bare model."""
    named = recipe.budget and recipe.budget.reference
    return reference_policy(recipe) if named is None else BASE if named == "base" else PREVIOUS


def moving_modules(recipe: Recipe) -> tuple[str, ...]:
    """Names of the frozen modules that go after the policy."""
    return (MOVING,) if recipe.moving_reference else ()


class SharedBase:
    """The frozen base of a run's parts, loaded once: the modules of one part make way for the next.

    Args:
        processes: those that train together.
    """

    def __init__(self, processes: ProcessGroup) -> None:
        self.processes = processes
        self._key: tuple[Any, ...] = ()
        self._base: Any = None

    def holds(self, recipe: Recipe) -> bool:
        """Whether the recipe's base is loaded."""
        return self._key == _base_key(recipe)

    def load(self, recipe: Recipe) -> Any:
        """The recipe's base without modules; modules that were on it become invalid."""
        if self.holds(recipe):
            clear_base(self._base)
        else:
            self._base, self._key = None, ()  # Not two at a time.
            self._base = make_base(recipe, self.processes)
            self._key = _base_key(recipe)
        return self._base


def clear_base(base: Any) -> None:
    """Take off a base everything that a run puts on it: modules, and what is around its layers."""
    unwrap_layers(base)
    strip_modules(base)


def _base_key(recipe: Recipe) -> tuple[Any, ...]:
    """What makes a base another one."""
    return (
        recipe.model,
        storage_dtype(recipe.train.precision),
        recipe.load_in_4bit,
        recipe.trust_remote_code,
        recipe.train.compile,
    )


def make_base(recipe: Recipe, processes: ProcessGroup) -> Any:
    """The recipe's frozen base model on this process's device, or its shards of the layers."""
    device = processes.device
    base = load_base(
        recipe.model,
        precision=recipe.train.precision,
        load_in_4bit=recipe.load_in_4bit,
        trust_remote_code=recipe.trust_remote_code,
        device=None if processes.sharded else device,
    )
    return shard_layers(base, device, processes) if processes.sharded else base


def make_encoder(recipe: Recipe, tokenizer: Any) -> Encoder:
    """The encoder of a recipe; the model's generation settings name further end tokens."""
    config = load_config(recipe.model, trust_remote_code=recipe.trust_remote_code)
    return Encoder(
        tokenizer,
        max_length=recipe.data.max_length,
        template=recipe.data.template,
        end_ids=load_end_ids(recipe.model),
        template_settings=recipe.data.chat_template_kwargs,
        num_embeddings=num_embeddings_of(config),
    )


def make_modules(recipe: Recipe, base: Any, *, critic: bool) -> Modules:
    """The recipe's trainable modules, fresh or from an adapter, together with its frozen copy.

    With `critic`, also a module with a head.
    """
    critics = (CRITIC,) if critic else ()
    names, frozen = (*recipe.module_names, *critics), moving_modules(recipe)
    modules = _lora_modules(recipe, base, names, frozen)
    for name in recipe.module_names if recipe.task == "reward" else critics:
        modules.add_head(name)
    return modules


def _lora_modules(
    recipe: Recipe, base: Any, names: tuple[str, ...], frozen: tuple[str, ...]
) -> Modules:
    folder = Path(recipe.lora.start_from) if recipe.lora.start_from else None
    if folder is None or recipe.lora.freeze_start:
        return Modules.attach(
            base,
            names,
            frozen=frozen,
            start=(PREVIOUS, folder) if folder else None,
            rank=recipe.lora.rank,
            alpha=recipe.lora.alpha,
            dropout=recipe.lora.dropout,
            targets=recipe.lora.target_modules,
            seed=recipe.seed,
        )
    return Modules.load(base, dict.fromkeys((*names, PREVIOUS, *frozen), folder), trainable=names)


def make_policies(
    recipe: Recipe,
    modules: Modules,
    tokenizer: Any,
    processes: ProcessGroup,
    *,
    router: Router | None = None,
) -> Policies:
    """The policies of a recipe, in its precision; with a router also the one it makes."""
    pad_id = tokenizer.pad_token_id
    rows = modules.causal_lm.get_input_embeddings().weight.shape[0]
    # Padding is masked, so any known token serves where the model has no row for the pad token.
    known = pad_id is not None and pad_id < rows
    settings: dict[str, Any] = {
        "bfloat16": in_bfloat16(recipe.train, processes.device),
        "max_length": recipe.data.max_length,
        "pad_id": pad_id if known else tokenizer.eos_token_id,
        "gradient_checkpointing": recipe.train.gradient_checkpointing,
        "processes": processes,
    }
    if recipe.task == "reward":
        return RewardPolicies(modules, **settings)
    return RoutedPolicies(modules, router, **settings) if router else Policies(modules, **settings)


def open_policies(
    recipe: Recipe,
    folders: Mapping[str, Path],
    tokenizer: Any,
    bases: SharedBase,
    *,
    trainable: tuple[str, ...] = (),
    router: Router | None = None,
) -> Policies:
    """Policies of adapters in PEFT folders, by name."""
    modules = Modules.load(
        bases.load(recipe), dict(folders), trainable=trainable, heads=recipe.task == "reward"
    )
    return make_policies(recipe, modules, tokenizer, bases.processes, router=router)
