"""One run from a recipe to its summary: start or resume, train, write the results."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fastslow.adapters import BASE, Modules
from fastslow.atomic_io import file_hash, write_rows, write_text
from fastslow.config import Recipe, load_recipe
from fastslow.errors import ConfigError, DataError, StateError
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.objectives import objective_problems
from fastslow.streams import KEPT
from fastslow.testing import failed_checks
from fastslow.training.budget.budget import HandedOver
from fastslow.training.build import build
from fastslow.training.context import RunContext
from fastslow.training.continual.sequence import train_domains
from fastslow.training.data.dataset import input_fingerprints, is_live, written_out
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.growth import Growth, check_finished_parts, growth
from fastslow.training.loop.components import Components
from fastslow.training.loop.loop import Loop
from fastslow.training.loop.sanity_checks import slow_bfloat16
from fastslow.training.loop.signals import StopSignals, StopToken
from fastslow.training.memory.device_memory import peak_memory
from fastslow.training.policies.loading import SharedBase, reference_policy
from fastslow.training.policies.publish import publish_module
from fastslow.training.rounds import train_rounds
from fastslow.training.stages import train_stages
from fastslow.training.state.checkpoint import read_newest
from fastslow.training.state.commands import noted
from fastslow.training.state.event_log import EventLog, Listener, OneAtATime, ignore
from fastslow.training.state.events import MoreEvent, StartEvent, WarningEvent
from fastslow.training.state.inputs import INPUTS, write_inputs
from fastslow.training.state.parts import finish_parts
from fastslow.training.state.run_config import with_absolute_paths, write_config
from fastslow.training.state.run_lock import (
    check_run_folder,
    lock_run_folder,
)
from fastslow.training.state.state import copies
from fastslow.training.state.summary import ContinualSummary, RunSummary, versions
from fastslow.training.tracking.listener import tracked
from fastslow.training.tracking.opening import check_trackers


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    listener: Listener = ignore,
    stop: StopToken | None = None,
) -> RunSummary | ContinualSummary | None:
    """Run a recipe and return its summary, or None if it was stopped.

    An interrupted run of the same recipe in `output_dir` resumes from its newest checkpoint and
    ends with the same weights, bit for bit on a CPU, as if it had never stopped; a finished one
    returns its summary.

    If a launcher starts several processes, they share every batch and return the same summary; only
    the main one passes events to the listener and writes to `output_dir`.

    Args:
        recipe: a Recipe, the same as a mapping, or the path of a YAML file.
        listener: called with every event, one at a time. An exception that it raises ends the run
            like any error: it can resume from its newest checkpoint.
        stop: requests a stop from any thread, like SIGINT and SIGTERM in the main thread.

    Raises ConfigError, DataError or StateError.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, checks=[objective_problems])
    recipe = with_absolute_paths(written_out(recipe))
    check_trackers(recipe.trackers)
    processes, run_folder = ProcessGroup(recipe.train.device), Path(recipe.output_dir)
    if processes.size > 1 and is_live(recipe):
        raise ConfigError(
            "data.train: several processes cannot learn from rows that arrive over time (standard "
            "input, votes, data.follow); start one"
        )
    with ExitStack() as stack:
        processes.broadcast_from_main(partial(_lock, run_folder, stack))
        folder = stack.enter_context(processes.folder(run_folder))
        if processes.rank > 0:
            recipe = recipe.model_copy(update={"output_dir": str(folder)})
            listener = ignore
        else:
            listener = stack.enter_context(tracked(recipe, run_folder, listener))
            listener = noted(run_folder, listener)
        context = RunContext(
            OneAtATime(listener), stop or StopToken(), SharedBase(processes), train_one
        )
        if recipe.continual is not None:
            return train_domains(recipe, folder, context)
        if recipe.stages or recipe.rounds is not None:
            return _train_in_parts(recipe, folder, context)
        return train_one(recipe, folder, context, may_grow=True)


def _lock(folder: Path, stack: ExitStack) -> None:
    stack.enter_context(lock_run_folder(folder))


def _train_in_parts(recipe: Recipe, folder: Path, context: RunContext) -> RunSummary | None:
    if (folder / "summary.json").exists():
        check_run_folder(folder, recipe)
        summary = RunSummary.read(folder / "summary.json")
        check_finished_parts(folder, recipe)
        context.listener({"event": "already_complete", "folder": str(folder)})
        return summary
    train_parts = train_rounds if recipe.rounds else train_stages
    parts = train_parts(recipe, folder, context)
    return finish_parts(folder, parts) if parts else None


def train_one(
    recipe: Recipe, folder: Path, context: RunContext, *, may_grow: bool = False
) -> RunSummary | None:
    """Train an ordinary run, of one module or several that chase each other, in its folder.

    With `may_grow`, a run takes in rows that were added to its data since it trained; a finished
    run continues if there are any, or if the recipe asks for more steps.
    """
    recipe, listener = written_out(recipe), context.listener
    began = check_run_folder(folder, recipe, more_steps=may_grow) and (folder / INPUTS).exists()
    finished = folder / "summary.json"
    grown = _growth(folder, recipe, may_grow=may_grow) if began else None
    if finished.exists() and not grown:
        repeated = grown.repeated if grown is not None else 0
        listener({"event": "already_complete", "folder": str(folder), "repeated": repeated})
        return RunSummary.read(finished)
    components = build(recipe, context.bases)
    if not began:
        write_config(folder, recipe)
        write_inputs(folder, _inputs(components))
    resumed = _resume(components, folder, listener)
    if grown:
        if finished.exists() and not resumed:
            raise StateError(
                f"the run in {folder} has more to learn, but its checkpoints are gone; restore "
                "them, or train another run with lora.start_from"
            )
        finished.unlink(missing_ok=True)
        write_config(folder, recipe)
        write_inputs(folder, _inputs(components))
    log = EventLog(folder / "events.jsonl", size=components.learner.state.log_size)
    try:
        listener(_start_event(components, resumed=resumed))
        if grown:
            _log_growth(components, grown, log, listener)
        for warning in _warnings(components):
            event: WarningEvent = {"event": "warning", "step": 0, "message": warning}
            if not resumed:  # Otherwise it is already in the log.
                log.write(event)
            listener(event)
        components.reader.open()
        loop = Loop(components, folder, log, listener, context.stop)
        with StopSignals(context.stop, partial(_stopping, listener)):
            finished_now = loop.finish()
        if not finished_now:
            return None
        log.sync()
    except DataError:
        if components.learner.state.step == 0:
            (folder / KEPT).unlink(missing_ok=True)  # Refused rows may be piped in again.
        raise
    finally:
        components.stream.rows.keep_rest()
        components.reader.close()
        log.close()
    summary = _write_results(components, folder, loop)
    listener({"event": "complete", "folder": str(folder), "leader": summary.leader})
    return summary


def _inputs(components: Components) -> dict[str, Any]:
    """Fingerprints of the inputs, with the data as the stream opened them: rows added since then
    are left to the next start."""
    recipe = components.recipe
    other_prompts = recipe.online is not None and bool(recipe.online.prompt_sources)
    return input_fingerprints(recipe, None if other_prompts else components.stream.rows.sources)


def _growth(folder: Path, recipe: Recipe, *, may_grow: bool) -> Growth | None:
    """What has been added to the run's inputs; None for a finished run whose data are gone."""
    try:
        return growth(folder, recipe, may_grow=may_grow)
    except (DataError, OSError):
        if (folder / "summary.json").exists():
            return None
        raise


def _log_growth(components: Components, grown: Growth, log: EventLog, listener: Listener) -> None:
    counts = components.stream.rows.new_rows()
    rows = {name: counts.get(name) for name in grown.data}
    event: MoreEvent = {"event": "more", "step": components.learner.state.step, "rows": rows}
    log.write(event)
    listener(event)


def _stopping(listener: Listener, signal: str) -> None:
    listener({"event": "stopping", "signal": signal})


def _resume(components: Components, folder: Path, listener: Listener) -> bool:
    """Restore the newest checkpoint; returns False if there is none."""
    snapshot, skipped = read_newest(folder / "checkpoints")
    for fault in skipped:
        listener({"event": "warning", "message": f"checkpoint skipped: {fault}"})
    if snapshot is None:
        return False
    components.learner.restore(snapshot)
    return True


def _start_event(components: Components, *, resumed: bool) -> StartEvent:
    recipe, learner = components.recipe, components.learner
    moving = recipe.moving_reference
    layout, memory = learner.policies.layout, components.memory
    return {
        "event": "start",
        "resumed": resumed,
        "step": learner.state.step,
        "total_steps": components.total_steps,
        "modules": list(learner.state.selector.modules),
        "objective": repr(learner.objective),
        "beta": getattr(learner.objective, "beta", None),
        "reference": recipe.reference_name,
        "task": recipe.task,
        "moving_reference": moving.model_dump() if moving else None,
        "device": _device_name(learner.accelerator.device),
        "bfloat16": learner.policies.bfloat16,
        "processes": learner.processes.size,
        "machines": learner.processes.machines(),
        "sharded": learner.processes.sharded,
        "layout": "trees" if layout.trees else f"one response per row: {layout.reason}",
        "heldout": components.heldout_counts,
        "memory": None if memory is None else str(memory),
    }


def _warnings(components: Components) -> Iterator[str]:
    """Warnings about settings with unwanted effects."""
    recipe, steps = components.recipe, components.total_steps
    yield from components.warnings
    if "file" in recipe.objective.settings:
        for problem in failed_checks(components.learner.objective):
            yield f"objective {recipe.objective.name} fails the check {problem}"
    if recipe.train.precision in ("mixed", "bfloat16"):
        warning = slow_bfloat16(components.learner.accelerator.device)
        yield from [warning] if warning else []
    moving = recipe.moving_reference
    if moving is not None and steps is not None and moving.every > steps:
        yield (
            f"the reference never moves: moving_reference.every is {moving.every}, but the run has "
            f"{steps} steps"
        )


def _write_results(components: Components, folder: Path, loop: Loop) -> RunSummary:
    """Write the adapters, replay buffer and samples of a finished run, and its summary last."""
    learner, state, adapters = components.learner, components.learner.state, {}
    for name in state.selector.modules:
        adapters[name] = f"adapters/{name}"
        publish_module(state.modules, name, folder / adapters[name])
    budget = _write_full(loop.handed_over, state.modules, folder) if loop.handed_over else None
    write_rows(folder / "memory.jsonl", state.replay_buffer.state()["rows"], private=True)
    if components.evaluator is not None:
        shown = {"base": BASE, learner.leader: learner.leader}
        samples = components.evaluator.side_by_side(learner.policies, shown)
        text = json.dumps(samples, ensure_ascii=False, indent=1)
        write_text(folder / "samples.json", text, private=True)
    summary = _summary(components, folder, loop, adapters, budget)
    summary.write(folder / "summary.json")
    return summary


def _write_full(handed: HandedOver, modules: Modules, folder: Path) -> dict[str, Any]:
    """Also keep a scaled-down module as it was learned; returns the facts for the summary."""
    if handed.strength == 1:
        return handed.facts()
    full, scaled = f"full/{handed.module}", copies(modules.tensors(handed.module))
    modules.load_tensors(handed.module, handed.full)
    publish_module(modules, handed.module, folder / full)
    modules.load_tensors(handed.module, scaled)
    return {**handed.facts(), "full": full}


def _summary(
    components: Components,
    folder: Path,
    loop: Loop,
    adapters: dict[str, str],
    budget: dict[str, Any] | None,
) -> RunSummary:
    learner, reader, memory = components.learner, components.reader, components.memory
    state, device = learner.state, learner.accelerator.device
    hashes = {
        "recipe": file_hash(folder / "config.yaml"),
        "inputs": file_hash(folder / "inputs.json"),
    }
    for name, path in adapters.items():
        hashes[f"adapter/{name}"] = file_hash(folder / path / ADAPTER_WEIGHTS)
    return RunSummary(
        steps=state.step,
        pairs_seen=state.pairs_seen,
        leader=learner.leader,
        swaps=state.swaps,
        reference=reference_policy(components.recipe),
        eval={"start": state.start, "final": loop.final},
        ended="drift" if state.drift and state.drift.found else "complete",
        pairs_taken=reader.num_consumed,
        prequential=state.prequential.means(),
        data=reader.summary(),
        skipped_examples=reader.skipped_examples(),
        adapters=adapters,
        hashes=hashes,
        versions=versions(),
        device=_device_name(device),
        wall_s=round(state.wall_s, 3),
        memory={"estimated": memory.total if memory else None, "peak": peak_memory(device)},
        running=state.of_heldout,
        set_aside=state.set_aside,
        warnings=[loop.degradation] if loop.degradation else [],
        budget=budget,
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
