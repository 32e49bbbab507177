"""The training loop: batches to the learner, its metrics to the log, and a clean stop.

for each batch of the reader, sharded over the processes:
  learner.step(batch)                          test, then train
  write an event                               leader and metrics
  evaluate and checkpoint where they are due
evaluate, checkpoint
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from fastslow.errors import UnreachableError
from fastslow.evaluation import degradation
from fastslow.scoring import Encoded
from fastslow.training.budget.budget import HandedOver
from fastslow.training.loop.components import Components
from fastslow.training.loop.signals import StopToken
from fastslow.training.loop.step_sums import StepResult
from fastslow.training.policies.loading import reference_policy
from fastslow.training.policies.publish import publish_module
from fastslow.training.state.checkpoint import write_checkpoint
from fastslow.training.state.event_log import EventLog, Listener, progress_of
from fastslow.training.state.events import (
    BudgetEvent,
    EvalEvent,
    Event,
    PublishedEvent,
    StepEvent,
)
from fastslow.training.state.inputs import note_data

SIDES = ("chosen_logp", "rejected_logp", "chosen_log_ratio", "rejected_log_ratio")
"""Null in the log where a batch has no such responses."""


class Loop:
    """Takes a run from its state to its end, or to the point where it is asked to stop."""

    def __init__(
        self,
        components: Components,
        folder: Path,
        log: EventLog,
        listener: Listener,
        stop: StopToken,
    ) -> None:
        self.components = components
        self.learner = components.learner
        self.state = components.learner.state
        self._recipe = components.recipe
        self._processes = components.learner.processes
        self._folder = folder
        self._log = log
        self._listener = listener
        self._stop = stop
        self._clock = time.monotonic()
        # A resumed run's state is on disk already; step 0 of a new one is not.
        self._step_on_disk = self.state.step or None
        self.final: dict[str, Any] | None = None
        """The held-out metrics of the finished run."""
        self.handed_over: HandedOver | None = None
        """How the finished run's leader came to be within its budget."""
        self.degradation: str | None = None
        """What the last evaluation warned of."""

    def finish(self) -> bool:
        """Train and evaluate to the end; False if it was stopped before.

        A stop finishes the current step or evaluation and writes a checkpoint.
        """
        if self.state.step == 0 and self.state.start is None:
            self.state.start = self._evaluate("start")
        stopped = not self._done() and self._train()
        self._checkpoint()
        if stopped:
            reason = self._stop.reason
            self._emit({"event": "stopped", "step": self.state.step, "signal": reason})
            return False
        for message in self.components.reader.last_warnings():
            self._warn(message)
        self._hand_over()
        self.final = self._evaluate("final")
        self._take_time()
        return True

    def _hand_over(self) -> None:
        """Scale the leader down to the budget, where there is one."""
        budget, leader = self.learner.budget, self.learner.leader
        if budget is None or not self.state.step:
            return
        self.handed_over = budget.hand_over(leader)
        if self.handed_over.strength < 1:
            told = {"event": "budget", "step": self.state.step, **self.handed_over.facts()}
            self._emit(cast(BudgetEvent, told))

    def _train(self) -> bool:
        """Step through the stream; returns whether a stop was requested."""
        self._evaluate_if_due()  # Where the run was stopped before it, or the judge failed.
        with closing(iter(self.components.reader)) as batches:
            return self._learn_all(batches)

    def _learn_all(self, batches: Iterator[list[Encoded]]) -> bool:
        while not self._processes.any(self._stop.received):
            batch = self._next(batches)
            if batch is None:
                return self._processes.any(self._stop.received)
            if not self._learn(batch):
                continue
            done = self._done()
            # Before a checkpoint, which is to know of it.
            self.state.evaluation_due = not done and self._due(self._recipe.eval.every)
            if self._recipe.publish is not None and self._due(self._recipe.publish.every):
                self._checkpoint()  # What others can load is not lost here.
                self._publish(self._recipe.publish.keep)
            if done:
                return False
            self._evaluate_if_due()
            if self._due(self._recipe.checkpoint.every):
                self._checkpoint()
        return True

    def _next(self, batches: Iterator[list[Encoded]]) -> list[Encoded] | None:
        """The next batch; None at the end, or if a stop was requested before it was full."""
        reader = self.components.reader
        position = reader.position()
        try:
            while True:
                batch = next(batches, None)
                # Several processes stop together, before the next batch.
                if self._stop.received and self._processes.size == 1:
                    reader.seek(position)
                    return None
                if batch != []:  # A live source that has nothing for now gives an empty one.
                    return batch
        except UnreachableError:
            reader.seek(position)
            self._checkpoint()
            raise

    def _learn(self, batch: list[Encoded]) -> bool:
        """Test and learn one batch; whether there was an update."""
        for shown in self._shown_meanwhile():
            self.learner.test(shown)
        began = time.monotonic()
        result = self.learner.step(batch)
        for message in (*self.components.reader.take_warnings(), *result.warnings):
            self._warn(message)
        if not result.updated:
            self._not_updated(result)
            return False
        self._emit(self._step_event(batch, result, began))
        if result.beyond_budget:
            far = dict(result.beyond_budget)
            self._emit({"event": "beyond_budget", "step": result.step, "modules": far})
        if result.swapped:
            self._emit({"event": "swap", "step": result.step, "leader": self.learner.leader})
        if result.drifted:
            seen = self.state.pairs_seen
            self._emit({"event": "drift", "step": result.step, "pairs_seen": seen})
        return True

    def _shown_meanwhile(self) -> Iterator[list[Encoded]]:
        """Where labels come late, the leader meets pairs long before it learns them."""
        delayed = self.components.delayed_labels
        yield from delayed.due(self.state.step) if delayed else ()

    def _not_updated(self, result: StepResult) -> None:
        if result.metrics:  # Nothing more to learn from these completions.
            self.components.reader.renew()
            deviation = result.metrics["ratio_deviation"]
            self._emit(
                {
                    "event": "exceeded_max_ratio",
                    "step": result.step,
                    "ratio_deviation": deviation,
                }
            )

    def _step_event(self, batch: list[Encoded], result: StepResult, began: float) -> StepEvent:
        modules = self.state.selector.modules
        others = {name: own for name, own in result.modules.items() if name not in modules}
        event: dict[str, Any] = {
            "event": "step",
            "step": result.step,
            "pairs_seen": self.state.pairs_seen,
            "domains": Counter(item.example.domain for item in batch),
            "leader": result.leader,
            **dict.fromkeys(SIDES),
            **result.metrics,
            "modules": {name: dict(result.modules[name]) for name in modules},
            **others,
            **self.components.reader.metrics(),
            "pairs_per_s": len(batch) / (time.monotonic() - began),
        }
        return cast(StepEvent, event)

    def _done(self) -> bool:
        """Whether the run has come to its end before the stream has."""
        limit, drift = self._recipe.train.max_steps, self.state.drift
        return (limit is not None and self.state.step >= limit) or bool(drift and drift.found)

    def _due(self, every: int | None) -> bool:
        return every is not None and self.state.step % every == 0

    def _evaluate_if_due(self) -> None:
        if self.state.evaluation_due:
            try:
                self._evaluate("eval")
            except UnreachableError:
                self._checkpoint()
                raise
            self.state.evaluation_due = False

    def _evaluate(self, moment: str) -> dict[str, Any] | None:
        evaluator, leader = self.components.evaluator, self.learner.leader
        if evaluator is None:
            return None
        result = evaluator.evaluate(
            self.learner.policies,
            leader,
            reference=reference_policy(self._recipe),
            state=self.state.of_heldout.get(leader),
            progress=progress_of(self._listener, f"evaluating ({moment})"),
        )
        measured = asdict(result)
        where = {"event": "eval", "moment": moment, "step": self.state.step, "leader": leader}
        self._emit(cast(EvalEvent, {**where, **measured}))
        if moment != "start":
            self._warn_of_degradation(measured, evaluator.num_answers)
        return measured

    def _warn_of_degradation(self, measured: Mapping[str, Any], num_answers: int) -> None:
        of_rewards = self._recipe.task == "reward"
        self.degradation = degradation(
            measured, self.state.start, num_answers=num_answers, rewards=of_rewards
        )
        if self.degradation:
            self._warn(self.degradation)

    def _checkpoint(self) -> None:
        state = self.state
        if state.step == self._step_on_disk:
            return
        self._processes.check_same(state.modules.digest(*state.modules.trainable))
        self._take_time()
        if self.components.stream.rows.live:
            # First: what a checkpoint has learned must still be there when it is resumed.
            note_data(self._folder, self.components.stream.rows.sources)
        state.log_size = self._log.sync()
        path = write_checkpoint(
            self._folder / "checkpoints",
            state.step,
            self.learner.snapshot(),
            keep=self._recipe.checkpoint.keep,
        )
        self._step_on_disk = state.step
        self._listener({"event": "checkpoint", "step": state.step, "path": str(path)})

    def _publish(self, keep: int) -> None:
        """Write the leader, scaled down to its budget, where others can load it."""
        state, leader, folder = self.state, self.learner.leader, self._folder / "published"
        path = folder / f"step-{state.step:08d}"
        handed = self.learner.budget.hand_over(leader) if self.learner.budget else None
        publish_module(state.modules, leader, path)
        if handed is not None:
            state.modules.load_tensors(leader, handed.full)
        for older in sorted(folder.glob("step-*"))[:-keep]:
            shutil.rmtree(older)
        facts = handed.facts() if handed else {}
        told = {"event": "published", "step": state.step, "path": str(path), **facts}
        self._listener(cast(PublishedEvent, told))

    def _take_time(self) -> None:
        now = time.monotonic()
        self.state.wall_s += now - self._clock
        self._clock = now

    def _warn(self, message: str) -> None:
        self._emit({"event": "warning", "step": self.state.step, "message": message})

    def _emit(self, event: Event) -> None:
        self._log.write(event)
        self._listener(event)
