"""A learner for a loop of your own: rows in, one step at a time, no run folder."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE
from fastslow.api.base import LearnerBase, RandomState
from fastslow.api.identity import differences, identity_of
from fastslow.api.intake import Intake
from fastslow.api.options import (
    default_length,
    learner_objective,
    learner_recipe,
    objective_section,
)
from fastslow.api.other_objective import other_objective
from fastslow.api.policy import PolicyMethods
from fastslow.api.view import View, names_of
from fastslow.api.within_budget import copy_within, pulled_back
from fastslow.atomic_io import new_folder
from fastslow.config import BudgetConfig, ChaseConfig, MovingReferenceConfig, Recipe
from fastslow.errors import ConfigError, StateError
from fastslow.scoring import Encoder
from fastslow.training.build import build_learner
from fastslow.training.data.dataset import objective_of
from fastslow.training.loop.step_sums import StepResult
from fastslow.training.policies.loading import make_modules, make_policies, reference_policy
from fastslow.training.state.checkpoint import Snapshot, read_newest, write_checkpoint

CHASING = ChaseConfig()
BUDGET = BudgetConfig()


class Learner(PolicyMethods):
    """Learns preferences online: LoRA modules, fast and slow, on one frozen model.

    The model's weights are never changed. A model object gets LoRA layers, which are switched off
    outside of the learner's own calls; `unload` takes them off. It stays on its device.

    Args:
        model: a causal LM of transformers, a folder, or a hub id.
        tokenizer: of transformers; may be left out for a folder or a hub id.
        objective: a name (`fastslow.objective_names()`), an Objective, a class that derives from
            it, or a function from PairLogps to the loss of each pair, a tensor [B].
        peft_config: PEFT's LoraConfig, of which r, lora_alpha, lora_dropout and target_modules are
            used; without target_modules all linear layers. Default: rank 16, alpha 32.
        chase: fast-slow chasing; None trains one module.
        learning_rate: of the fast or only module; it stays constant after the warm-up.
        optimizer: `adamw`, `rmsprop` or `sgd`.
        weight_decay: of the optimizer.
        warmup_steps: steps over which the learning rate rises.
        max_grad_norm: largest gradient norm of each module; None does not clip.
        micro_batch_size: rows per forward pass, the same update; None, as beta_dpo needs, is all.
        max_length: longest prompt plus response, tokens; longer ones are truncated. Default: the
            model's context, at most 1024.
        template: `chat` writes text prompts with the chat template, `plain` leaves them alone.
        precision: `float32`, `mixed`, `bfloat16` or `auto`. Default: what the model object is in.
        gradient_checkpointing: less memory, more time, the same update.
        skip_non_finite: set a batch aside whose loss or gradient is not finite, with a warning.
        budget: largest reverse KL of what is saved; None saves modules as they are.
        moving_reference: has the reference follow the policy.
        start_from: a PEFT folder that all modules start from.
        reference: `base`, or with `start_from` also `previous`, which is its default.
        seed: of the modules' first weights, dropout and sampling.
        output_dir: where a batch is written that gave a number which is not finite.
        trust_remote_code: let a model folder run its own code.
        load_in_4bit: quantise a model folder on loading.
        **settings: the objective's, such as beta.

    Raises ConfigError with all that is wrong.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        objective: Any = "dpo",
        peft_config: Any = None,
        chase: ChaseConfig | Mapping[str, Any] | None = CHASING,
        learning_rate: float = 1e-4,
        optimizer: str = "adamw",
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        max_grad_norm: float | None = 1.0,
        micro_batch_size: int | None = None,
        max_length: int | None = None,
        template: str = "chat",
        precision: str | None = None,
        gradient_checkpointing: bool = False,
        skip_non_finite: bool = False,
        budget: BudgetConfig | Mapping[str, Any] | None = BUDGET,
        moving_reference: MovingReferenceConfig | Mapping[str, Any] | None = None,
        start_from: str | None = None,
        reference: str | None = None,
        seed: int = 0,
        output_dir: str = "runs/learner",
        trust_remote_code: bool = False,
        load_in_4bit: bool = False,
        **settings: Any,
    ) -> None:
        arguments = list(inspect.signature(Learner).parameters)
        made = learner_objective(objective, settings, arguments)
        self._base = LearnerBase(model, tokenizer, trust_remote_code=trust_remote_code)
        self._whole = micro_batch_size is None
        recipe = learner_recipe(
            self._base.name,
            objective=objective_section(objective, settings),
            peft_config=peft_config,
            chase=chase,
            learning_rate=learning_rate,
            optimizer=optimizer,
            weight_decay=weight_decay,
            warmup_steps=warmup_steps,
            max_grad_norm=max_grad_norm,
            micro_batch_size=micro_batch_size,
            max_length=max_length or default_length(self._base.context),
            template=template,
            precision=precision or self._base.precision,
            gradient_checkpointing=gradient_checkpointing,
            skip_non_finite=skip_non_finite,
            budget=budget,
            moving_reference=moving_reference,
            start_from=start_from,
            reference=reference,
            seed=seed,
            output_dir=output_dir,
            trust_remote_code=trust_remote_code,
            load_in_4bit=load_in_4bit,
        )
        self._build(recipe, made)

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> "Learner":
        """A learner with the settings of a recipe, which says nothing of its data."""
        made = cls.__new__(cls)
        made._base = LearnerBase(recipe.model, None, trust_remote_code=recipe.trust_remote_code)
        made._whole = recipe.train.micro_batch_size is None
        made._build(recipe, objective_of(recipe))
        return made

    def _build(self, recipe: Recipe, objective: Any) -> None:
        base = self._base
        encoder = Encoder(
            base.tokenizer,
            max_length=recipe.data.max_length,
            template=recipe.data.template,
            end_ids=base.end_ids,
            template_settings=recipe.data.chat_template_kwargs,
            num_embeddings=base.num_embeddings,
        )
        self._intake = Intake(encoder, objective)
        with base.attaching(recipe) as model:
            modules = make_modules(recipe, model, critic=False)
            policies = make_policies(recipe, modules, base.tokenizer, base.processes)
            self.core = build_learner(recipe, objective, encoder, policies, reader=self._intake)
        self._opened = View(
            recipe, base.tokenizer, encoder, policies, reference_policy(recipe), {}, objective
        )
        self._random = RandomState(recipe.seed)
        self._beside: tuple[str, ...] = ()

    @property
    def leader(self) -> str:
        """The module that answers now."""
        return self.core.leader

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the trained modules, the fastest first."""
        return self.core.state.selector.modules

    @property
    def encoder(self) -> Encoder:
        """Turns rows and prompts into tokens, as the recipe says."""
        return self._opened.encoder

    @property
    def num_steps(self) -> int:
        """Optimiser steps so far."""
        return self.core.state.step

    @property
    def skipped(self) -> int:
        """Rows and examples so far that were handed to `step` and not learned from."""
        counts = self._intake.summary()
        names = ("invalid", "skipped", "ties", "dropped", "missing_fields")
        return sum(counts[name] for name in names)

    @property
    def skipped_examples(self) -> list[str]:
        """The first 20 of them, as `rows:number: reason`; rows count from the first batch on."""
        return list(self._intake.shown)

    @property
    def summary(self) -> dict[str, Any]:
        """Steps, examples, swaps, leader, test-then-train means (loss, accuracy), and `data`: what
        became of the rows, by count."""
        state = self.core.state
        return {
            "steps": state.step,
            "examples_seen": state.pairs_seen,
            "swaps": state.swaps,
            "leader": self.leader,
            "set_aside": state.set_aside,
            "prequential": state.prequential.means() if state.prequential.count else {},
            "data": self._intake.summary(),
        }

    def step(self, batch: Any, *, full: int = 1) -> StepResult:
        """Test on a batch, then learn from it: one optimiser step.

        Args:
            batch: rows (dicts in TRL's formats), Examples, as `fastslow.batches` gives them, or
                Encoded.
            full: rows of a full batch. Each row of a smaller one counts as in a full one: otherwise
                few rows would move the modules as far as many.

        Returns what was measured before the update: `metrics` of the leader (loss, accuracy, margin
        and log-probs in nats), `modules` of each, whether the lead `swapped`. Its `warnings` name
        every row that was skipped, and at the first step the columns that are not used.

        Raises DataError where the batch has no usable example, NonFiniteError where a loss
        or gradient is not finite, StateError where it is out of memory at one example.
        """
        kept, told = self._intake.encode(batch)
        sizes = self.core.micro_batches
        if self._whole:
            sizes.size = max(sizes.size, len(kept))
        size = sizes.size
        with self._random.active():
            result = self.core.step(kept, full=full)
        self._whole = self._whole and sizes.size == size  # Fewer since it was out of memory.
        return replace(result, warnings=(*result.warnings, *told))

    @contextmanager
    def with_objective(self, objective: Any, **settings: Any) -> Iterator[None]:
        """Inside, `step` learns with another objective, as `kto` from ratings."""
        made = learner_objective(objective, settings, ["objective"])
        with self._intake.of(made), other_objective(self.core, made):
            yield

    def snapshot(self) -> Snapshot:
        """A copy in memory of everything that changes; later steps leave it alone."""
        with self._random.active():
            found = self.core.snapshot()
        return Snapshot(found.tensors, {**found.facts, "learner": identity_of(self.core)})

    def restore(self, snapshot: Snapshot) -> None:
        """Become what a snapshot was taken of, bit for bit.

        Raises StateError for a snapshot of a learner with other settings or another model.
        """
        theirs = snapshot.facts.get("learner") or {}
        if changed := differences(theirs, identity_of(self.core)):
            raise StateError(
                f"the checkpoint is of another learner, which differs in {', '.join(changed)}; "
                "make the learner with the settings that it had"
            )
        with self._random.active():
            self.core.restore(snapshot)

    def save_checkpoint(self, folder: str | Path, *, keep: int = 2) -> Path:
        """Write everything that changes into `folder/step-NUMBER`; that folder.

        It is written whole or not at all; of older ones the newest `keep - 1` stay.
        """
        if keep < 1:
            raise ConfigError(f"keep: got {keep}; must be 1 or more")
        to = Path(folder)
        to.mkdir(parents=True, exist_ok=True)
        return write_checkpoint(to, self.num_steps, self.snapshot(), keep=keep)

    def load_checkpoint(self, folder: str | Path) -> int:
        """Resume from the newest complete checkpoint in a folder, bit for bit; its step.

        A damaged one is skipped with a warning. Raises StateError where there is none, or where
        it is of a learner with other settings.
        """
        snapshot, faults = read_newest(Path(folder))
        for fault in faults:
            warnings.warn(f"checkpoint skipped: {fault}", stacklevel=2)
        if snapshot is None:
            raise StateError(f"{folder} holds no complete checkpoint; give a folder that has one")
        self.restore(snapshot)
        return self.num_steps

    def save_pretrained(self, folder: str | Path, *, module: str = "leader") -> Path:
        """Write a module as a PEFT folder with the tokenizer, whole or not at all; that folder.

        A module beyond the budget is written scaled down to it, with a warning, and learns on as it
        is. An adapter that is there is replaced. Raises ConfigError for a folder of something else.
        """
        name, to = self._view().policy(module), Path(folder)
        if name == BASE:
            raise ConfigError(f"module: {module!r} is the base model, which has no adapter")
        if to.is_dir() and any(to.iterdir()) and not (to / "adapter_config.json").exists():
            raise ConfigError(f"{to} holds other files; give a folder that does not exist")
        with new_folder(to) as draft, self._random.active(), copy_within(self.core, name):
            self.core.policies.modules.save(name, draft)
            self._base.tokenizer.save_pretrained(str(draft))
        return to

    def pull_back(self) -> dict[str, float]:
        """Scale every module down until it is within the budget, and learn on from there, slower
        with those that had to be by more than a tenth; what each was multiplied by, 1 for
        nothing."""
        with self._random.active():
            return pulled_back(self.core)

    @contextmanager
    def beside(self, folders: Mapping[str, str | Path]) -> Iterator[None]:
        """Inside, adapters in PEFT folders answer and are scored too, by the names given here.

        Raises ConfigError for a name that is taken, and a folder that holds no adapter of this
        model.
        """
        modules, added = self.core.policies.modules, list[str]()
        if taken := sorted({*folders} & {*self._view().names}):
            raise ConfigError(
                f"folders: the learner itself has {', '.join(taken)}; give it another name"
            )
        try:
            for name, folder in folders.items():
                modules.add(name, Path(folder))
                added.append(name)
            self._beside = tuple(added)
            yield
        finally:
            self._beside = ()
            for name in added:
                modules.remove(name)

    def unload(self) -> Any:
        """Take the LoRA layers off; the model as it was. The learner cannot be used afterwards."""
        model = self.core.policies.modules.causal_lm
        self._base.detach(model)
        return model

    def _view(self) -> View:
        return replace(
            self._opened,
            names=names_of((*self.modules, *self._beside), self.leader, self._opened.reference),
            running=self.core.state.of_heldout,
        )
