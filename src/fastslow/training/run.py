"""One run from a recipe to its summary: start or resume, train, write the results."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fastslow.adapters import BASE
from fastslow.atomic_io import file_hash, new_folder, write_rows, write_text
from fastslow.config import Recipe, dump_recipe, load_recipe
from fastslow.errors import ConfigError, DataError, StateError
from fastslow.objectives import objective_problems
from fastslow.testing import failed_checks
from fastslow.training.build import Run, assemble, reference_policy
from fastslow.training.continual.sequence import train_domains
from fastslow.training.data.dataset import input_fingerprints, written_out
from fastslow.training.distributed.processes import Team
from fastslow.training.export.open_run import last_part
from fastslow.training.loop.loop import Loop
from fastslow.training.loop.sanity_checks import slow_bfloat16
from fastslow.training.memory.device_memory import peak_memory
from fastslow.training.on_policy.filtered_reader import FilteredReader
from fastslow.training.on_policy.online_reader import FreshReader
from fastslow.training.rounds import train_rounds
from fastslow.training.stages import train_stages
from fastslow.training.state.checkpoint import read_newest
from fastslow.training.state.event_log import Event, EventLog, Listener
from fastslow.training.state.run_lock import claim, locked
from fastslow.training.state.summary import ContinualSummary, RunSummary, versions


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path, *, listener: Listener = lambda event: None
) -> RunSummary | ContinualSummary | None:
    """Run a recipe and return its summary, or None if a signal stopped it on the way.

    An unfinished run of the same recipe in `output_dir` goes on from its newest checkpoint and ends
    with the same weights, bit for bit on a CPU, as if it had never stopped; a finished one returns
    its summary.

    Started by a launcher in several processes, these share every batch and return the same summary;
    the first one alone tells the listener and writes to `output_dir`.

    Args:
        recipe: a Recipe, the same as a mapping, or the path of a YAML file.
        listener: is told of every event of the log, and of progress and checkpoints.

    Raises ConfigError, DataError or StateError.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, checks=[objective_problems])
    recipe = written_out(recipe)
    team, of_run = Team(), Path(recipe.output_dir)
    if team.size > 1 and "-" in recipe.data.train_sources:
        raise ConfigError(
            "data.train: only the first of several processes has standard input; give files"
        )
    with ExitStack() as stack:
        team.from_first(partial(_lock, of_run, stack))
        folder = stack.enter_context(team.folder(of_run))
        if team.rank > 0:
            recipe = recipe.model_copy(update={"output_dir": str(folder)})
            listener = _nobody
        if recipe.continual is not None:
            return train_domains(recipe, folder, listener, train_one=train_ordinary)
        if recipe.stages or recipe.rounds is not None:
            return _train_in_parts(recipe, folder, listener)
        return train_ordinary(recipe, folder, listener)


def _lock(folder: Path, until: ExitStack) -> None:
    until.enter_context(locked(folder))


def _nobody(event: Event) -> None:
    """What the other processes tell would be told again."""


def _train_in_parts(recipe: Recipe, folder: Path, listener: Listener) -> RunSummary | None:
    last: Recipe | None
    if (folder / "summary.json").exists():
        claim(folder, recipe)
        last = last_part(recipe, folder)
    else:
        train_earlier = train_rounds if recipe.rounds else train_stages
        last = train_earlier(recipe, folder, listener, train_one=train_ordinary)
    return train_ordinary(last, folder, listener, whole=recipe) if last else None


def train_ordinary(
    recipe: Recipe, folder: Path, listener: Listener, *, whole: Recipe | None = None
) -> RunSummary | None:
    """One run of one module or race in its folder, which is locked for it.

    The folder is that of the `whole` recipe, of which this run may be a part.
    """
    recipe = written_out(recipe)
    whole = whole or recipe
    began = claim(folder, whole) and (folder / "inputs.json").exists()
    if (folder / "summary.json").exists():
        with suppress(DataError, OSError):  # What a finished run has learned from may be gone.
            _check_inputs(folder, input_fingerprints(recipe))
        listener({"event": "already_complete", "folder": str(folder)})
        return RunSummary.read(folder / "summary.json")
    run = assemble(recipe)
    inputs = input_fingerprints(recipe)
    if isinstance(run.state.reader, FilteredReader | FreshReader):
        inputs["judge"] = [run.state.reader.judge.name]
    if began:
        _check_inputs(folder, inputs)
    else:
        write_text(folder / "config.yaml", dump_recipe(whole))
        write_text(folder / "inputs.json", json.dumps(inputs, indent=1) + "\n")
    resumed = _resume(run, folder, listener)
    log = EventLog(folder / "events.jsonl", size=run.state.log_size)
    try:
        listener(_start_event(run, resumed=resumed))
        for warning in _warnings(run):
            listener({"event": "warning", "message": warning})
        loop = Loop(run, folder, log, listener)
        if not loop.finish():
            return None
        log.sync()
        adapters = _save_adapters(run, folder)
        write_rows(folder / "memory.jsonl", run.state.memory.state()["rows"])
        if run.heldout is not None:
            policies = {"base": BASE, run.state.race.leader: run.state.race.leader}
            samples = run.heldout.side_by_side(run.policies, policies)
            write_text(folder / "samples.json", json.dumps(samples, ensure_ascii=False, indent=1))
        summary = _summary(run, folder, loop.final, adapters)
        summary.write(folder / "summary.json")
        listener({"event": "complete", "folder": str(folder), "leader": summary.leader})
        return summary
    finally:
        log.close()


def _check_inputs(folder: Path, inputs: dict[str, Any]) -> None:
    before = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    for key, value in inputs.items():
        if before.get(key) != value:
            raise StateError(
                f"the {key} of the run in {folder} has changed since it began, so it cannot go on "
                "exactly; restore it, or remove the folder to start anew"
            )


def _resume(run: Run, folder: Path, listener: Listener) -> bool:
    """Restore the newest checkpoint; whether there was one."""
    snapshot, passed_over = read_newest(folder / "checkpoints")
    for fault in passed_over:
        listener({"event": "warning", "message": f"checkpoint passed over: {fault}"})
    if snapshot is None:
        return False
    run.state.restore(snapshot)
    return True


def _start_event(run: Run, *, resumed: bool) -> dict[str, Any]:
    recipe, layout = run.recipe, run.policies.layout
    return {
        "event": "start",
        "resumed": resumed,
        "step": run.state.step,
        "total_steps": run.total_steps,
        "modules": list(run.state.race.modules),
        "objective": repr(run.objective),
        "reference": recipe.reference_name,
        "trains": recipe.trains,
        "moving_reference": recipe.moving_reference and recipe.moving_reference.model_dump(),
        "device": _device(run),
        "processes": run.team.size,
        "divided": run.team.divided,
        "layout": "trees" if layout.trees else f"one response a row: {layout.reason}",
        "heldout": run.heldout_counts,
        "memory": None if run.memory is None else str(run.memory),
    }


def _warnings(run: Run) -> Iterator[str]:
    """What the run will do that its user can hardly want."""
    recipe, steps = run.recipe, run.total_steps
    yield from run.warnings
    if "file" in recipe.objective.settings:
        yield from failed_checks(run.objective)
    if recipe.train.precision != "float32":
        warning = slow_bfloat16(run.accelerator.device)
        yield from [warning] if warning else []
    moving = recipe.moving_reference
    if moving is not None and steps is not None and moving.every > steps:
        yield (
            f"the reference does not move: moving_reference.every is {moving.every}, and the run "
            f"has {steps} steps"
        )


def _save_adapters(run: Run, folder: Path) -> dict[str, str]:
    saved = {}
    for name in run.state.race.modules:
        path = Path("adapters") / name
        with new_folder(folder / path) as draft:
            draft.rmdir()
            run.state.modules.save(name, draft)
        saved[name] = path.as_posix()
    return saved


def _summary(
    run: Run, folder: Path, final: dict[str, Any] | None, adapters: dict[str, str]
) -> RunSummary:
    state = run.state
    hashes = {
        "recipe": file_hash(folder / "config.yaml"),
        "inputs": file_hash(folder / "inputs.json"),
    }
    for name, path in adapters.items():
        hashes[f"adapter/{name}"] = file_hash(folder / path / "adapter_model.safetensors")
    return RunSummary(
        steps=state.step,
        pairs_seen=state.pairs_seen,
        leader=state.race.leader,
        swaps=state.swaps,
        reference=reference_policy(run.recipe),
        eval={"start": state.start, "final": final},
        ended="drift" if state.drift and state.drift.found else "complete",
        pairs_taken=state.reader.given,
        prequential=state.prequential.means(),
        data=state.reader.summary(),
        left_out=state.reader.left_out(),
        adapters=adapters,
        hashes=hashes,
        versions=versions(),
        device=_device(run),
        wall_s=round(state.wall_s, 3),
        memory={
            "foreseen": run.memory.total if run.memory else None,
            "peak": peak_memory(run.accelerator.device),
        },
        running=state.of_heldout,
    )


def _device(run: Run) -> str:
    device = run.accelerator.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
