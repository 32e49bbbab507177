"""The loop, in running order. Every recipe goes through it; nothing reorders it from outside.

for each batch off the stream, of which every process has its share:
  score it under the reference and every module      test: the metrics are of this moment
  losses and chase -> one backward pass              in micro-batches, weighted to the batch
  add up gradients and sums over the processes       so that all of them go on as one
  stop if anything is not finite                     before the update, with the batch saved
  clip and step each module's optimiser              then train
  settle who leads, write an event, measure, checkpoint
measure, write adapters and summary
"""

import math
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fastslow.config import Recipe
from fastslow.dynamics import follow
from fastslow.errors import UnreachableError
from fastslow.evaluation import Tally
from fastslow.scoring import Encoded
from fastslow.streams import is_replayed
from fastslow.training.build import MOVING, Run, reference_policy
from fastslow.training.data.dataset import eval_objective, temperature_of
from fastslow.training.loop.logps import confidences_of, logps_of, prepare, weights_of
from fastslow.training.loop.losses import ModuleLoss, add_measured, module_losses
from fastslow.training.loop.lr_schedule import Rates
from fastslow.training.loop.sanity_checks import (
    MovedTensors,
    check_finite,
    check_start,
    chosen_sinks,
)
from fastslow.training.loop.signals import Interrupted, StopRequest
from fastslow.training.loop.step_sums import StepSums
from fastslow.training.on_policy.critic import CRITIC
from fastslow.training.on_policy.online_reader import FreshReader
from fastslow.training.state.checkpoint import write_checkpoint
from fastslow.training.state.event_log import Event, EventLog, Listener

TESTED = ("accuracy", "loss")
SIDES = ("chosen_logp", "rejected_logp", "chosen_log_ratio", "rejected_log_ratio")
"""Null in the log where a batch has no such responses."""


class Loop:
    """Takes a run from its state to its end, or to the point where it is asked to stop."""

    def __init__(self, run: Run, folder: Path, log: EventLog, listener: Listener) -> None:
        self.run = run
        self.recipe: Recipe = run.recipe
        self.state = run.state
        self.folder = folder
        self._log = log
        self._listener = listener
        self._start = reference_policy(run.recipe)
        self._reference = MOVING if run.recipe.moving_reference else self._start
        self._rates = Rates(run.recipe, total_steps=run.total_steps)
        self._temperature = temperature_of(run.recipe)
        self._team = run.team
        self._clock = time.monotonic()
        # A resumed run's state is on disk already; step 0 of a new one is not.
        self._step_on_disk = run.state.step or None
        self.final: dict[str, Any] | None = None
        """The held-out measurement of the finished run."""

    def finish(self) -> bool:
        """Train and measure to the end; False if a signal stopped the run before it.

        A signal lets the step or measurement at hand finish; what is done is then on disk.
        """
        told = {"event": "stopping"}
        with StopRequest(lambda name: self._listener(told | {"signal": name})) as stop:
            if self.state.step == 0 and self.state.start is None:
                self.state.start = self._measure("start")
            stopped = not self._done() and self._train(stop)
            self._checkpoint()
            if stopped:
                self._tell({"event": "stopped", "step": self.state.step, "signal": stop.name})
                return False
            self.final = self._measure("final")
            self._take_time()
        return True

    def _train(self, stop: StopRequest) -> bool:
        """Step through the stream; whether a signal ended it."""
        batches: Any = iter(self.state.reader)  # A generator, which may hold a thread.
        with closing(batches):
            return self._learn(batches, stop)

    def _learn(self, batches: Iterator[list[Encoded]], stop: StopRequest) -> bool:
        while not self._team.any(stop.received):
            batch = self._next(batches, stop)
            if batch is None:
                return self._team.any(stop.received)
            self._test_what_is_shown()
            self._step(batch)
            if self._done():
                return False
            if self._due(self.recipe.eval.every):
                self._measure("eval")
            if self._due(self.recipe.checkpoint.every):
                self._checkpoint()
        return True

    def _next(self, batches: Iterator[list[Encoded]], stop: StopRequest) -> list[Encoded] | None:
        """The next batch; None at the end or when a signal came before the batch was full."""
        reader = self.state.reader
        position = reader.mark()
        try:
            # Where there are several processes, none may stop waiting alone.
            with stop.waiting() if self._team.size == 1 else nullcontext():
                return next(batches, None)
        except Interrupted:
            reader.go_back(position)
            return None
        except UnreachableError:
            reader.go_back(position)
            self._checkpoint()
            raise

    def _test_what_is_shown(self) -> None:
        """Where labels come late, the leader meets pairs long before it learns them."""
        if self.state.preview is None:
            return
        for batch in self.state.preview.due(self.state.step):
            tally = Tally()
            for micro, counts in self.run.micro.shares(batch):
                losses = self._losses(micro, ())
                if counts:
                    add_measured(tally, losses[self.state.race.leader])
            self._add_prequential(self._team.merged(tally))

    # One step, from scores to the next role.

    def _step(self, batch: list[Encoded]) -> None:
        state, started = self.state, time.monotonic()
        if state.step == 0:
            self._check_start(batch)
        if self._team.size > 1:  # A checkpoint keeps one generator, and dropout draws from each.
            torch.manual_seed(self._seed() + self._team.rank)
        names = state.race.modules
        rates = self._rates.of_step(state.step, state.race)
        updating = self._rates.updating(state.step, state.race)
        leader, objective = state.race.leader, self.run.objective
        add_gradients = partial(self._add_gradients, batch, updating)
        own = self.run.micro.fitting(add_gradients, undo=self._forget_gradients, tell=self._warn)
        sums = own.of_all(self._team)
        if state.remembered is not None:
            state.remembered.share(self._team)
        finite = partial(check_finite, step=state.step + 1, batch=batch, folder=self.folder)
        finite(sums.total, "loss")
        if state.preview is None:
            self._add_prequential(sums.tallies[leader])
        facts = {name: objective.facts(own.sums) for name, own in sums.observed.items()}
        if self._outgrown(facts[leader]):
            return
        sampled = self._add_online_kl(batch, updating)
        critics = self._add_critic(batch)
        for name in (*updating, *critics):
            self._team.add_up(state.modules.parameters(name).values())
        self._pull_to_anchor(updating)
        norms = {name: self._clip(name) for name in (*updating, *critics)}
        for name, norm in norms.items():
            finite(norm, f"gradient norm of module {name}")
        self._update({name: rates[name] for name in norms})

        state.step += 1
        state.pairs_seen += len(batch)
        means = {name: tally.means() for name, tally in sums.tallies.items()}
        for name, seen in sums.observed.items():
            state.running[name] = objective.advance(state.running[name], seen.sums, len(batch))
        state.race.record({name: tally.sums["loss"] for name, tally in sums.tallies.items()})
        swapped = state.race.finish_step()
        for item in batch:
            # Replayed ones are in a memory already; what only this policy learns from is in none.
            if not (is_replayed(item.example) or objective.on_policy):
                state.memory.add(item.example)
        self._tell(
            {
                "event": "step",
                "step": state.step,
                "pairs_seen": state.pairs_seen,
                "domains": Counter(item.example.domain for item in batch),
                "leader": leader,
                **dict.fromkeys(SIDES),
                **means[leader],
                "modules": {
                    name: {
                        "loss": means[name]["loss"],
                        "margin": means[name]["margin"],
                        "learning_rate": rates[name],
                        "grad_norm": norms.get(name),
                        **facts[name],
                        **sampled.get(name, {}),
                    }
                    for name in names
                },
                **critics,
                **state.reader.facts(),
                "pairs_per_s": len(batch) / (time.monotonic() - started),
            }
        )
        self._move_reference()
        if swapped:
            state.swaps += 1
            self._tell({"event": "swap", "step": state.step, "leader": state.race.leader})
        if state.drift is not None and state.drift.hear(sums.leader_losses):
            self._tell({"event": "drift", "step": state.step, "pairs_seen": state.pairs_seen})

    def _add_gradients(self, batch: list[Encoded], updating: tuple[str, ...]) -> StepSums:
        """Learn from this process's share of the batch, as far as gradients go."""
        race, sums = self.state.race, StepSums.of(self.state.race.modules)
        for micro, counts in self.run.micro.shares(batch):
            losses = self._losses(micro, updating)
            total = torch.stack([losses[name].total.sum() for name in updating]).sum()
            self.run.accelerator.backward(total * counts / len(batch))
            if counts:
                sums.add(losses, self.run.objective, race.leader, float(total.detach()))
        return sums

    def _outgrown(self, facts: Mapping[str, float]) -> bool:
        """Whether these answers teach no more; then new ones are asked for and nothing moves."""
        if not self.run.objective.outgrown(facts):
            return False
        assert isinstance(self.state.reader, FreshReader)
        self.state.reader.renew()
        self._forget_gradients()
        self._tell({"event": "outgrown", "step": self.state.step, **facts})
        return True

    def _add_critic(self, batch: list[Encoded]) -> dict[str, Any]:
        """Gradients of the critic, where there is one, and what was measured of it, by its name."""
        critic, backward = self.run.critic, self.run.accelerator.backward
        return {} if critic is None else {CRITIC: critic.add_gradients(batch, backward=backward)}

    def _move_reference(self) -> None:
        moving, modules = self.recipe.moving_reference, self.state.modules
        if moving is not None and self._due(moving.every):
            leader = modules.tensors(self.state.race.leader)
            follow([*modules.tensors(MOVING).values()], [*leader.values()], share=moving.share)

    def _add_online_kl(self, batch: list[Encoded], updating: tuple[str, ...]) -> dict[str, Any]:
        """Gradients of the KL on fresh answers; what was measured of each module's."""
        if self.run.online_kl is None:
            return {}
        backward, seed = self.run.accelerator.backward, self._seed()
        return self.run.online_kl.add_gradients(
            updating, batch, reference=self._reference, seed=seed, backward=backward
        )

    def _pull_to_anchor(self, updating: tuple[str, ...]) -> None:
        if self.run.anchor is not None:
            pull = torch.stack([self.run.anchor.penalty(name) for name in updating]).sum()
            self.run.accelerator.backward(pull)

    def _losses(self, items: list[Encoded], updating: tuple[str, ...]) -> dict[str, ModuleLoss]:
        policies, objective, state = self.run.policies, self.run.objective, self.state
        prepared = prepare(
            policies,
            objective,
            items,
            reference=self._reference,
            seed=self._seed(),
            temperature=self._temperature,
            remembered=state.remembered,
        )
        # Answers that are weighed by how likely they were were given without dropout.
        settings: dict[str, Any] = {
            "temperature": self._temperature,
            "dropout": not objective.on_policy,
        }
        logps = {
            name: logps_of(
                prepared,
                objective,
                partial(policies.measure, name, learning=name in updating, **settings),
                state=state.running[name],
            )
            for name in state.race.modules
        }
        device = prepared.batch.lengths.device
        return module_losses(
            logps,
            objective,
            state.race,
            alpha=self.recipe.chase.alpha if self.recipe.chase else 0.0,
            weight=weights_of(items, device),
            confidence=confidences_of(items, device),
        )

    def _seed(self) -> int:
        """Of the random numbers of this step."""
        return zlib.crc32(f"{self.recipe.seed}/{self.state.step}".encode())

    def _add_prequential(self, tally: Tally) -> None:
        tested = {key: tally.sums[key] for key in TESTED}
        self.state.prequential.add(tested, count=tally.count)

    def _check_start(self, batch: list[Encoded]) -> None:
        """The gate of the first step, on its first micro-batch and without dropout."""
        policies, recipe = self.run.policies, self.recipe
        trees = policies.batch([item.tree for item in self.run.micro.split(batch)[0]])
        scores = {name: policies.score(name, trees) for name in self.state.race.modules}
        starts_at_reference = recipe.lora.start_from is None or recipe.reference_name == "previous"
        reference = policies.score(self._reference, trees) if starts_at_reference else None
        check_start(scores, reference)

    def _clip(self, name: str) -> float:
        """Clip the module's gradient; its norm before that."""
        limit = self.recipe.train.clip_norm
        parameters = list(self.state.modules.parameters(name).values())
        norm = self.run.accelerator.clip_grad_norm_(parameters, limit or math.inf)
        return float(norm)

    def _update(self, rates: Mapping[str, float]) -> None:
        """Step the optimiser of each module that has a learning rate here."""
        state, modules = self.state, self.state.modules
        first = (
            MovedTensors(modules, tuple(rates), decay=self.recipe.train.weight_decay > 0)
            if state.step == 0
            else None
        )
        for name, rate in rates.items():
            optimizer = state.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        if first is not None:
            first.check()
        self._forget_gradients()

    def _forget_gradients(self) -> None:
        for optimizer in self.state.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    # What is checked, measured and kept.

    def _done(self) -> bool:
        """Whether the run has come to its end before the stream has."""
        limit, drift = self.recipe.train.max_steps, self.state.drift
        return (limit is not None and self.state.step >= limit) or bool(drift and drift.found)

    def _due(self, every: int | None) -> bool:
        return every is not None and self.state.step % every == 0

    def _measure(self, moment: str) -> dict[str, Any] | None:
        run, leader = self.run, self.state.race.leader
        if run.heldout is None:
            return None
        measured = run.heldout.measure(
            run.policies,
            leader,
            reference=self._start,
            objective=eval_objective(self.recipe),
            state=self.state.of_heldout.get(leader),
            progress=lambda done, total: self._listener(
                {"event": "progress", "task": f"measuring ({moment})", "done": done, "total": total}
            ),
        )
        result = asdict(measured)
        where = {"step": self.state.step, "leader": leader}
        self._tell({"event": "eval", "moment": moment, **where, **result})
        sinking = self.recipe.trains == "policy" and chosen_sinks(measured.chosen_log_ratio)
        if sinking:
            self._warn(sinking)
        return result

    def _checkpoint(self) -> None:
        state = self.state
        if state.step == self._step_on_disk:
            return
        self._team.check_same(state.modules.digest(*state.modules.trainable))
        self._take_time()
        state.log_size = self._log.sync()
        path = write_checkpoint(
            self.folder / "checkpoints",
            state.step,
            state.snapshot(),
            keep=self.recipe.checkpoint.keep,
        )
        self._step_on_disk = state.step
        self._listener({"event": "checkpoint", "step": state.step, "path": str(path)})

    def _take_time(self) -> None:
        now = time.monotonic()
        self.state.wall_s += now - self._clock
        self._clock = now

    def _warn(self, message: str) -> None:
        self._tell({"event": "warning", "step": self.state.step, "message": message})

    def _tell(self, event: Event) -> None:
        self._log.write(event)
        self._listener(event)
