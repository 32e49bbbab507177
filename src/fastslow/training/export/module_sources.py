"""Sources of modules to combine: banks, entries, and finished runs of either kind."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastslow.adapters import Bank, Entry, folder_name, latest_per_domain, read_entry
from fastslow.errors import ConfigError
from fastslow.training.export.lineage import adapter_fingerprint
from fastslow.training.export.open_run import read_run
from fastslow.training.state.inputs import read_inputs
from fastslow.training.state.parts import answering_part
from fastslow.training.state.summary import RunSummary


def entries_of(sources: Sequence[Path]) -> list[Entry]:
    """The modules in the folders, in order, each with a unique name; a domain that returned counts
    once.

    Raises ConfigError for a folder without a module and for a module given twice, StateError for a
    damaged one.
    """
    entries: list[Entry] = []
    names: set[str] = set()
    for entry in (entry for source in sources for entry in _entries(source)):
        for other in entries:
            if _same(entry, other):
                raise ConfigError(
                    f"{other.folder} and {entry.folder} are the same module; give each once"
                )
        name, count = entry.name, 1
        while name in names:
            count += 1
            name = f"{entry.name}-{count}"
        names.add(name)
        entries.append(replace(entry, name=name))
    return entries


def _same(first: Entry, second: Entry) -> bool:
    """Whether two entries are the same module, wherever it was copied."""
    prints = adapter_fingerprint(first.folder), adapter_fingerprint(second.folder)
    return first.base == second.base and prints[0] == prints[1]


def _entries(source: Path) -> list[Entry]:
    if (source / "bank").is_dir():
        return latest_per_domain(Bank(source / "bank").entries())
    if (source / "manifest.json").exists():
        return [read_entry(source)]
    if (source / "config.yaml").exists():
        return [_entry_of_run(source)]
    if source.is_dir() and any(source.glob("*/manifest.json")):
        return latest_per_domain(Bank(source).entries())
    raise ConfigError(
        f"{source} holds no module; give a bank, an entry of one, or a finished run folder"
    )


def _entry_of_run(run: Path) -> Entry:
    """The leader of an ordinary run, or a combination, as a bank entry."""
    _, summary = read_run(run, trust_code=False)  # Its recipe is not used.
    if summary.leader not in summary.adapters:
        raise ConfigError(
            f"{run} chooses one of {', '.join(summary.adapters)} for each prompt, so it is no "
            "single module; give the runs that it was made of"
        )
    part = answering_part(run, summary) if isinstance(summary, RunSummary) else run
    inputs = read_inputs(part)
    name = folder_name(run.resolve().name)
    return Entry(
        # An adapter's name must not contain a dot; the dash avoids the names of the base and of
        # the model's own parts.
        name=name if "-" in name else f"run-{name}",
        folder=summary.adapter(run, summary.leader),
        config=part / "config.yaml",
        memory=part / "memory.jsonl",
        domain=run.resolve().name,
        position=1,
        parents=(),
        base=inputs["model"],
        data=inputs["data"],
        metrics=(summary.eval["final"] or {}) if isinstance(summary, RunSummary) else {},
        pairs_seen=summary.pairs_seen if isinstance(summary, RunSummary) else None,
    )
