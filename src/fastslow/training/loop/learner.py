"""One training step on one batch, from scores to the next leader. It returns its metrics.

score the batch under the reference and every module   test: metrics from before the update
losses and chase -> one backward pass                   in micro-batches, weighted to the batch
sum gradients and metrics over the processes            so that all stay identical
stop if anything is not finite                          before the update, with the batch saved
clip and step each module's optimiser                   then train
select the leader
"""

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from fastslow.config import Recipe
from fastslow.dynamics import ema_update
from fastslow.errors import NonFiniteError
from fastslow.evaluation import MetricSums
from fastslow.objectives import Objective
from fastslow.scoring import Encoded
from fastslow.streams import is_replayed
from fastslow.training.budget.budget import Budget, Kept
from fastslow.training.data.requirements import is_undecided
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.loop.gradient_terms import GradientTerm, TermContext
from fastslow.training.loop.losses import BatchLosses, add_measured
from fastslow.training.loop.lr_schedule import LrSchedule
from fastslow.training.loop.sanity_checks import MovedTensors, check_finite, check_start
from fastslow.training.loop.step_sums import StepResult, StepSums
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.policies.loading import MOVING
from fastslow.training.policies.policies import Policies
from fastslow.training.state.checkpoint import Snapshot
from fastslow.training.state.state import TrainingState

TESTED = ("accuracy", "loss")


class Learner:
    """Learns from one batch after another.

    Args:
        recipe: an ordinary run's.
        policies: of the modules that learn and their reference.
        objective: what is minimised.
        reference: name of the policy that the objective compares with.
        state: everything that changes.
        micro_batches: the micro-batch size.
        terms: gradients besides those of the objective.
        budget: keeps the modules near where they started.
        schedule: learning rates.
        accelerator: backward passes and clipping.
        temperature: of the log-probs.
        failures: folder for a batch that gave a number that is not finite.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        policies: Policies,
        objective: Objective,
        reference: str,
        state: TrainingState,
        micro_batches: MicroBatches,
        terms: Sequence[GradientTerm],
        budget: Budget | None,
        schedule: LrSchedule,
        accelerator: Accelerator,
        temperature: float,
        failures: Path,
    ) -> None:
        self.recipe = recipe
        self.policies = policies
        self.objective = objective
        self.state = state
        self.micro_batches = micro_batches
        self.accelerator = accelerator
        self.budget = budget
        self._reference = reference
        self._losses = BatchLosses(
            recipe, policies, state, micro_batches, reference=reference, temperature=temperature
        )
        self._terms = tuple(terms)
        self._schedule = schedule
        self._failures = failures
        self._seen_learning = True

    @property
    def leader(self) -> str:
        """The module that answers now."""
        return self.state.selector.leader

    @property
    def processes(self) -> ProcessGroup:
        """Those that learn together, each from its share of every batch."""
        return self.policies.processes

    def snapshot(self) -> Snapshot:
        """A copy of everything that changes, the position of the reader included."""
        return self.state.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Become what a snapshot was taken of, bit for bit; a running reader goes back with it."""
        self.state.restore(snapshot)

    def test(self, batch: Sequence[Encoded]) -> None:
        """Add a batch to the test-then-train metrics without learning from it."""
        sums = MetricSums()
        baselines = self._losses.baselines(self.objective, batch, lambda attempt: attempt())
        for items, is_real in self.micro_batches.shares(batch):
            losses = self._losses.of(self.objective, items, (), baselines, seed=self._seed())
            if is_real:
                add_measured(sums, losses[self.leader])
        self._add_prequential(self.processes.merged(sums))

    def step(self, batch: Sequence[Encoded], *, full: int = 1) -> StepResult:
        """Learn from a batch of one or more examples; each of fewer than `full` counts as one of
        that many.

        Raises NonFiniteError where a loss or a gradient is not finite and such batches are not set
        aside, StateError where the first update is wrong or no micro-batch fits into memory.
        """
        batch = list(batch)
        self._prepare_step(batch)
        updating = self._schedule.updating(self.state.step, self.state.selector)
        warnings: list[str] = []
        count = max(full, len(batch))
        sums = self._backward(batch, updating, count, warnings.append)
        result = partial(
            StepResult, num_examples=len(batch), leader=self.leader, warnings=tuple(warnings)
        )
        try:
            self._check_finite(sums.total, "loss", batch)
            measured = {
                name: self.objective.metrics(own.sums) for name, own in sums.observed.items()
            }
            if self.objective.exceeds_max_ratio(measured[self.leader]):
                return result(step=self.state.step, metrics=measured[self.leader], updated=False)
            of_terms = self._add_terms(batch, updating)
            norms = self._clip(updating, batch, count)
        except NonFiniteError as error:
            if not self.recipe.train.skip_non_finite:
                raise
            self.state.set_aside += len(batch)
            told = (*warnings, f"batch skipped: {error}")
            return result(step=self.state.step, updated=False, warnings=told)
        if self.state.delayed_labels is None:
            self._add_prequential(sums.metrics[self.leader])
        rates = self._schedule.at(self.state.step, self.state.selector, paces=self.state.paces)
        self._update({name: rates[name] for name in norms}, batch)
        means = {name: own.means() for name, own in sums.metrics.items()}
        modules = {
            name: {
                "loss": means[name]["loss"],
                "margin": means[name]["margin"],
                "learning_rate": rates[name],
                "grad_norm": norms.get(name),
                **measured[name],
                **of_terms.pop(name, {}),
            }
            for name in self.state.selector.modules
        }
        metrics = means[self.leader]
        swapped, drifted = self._finish_step(batch, sums)
        kept = self._keep_within(batch)
        return result(
            step=self.state.step,
            metrics=metrics,
            modules=modules | of_terms,
            swapped=swapped or kept.changed,
            drifted=drifted,
            beyond_budget=kept.beyond,
        )

    def _prepare_step(self, batch: list[Encoded]) -> None:
        self.micro_batches.check_whole(len(batch))
        self._zero_grad()  # Of a step that did not come to its end.
        if self.state.step == 0:
            self._check_start(batch)
            self._seen_learning = False
        if self.processes.size > 1:
            # A checkpoint keeps one generator, but dropout uses the generator of each process.
            torch.manual_seed(self._seed() + self.processes.rank)

    def _backward(
        self,
        batch: list[Encoded],
        updating: tuple[str, ...],
        count: int,
        warn: Callable[[str], None],
    ) -> StepSums:
        """Gradients of this process's share of the batch, and the sums over all processes."""
        retry = partial(self.micro_batches.retry_on_oom, undo=self._zero_grad, warn=warn)
        baselines = self._losses.baselines(self.objective, batch, retry)
        own = retry(partial(self._add_gradients, batch, updating, count, baselines))
        if self.state.reference_cache is not None:
            self.state.reference_cache.share()
        return own.of_all(self.processes)

    def _add_gradients(
        self,
        batch: list[Encoded],
        updating: tuple[str, ...],
        count: int,
        baselines: Mapping[str, float],
    ) -> StepSums:
        sums, objective = StepSums.of(self.state.selector.modules), self.objective
        for items, is_real in self.micro_batches.shares(batch):
            losses = self._losses.of(objective, items, updating, baselines, seed=self._seed())
            total = torch.stack([losses[name].total.sum() for name in updating]).sum()
            self.accelerator.backward(total * is_real / count)
            if is_real:
                sums.add(losses, objective, self.leader, float(total.detach()))
        return sums

    def _add_terms(self, batch: list[Encoded], updating: tuple[str, ...]) -> dict[str, Any]:
        """Add the gradient terms, sum all gradients over the processes; returns the metrics."""
        backward = self.accelerator.backward
        context = TermContext(batch, updating, self._seed(), backward)
        measured: dict[str, Any] = {}
        for term in self._ordered(summed=True):
            measured |= term.add_gradients(context)
        for name in (*updating, *self._extra_modules):
            self.processes.all_reduce_gradients(self.state.modules.parameters(name).values())
        for term in self._ordered(summed=False):
            measured |= term.add_gradients(context)
        return measured

    def _ordered(self, *, summed: bool) -> Iterable[GradientTerm]:
        return (term for term in self._terms if term.summed == summed)

    @property
    def _extra_modules(self) -> tuple[str, ...]:
        return tuple(name for term in self._terms for name in term.modules)

    def _clip(self, updating: tuple[str, ...], batch: list[Encoded], of: int) -> dict[str, float]:
        """Clip each module's gradient, a smaller part `of` a batch to less; their norms before."""
        limit = (self.recipe.train.max_grad_norm or math.inf) * len(batch) / of
        norms = {}
        for name in (*updating, *self._extra_modules):
            parameters = list(self.state.modules.parameters(name).values())
            norms[name] = float(self.accelerator.clip_grad_norm_(parameters, limit))
        for name, norm in norms.items():
            self._check_finite(norm, f"gradient norm of module {name}", batch)
        return norms

    def _check_finite(self, value: float, what: str, batch: list[Encoded]) -> None:
        check_finite(value, what, step=self.state.step + 1, batch=batch, folder=self._failures)

    def _update(self, rates: Mapping[str, float], batch: list[Encoded]) -> None:
        """Step the optimiser of each module that has a learning rate here."""
        state, decay = self.state, self.recipe.train.weight_decay > 0
        first = None
        if not self._seen_learning:
            first = MovedTensors(state.modules, tuple(rates), decay=decay)
        for name, rate in rates.items():
            optimizer = state.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        if first is not None:
            undecided = all(is_undecided(item.example) for item in batch)
            self._seen_learning = first.check(undecided=undecided)
        self._zero_grad()

    def _finish_step(self, batch: list[Encoded], sums: StepSums) -> tuple[bool, bool]:
        """Count the step and select the leader; whether that changed, and whether it drifts."""
        state, objective = self.state, self.objective
        state.step += 1
        state.pairs_seen += len(batch)
        for name, seen in sums.observed.items():
            state.running[name] = objective.advance(state.running[name], seen.sums, len(batch))
        state.selector.record({name: own.sums["loss"] for name, own in sums.metrics.items()})
        swapped = state.selector.finish_step()
        state.swaps += swapped
        for item in batch:
            # Replayed ones are in a buffer already; what only this policy learns from is in none.
            if not (is_replayed(item.example) or objective.on_policy):
                state.replay_buffer.add(item.example)
        self._move_reference()
        drifted = state.drift is not None and state.drift.update(sums.leader_losses)
        return swapped, drifted

    def _keep_within(self, batch: list[Encoded]) -> Kept:
        state = self.state
        if self.budget is None:
            return Kept({}, False)
        kept = self.budget.keep_within(batch, state.selector, step=state.step, seed=self._seed())
        state.swaps += kept.changed
        return kept

    def _move_reference(self) -> None:
        moving, modules = self.recipe.moving_reference, self.state.modules
        if moving is not None and self.state.step % moving.every == 0:
            leader = modules.tensors(self.leader)
            ema_update([*modules.tensors(MOVING).values()], [*leader.values()], share=moving.share)

    def _seed(self) -> int:
        """Of the random numbers of this step."""
        return zlib.crc32(f"{self.recipe.seed}/{self.state.step}".encode())

    def _add_prequential(self, sums: MetricSums) -> None:
        tested = {key: sums.sums[key] for key in TESTED}
        self.state.prequential.add(tested, count=sums.count)

    def _check_start(self, batch: list[Encoded]) -> None:
        """Before the first step, on its first micro-batch and without dropout."""
        policies, recipe = self.policies, self.recipe
        trees = policies.batch([item.tree for item in self.micro_batches.split(batch)[0]])
        scores = {name: policies.score(name, trees) for name in self.state.selector.modules}
        starts_at_reference = recipe.lora.start_from is None or recipe.reference_name == "previous"
        reference = policies.score(self._reference, trees) if starts_at_reference else None
        check_start(scores, reference)

    def _zero_grad(self) -> None:
        for optimizer in self.state.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
