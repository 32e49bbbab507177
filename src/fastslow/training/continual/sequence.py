"""A sequence of domains: train a module for each, add it to the bank, combine, evaluate on all.

run folder/
  domains/01-reviews/        an ordinary run, one for each domain
  bank/01-reviews/           its leader and replay buffer
  combinations/01/           the policy after that domain
  measurements/01.json       its evaluation on every domain; 00 is the base
  adapters/, summary.json    the final policy and all results

Each of these is written atomically, so a killed run resumes where it stopped.
Sequential training is `start: continue, weights: null`; replay, L2-SP and EWC are settings of it.
"""

import json
import shutil
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from fastslow.adapters import BASE, Bank, Entry, copy_adapter
from fastslow.atomic_io import file_hash, new_folder, write_text
from fastslow.config import Recipe, load_recipe
from fastslow.errors import StateError
from fastslow.evaluation import Retention, retention
from fastslow.foreign_files import ADAPTER_WEIGHTS, read_json
from fastslow.training.context import RunContext
from fastslow.training.continual.combined import Combination, combination_after
from fastslow.training.continual.domain_recipes import (
    DomainRun,
    domain_runs,
    policy_after,
    teaching,
    write_fisher,
)
from fastslow.training.continual.measurement import DomainEvaluator, measured_sources
from fastslow.training.data.dataset import input_fingerprints
from fastslow.training.growth import check_finished_parts
from fastslow.training.preflight import check_parts, part_warnings, recipe_warnings
from fastslow.training.state.events import BudgetEvent
from fastslow.training.state.inputs import INPUTS, keep_inputs, read_inputs
from fastslow.training.state.run_config import write_config
from fastslow.training.state.run_lock import check_run_folder
from fastslow.training.state.summary import ContinualSummary, RunSummary, versions


def train_domains(recipe: Recipe, folder: Path, context: RunContext) -> ContinualSummary | None:
    """Run a recipe with a `continual` section in its folder, which the caller has locked.

    Returns None if it was asked to stop; the same call then resumes. Raises as `train`.
    """
    listener = context.listener
    began = check_run_folder(folder, recipe, other_domains=True)
    path = folder / "summary.json"
    known = _known(folder, recipe) if began else recipe
    if path.exists():
        check_finished_parts(folder, known)
    before = ContinualSummary.read(path) if path.exists() else None
    complete = before is not None and _is_of(before, recipe)
    trained = len(list(folder.glob("domains/*/summary.json")))
    if not complete:
        check_parts(recipe, context.processes, trained=trained)
    if known != recipe:
        _forget_domains(folder, known, recipe)
    if known != recipe or not complete:
        write_config(folder, recipe)  # First: without it, the folder looks like somebody else's.
        keep_inputs(folder, input_fingerprints(recipe), began=began)
    if before is not None and complete:
        listener({"event": "already_complete", "folder": str(folder)})
        return before
    between = part_warnings(recipe, context.processes, trained=trained)
    for warning in [*recipe_warnings(recipe), *between]:
        listener({"event": "warning", "message": warning})
    bank = Bank(folder / "bank")
    evaluator = DomainEvaluator(recipe, context.bases, listener)
    finished: list[tuple[DomainRun, RunSummary]] = []
    for run in domain_runs(recipe, folder, bank, finished):
        listener({"event": "domain", "number": run.number, "name": run.name})
        summary = context.train(run.recipe, Path(run.recipe.output_dir))
        if summary is None:
            return None
        finished.append((run, summary))
        entry = _put_in_bank(bank, run, summary)
        if before is not None and run.number > len(before.domains):
            path.unlink(missing_ok=True)  # Until now the run was finished without this domain.
        write_fisher(recipe, folder, run, entry, context.bases)
        _combine_and_evaluate(recipe, folder, bank, run, evaluator, context)
    result = _summarise(folder, finished, evaluator)
    result.write(path)
    for warning in result.warnings:
        listener({"event": "warning", "message": warning})
    listener({"event": "complete", "folder": str(folder), "leader": result.policy})
    return result


def _known(folder: Path, recipe: Recipe) -> Recipe:
    """The recipe with the domains that the folder's run knows."""
    before = load_recipe(folder / "config.yaml").continual
    assert recipe.continual is not None and before is not None
    continual = recipe.continual.model_copy(update={"domains": before.domains})
    return recipe.model_copy(update={"continual": continual})


def _is_of(summary: ContinualSummary, recipe: Recipe) -> bool:
    """Whether the summary covers all domains; those found by drift end with the stream."""
    assert recipe.continual is not None
    names = [domain.name for domain in recipe.continual.domains]
    return not names or summary.domains == names


def _forget_domains(folder: Path, known: Recipe, recipe: Recipe) -> None:
    """Drop a run's measurements of domains that were removed or changed.

    Raises StateError if inputs that the run began with have changed.
    """
    keep_inputs(folder, input_fingerprints(known), began=True)
    measured = zip(measured_sources(known).items(), measured_sources(recipe).items(), strict=False)
    same = len([*takewhile(lambda pair: pair[0] == pair[1], measured)])
    for path in folder.glob("measurements/*.json"):
        _write_json(path, _results(path)[:same])
    (folder / INPUTS).unlink()  # Written again for the new recipe.


def _put_in_bank(bank: Bank, run: DomainRun, summary: RunSummary) -> Entry:
    entries = bank.entries()
    if len(entries) >= run.number:
        entry = entries[run.number - 1]
        if (entry.position, entry.domain) != (run.number, run.name):
            raise StateError(
                f"{bank.folder} lacks the module of domain {run.number}, {run.name}, which the "
                "later ones depend on; restore it, or remove the run folder to start over"
            )
        return entry
    folder = Path(run.recipe.output_dir)
    inputs = read_inputs(folder)
    return bank.add(
        domain=run.name,
        adapter=summary.adapter(folder, summary.leader),
        config=folder / "config.yaml",
        memory=folder / "memory.jsonl",
        parents=[run.parent.name] if run.parent else [],
        base=inputs["model"],
        data=inputs["data"],
        metrics=summary.eval["final"] or {},
        pairs_seen=summary.pairs_seen,
    )


def _combine_and_evaluate(
    recipe: Recipe,
    folder: Path,
    bank: Bank,
    run: DomainRun,
    evaluator: DomainEvaluator,
    context: RunContext,
) -> None:
    """Make and evaluate the policy after a domain, each only if that is not done yet."""
    destination = combination_after(run.number, folder)
    measured = folder / "measurements" / f"{run.number:02d}.json"
    if not destination.exists():
        context.listener({"event": "combining", "modules": run.number})
        policy_after(recipe, bank.entries()[: run.number], folder, context)
        _tell_of_budget(Combination.read(destination), context)
    shutil.rmtree(teaching(folder), ignore_errors=True)
    initial = measured.with_name("00.json")
    before = {path: _results(path) for path in (initial, measured)}
    # A domain that was added later is measured on the earlier policies, too.
    lacking = {path: evaluator.names[len(results) :] for path, results in before.items()}
    samples = folder / "samples.json"
    shown = samples.exists() or not run.last
    if shown and initial.exists() and measured.exists() and not any(lacking.values()):
        return
    measured.parent.mkdir(exist_ok=True)
    with evaluator.of(destination) as (policies, policy):
        evaluate = partial(evaluator.evaluate, policies)
        if lacking[initial] or not initial.exists():
            results = evaluate(BASE, label="base", domains=lacking[initial])
            _write_json(initial, [*before[initial], *results])
        if run.last:
            _write_json(samples, evaluator.samples(policies, policy))
        if lacking[measured] or not measured.exists():
            results = evaluate(policy, label=f"after {run.name}", domains=lacking[measured])
            _write_json(measured, [*before[measured], *results])


def _results(path: Path) -> list[dict[str, Any]]:
    return read_json(path, list[dict[str, Any]]) if path.exists() else []


def _tell_of_budget(combination: Combination, context: RunContext) -> None:
    facts = combination.budget
    if facts is not None and facts["strength"] < 1:
        event = {"event": "budget", "module": combination.policy, **facts}
        context.listener(cast(BudgetEvent, event))


def _summarise(
    folder: Path,
    finished: list[tuple[DomainRun, RunSummary]],
    evaluator: DomainEvaluator,
) -> ContinualSummary:
    combination = Combination.read(combination_after(len(finished), folder))
    adapters = _keep_adapters(folder, combination, len(finished))
    measured = folder / "measurements"
    initial, *after = (
        read_json(measured / f"{i:02d}.json", list[dict[str, Any]])
        for i in range(len(finished) + 1)
    )
    domains = [run.name for run, _ in finished]
    summaries = [summary for _, summary in finished]
    hashes = {"recipe": file_hash(folder / "config.yaml")}
    for name, path in adapters.items():
        hashes[f"adapter/{name}"] = file_hash(folder / path / ADAPTER_WEIGHTS)
    return ContinualSummary(
        domains=domains,
        runs=[str(Path(s.recipe.output_dir).relative_to(folder)) for s, _ in finished],
        policy=combination.policy,
        weights=combination.weights,
        budget=combination.budget,
        measured=list(evaluator.names),
        initial=initial,
        after=after,
        metrics=_metrics(initial, after) if domains == list(evaluator.names) else {},
        reference=BASE,
        adapters=adapters,
        steps=sum(summary.steps for summary in summaries),
        pairs_seen=sum(summary.pairs_seen for summary in summaries),
        hashes=hashes,
        versions=versions(),
        device=summaries[0].device,
        wall_s=round(sum(summary.wall_s for summary in summaries), 3),
        warnings=evaluator.warnings(initial, after[-1]),
    )


def _keep_adapters(folder: Path, combination: Combination, last: int) -> dict[str, str]:
    """Copy the last policy's adapters, and its router if it has one, to `adapters`."""
    source = combination_after(last, folder)
    with new_folder(folder / "adapters") as draft:
        for name in combination.modules:
            copy_adapter(source / combination.place(name), draft / name)
        for file in source.glob("router.*"):
            (draft / file.name).write_bytes(file.read_bytes())
    return {name: f"adapters/{name}" for name in combination.modules}


def _metrics(
    initial: list[dict[str, Any]], after: list[list[dict[str, Any]]]
) -> dict[str, dict[str, float | None]]:
    metrics = {}
    for key in ("accuracy", "reward"):
        if all(measured[key] is not None for measured in initial):
            matrix = [[measured[key] for measured in row] for row in after]
            kept = retention(matrix, [measured[key] for measured in initial])
            metrics[key] = {name: getattr(kept, name) for name in Retention.__slots__}
    return metrics


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    write_text(path, text, private=True)  # It may hold samples.
