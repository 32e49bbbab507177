"""The recipe of each domain in a sequence, made from the whole run's recipe and the bank."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from fastslow.adapters import Bank, Entry, folder_name, latest_per_domain, load_tokenizer
from fastslow.atomic_io import new_file, new_folder
from fastslow.config import Recipe, domain_settings, part_recipe, start_of
from fastslow.records import Pair
from fastslow.training.context import RunContext
from fastslow.training.continual.combination import task_of, write_combination
from fastslow.training.continual.combined import DISTILLED, LAST, combination_after
from fastslow.training.continual.fisher import fisher_information
from fastslow.training.continual.memory import read_memory
from fastslow.training.data.dataset import objective_of, train_stream
from fastslow.training.policies.loading import (
    PREVIOUS,
    SharedBase,
    make_encoder,
    open_policies,
    reference_policy,
)
from fastslow.training.state.event_log import progress_of
from fastslow.training.state.summary import RunSummary

LEARNED = "learned"


@dataclass(frozen=True, slots=True)
class DomainRun:
    """One domain's training."""

    number: int
    """Place in the sequence, from 1."""
    name: str
    """Name of the domain."""
    recipe: Recipe
    parent: Entry | None
    """The entry that its modules start from; None for a fresh start."""
    last: bool
    """Whether no later domain is known."""


def domain_runs(
    recipe: Recipe, folder: Path, bank: Bank, finished: Sequence[tuple[DomainRun, RunSummary]]
) -> Iterator[DomainRun]:
    """The runs in order. Ask for each only when the previous one is finished and in the bank."""
    assert recipe.continual is not None
    domains = recipe.continual.domains
    for number, domain in enumerate(domains, 1):
        last = number == len(domains)
        yield _domain_run(recipe, folder, bank, number, domain.name, data=domain.data, last=last)
    if not domains:
        yield from _drifting(recipe, folder, bank, finished)


def _drifting(
    recipe: Recipe, folder: Path, bank: Bank, finished: Sequence[tuple[DomainRun, RunSummary]]
) -> Iterator[DomainRun]:
    """One run for each stretch of data.train between two drifts."""
    number, skip = 1, 0
    while True:
        data = {"skip": skip}
        run = _domain_run(recipe, folder, bank, number, f"stretch {number}", data=data, last=True)
        # A remainder of ties only would be a domain without training pairs.
        rest = train_stream(run.recipe, objective_of(run.recipe)) if skip else ()
        if skip and all(isinstance(pair, Pair) and pair.is_tie for pair in rest):
            return
        yield run
        summary = finished[-1][1]
        if summary.ended != "drift":
            return
        number, skip = number + 1, summary.pairs_taken


def _domain_run(
    recipe: Recipe,
    folder: Path,
    bank: Bank,
    number: int,
    name: str,
    *,
    data: Mapping[str, object],
    last: bool,
) -> DomainRun:
    assert recipe.continual is not None
    continual, earlier = recipe.continual, bank.entries()[: number - 1]
    place = start_of(continual.start, name, [entry.domain for entry in earlier])
    parent = None if place is None else earlier[place]
    settings = domain_settings(
        recipe.model_dump(mode="json"),
        data,
        start_from=str(_start(recipe, folder, number, parent)) if parent else None,
        memory=[str(entry.memory) for entry in earlier],
        fisher=str(_fisher(folder, number - 1)) if continual.anchor == "ewc" else None,
        output_dir=str(folder / "domains" / f"{number:02d}-{folder_name(name)}"),
    )
    return DomainRun(number, name, part_recipe(settings, f"domain {number}, {name}"), parent, last)


def _start(recipe: Recipe, folder: Path, number: int, parent: Entry) -> Path:
    """The adapter that a domain's modules start from: the student before them, if it was distilled
    from the parent."""
    assert recipe.continual is not None
    if recipe.continual.weights == DISTILLED and recipe.continual.start == "continue":
        return combination_after(number - 1, folder)
    return parent.folder


def policy_after(
    recipe: Recipe, entries: Sequence[Entry], folder: Path, context: RunContext
) -> None:
    """Write the policy after the entries into the run's folder: their combination, or the last
    entry alone."""
    assert recipe.continual is not None
    continual, chosen = recipe.continual, latest_per_domain(entries)
    kind, number = continual.weights or LAST, len(entries)
    if kind == DISTILLED and len(chosen) == 1:
        kind = LAST
    before = combination_after(number - 1, folder)
    with new_folder(combination_after(number, folder)) as draft:
        write_combination(
            entries if kind == LAST else chosen,
            recipe,
            draft,
            context.bases,
            kind=kind,
            # If a domain returned, its newest entry uses the weight at its own position.
            fixed=[continual.fixed[e.position - 1] for e in chosen] if continual.fixed else None,
            recompress=continual.recompress,
            before=before if before.exists() else None,
            progress=progress_of(context.listener, task_of(kind)),
            checkpoints=teaching(folder) / f"{number:02d}",
        )


def teaching(folder: Path) -> Path:
    """Folder for a run's checkpoints of distillation."""
    return folder / "teaching"


def _fisher(folder: Path, number: int) -> Path:
    return folder / "fisher" / f"{number:02d}.safetensors"


def write_fisher(
    recipe: Recipe, folder: Path, run: DomainRun, entry: Entry, bases: SharedBase
) -> None:
    """For EWC, write the importance of the entry's weights to all domains so far, summed."""
    assert recipe.continual is not None
    path = _fisher(folder, run.number)
    follows = not run.last or not recipe.continual.domains  # After a drift another domain follows.
    if recipe.continual.anchor != "ewc" or not follows or path.exists():
        return
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    parent = {PREVIOUS: run.parent.folder} if run.parent else {}
    folders = {LEARNED: entry.folder, **parent}
    objective = objective_of(recipe)
    fisher = fisher_information(
        open_policies(recipe, folders, tokenizer, bases, trainable=(LEARNED,)),
        LEARNED,
        reference_policy(run.recipe),
        objective,
        read_memory(entry, make_encoder(recipe, tokenizer), objective),
    )
    if run.number > 1:
        before = load_file(_fisher(folder, run.number - 1))
        fisher = {key: value + before[key].to(value.device) for key, value in fisher.items()}
    path.parent.mkdir(exist_ok=True)
    with new_file(path) as draft:
        save_file({key: value.cpu() for key, value in fisher.items()}, draft)
