"""Modules of finished runs and banks to one policy."""

import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastslow.adapters import Entry
from fastslow.api.policy import PolicyMethods
from fastslow.api.run import Run, view_of
from fastslow.api.view import View
from fastslow.atomic_io import check_free, new_folder
from fastslow.config import BudgetConfig, Recipe, as_guest, load_recipe
from fastslow.errors import ConfigError
from fastslow.training.continual.combination import write_combination
from fastslow.training.continual.combined import Combination
from fastslow.training.continual.combined_run import write_combined_run
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.export.lineage import shared_adapters
from fastslow.training.export.module_sources import entries_of
from fastslow.training.export.open_run import open_run
from fastslow.training.policies.loading import SharedBase
from fastslow.training.state.event_log import Progress, unwatched

KINDS = ("uniform", "fixed", "grid", "learned", "regmean", "distilled", "routed")


class Policy(PolicyMethods):
    """One policy made of several modules, opened when it is first used.

    Attributes:
        folder: a run folder, as of `Run.load`; also a PEFT folder or, of `routed`, one of each
            module and the router.
        weights: of each module by its name; None where there is no sum.
        combination: how it was made: kind, rank, and what recompression lost.
        domains: what each module learned, by its name.
        trust_code: as of `Run`.
    """

    def __init__(
        self,
        folder: Path,
        combination: Combination,
        entries: Sequence[Entry],
        keep: Any,
        *,
        trust_code: bool,
    ) -> None:
        self.folder = folder
        self.trust_code = trust_code
        self.weights = combination.weights
        self.combination = combination
        self.domains = {entry.name: entry.domain for entry in entries}
        self._keep = keep  # A temporary folder lives as long as the policy.
        self._opened: View | None = None

    def _view(self) -> View:
        if self._opened is None:
            self._opened = view_of(open_run(self.folder, trust_code=self.trust_code))
        return self._opened

    def save_pretrained(self, folder: str | Path) -> Path:
        """Copy the adapter and the tokenizer to a folder, which must not exist; that folder."""
        to = Path(folder)
        check_free(to)
        with new_folder(to, replace=False) as draft:
            shutil.copytree(self.folder, draft, dirs_exist_ok=True)
            self._view().tokenizer.save_pretrained(str(draft))
        return to


def combine(
    sources: Sequence[Any],
    to: str | Path | None = None,
    weights: str | Sequence[float] = "learned",
    *,
    fixed: Sequence[float] | None = None,
    recompress: int | None = None,
    budget: float | None = None,
    model: str | None = None,
    trust_code: bool = False,
    progress: Progress = unwatched,
) -> Policy:
    """Sum past modules exactly into one adapter, distil them into one, or route each prompt to one.

    Args:
        sources: runs, run folders, banks, entries of a bank, or combinations of them.
        to: new folder to write. None keeps the policy in a temporary folder for as long as it is
            used; `save_pretrained` writes it elsewhere.
        weights: `uniform`, `grid`, `learned` and `regmean` (fitted on the examples kept with each
            module), `distilled` (a student learns from all on these), `routed` (one module a
            prompt), or a list with the weight of each.
        fixed: the same list, with weights="fixed".
        recompress: largest rank; None keeps a sum exact, and gives a student the recipe's.
        budget: largest reverse KL to the base, nats per answer, to which the policy is scaled down;
            `math.inf` for none. Default: that of the last source's recipe.
        model: the base, where it is not in the recorded place.
        trust_code: as of `Run.load`, of the last of the sources.
        progress: is called with how many of how many fitting steps are done.

    Raises ConfigError, StateError or DataError.
    """
    kind, fixed = (weights, fixed) if isinstance(weights, str) else ("fixed", list(weights))
    if faults := list(_faults(sources, to, kind, fixed, recompress, budget)):
        raise ConfigError(*faults)
    entries = entries_of([s.folder if isinstance(s, (Run, Policy)) else Path(s) for s in sources])
    if kind not in ("regmean", "distilled", "routed"):
        _warn_of_shared(entries)
    trust_code = trust_code or getattr(sources[-1], "trust_code", False)
    written = _written(entries[-1], model, budget)
    recipe = written if trust_code else as_guest(written)
    folder, keep = _place(to)
    bases, began = SharedBase(ProcessGroup(recipe.train.device)), time.monotonic()
    how: dict[str, Any] = {
        "kind": kind,
        "fixed": fixed,
        "recompress": recompress,
        "progress": progress,
    }
    with new_folder(folder, replace=False) as draft:
        made = write_combination(entries, recipe, draft, bases, **how)
        write_combined_run(
            draft,
            made,
            entries,
            written,  # It is not run here, and asked for again where the folder is opened.
            output_dir=folder,
            device=bases.processes.device.type,
            wall_s=time.monotonic() - began,
        )
    return Policy(folder, made, entries, keep, trust_code=trust_code)


def _place(to: str | Path | None) -> tuple[Path, Any]:
    """The folder to write, and what has to be kept for as long as it is used."""
    if to is not None:
        return Path(to), None
    keep = TemporaryDirectory(prefix="fastslow-")
    return Path(keep.name) / "combined", keep


def _written(entry: Entry, model: str | None, budget: float | None) -> Recipe:
    """The recipe of an entry with another base and another budget, where they are given."""
    recipe = load_recipe(entry.config, [f"model={model}"] if model else [])
    if budget is None:
        return recipe
    section = None if budget == math.inf else BudgetConfig(reverse_kl=budget)
    return recipe.model_copy(update={"budget": section})


def _faults(
    sources: Sequence[Any],
    to: str | Path | None,
    kind: str,
    fixed: Sequence[float] | None,
    recompress: int | None,
    budget: float | None,
) -> Iterator[str]:
    """What is wrong with what is asked for."""
    if budget is not None and not budget > 0:
        yield f"budget: got {budget}; must be above 0, inf for none"
    if not sources:
        yield "sources: are missing; give runs, banks or entries of a bank"
    if kind not in KINDS:
        numbers = "; weights of your own are given as --weights fixed --fixed 0.5 --fixed 0.5, in "
        numbers += "Python as a list"
        own = numbers if any(sign.isdigit() for sign in str(kind)) else ""
        yield f"weights: got {kind!r}; allowed are {', '.join(KINDS)}{own}"
    if to is not None and os.path.lexists(to):
        yield f"{to} exists already; give a folder that does not"
    if (kind == "fixed") != bool(fixed):
        yield "fixed: weights fixed needs a weight for each module, and only it does"
    if recompress is not None and kind == "routed":
        yield "recompress: there is no sum to compress with weights routed"
    if isinstance(sources, (str, Path)):
        yield "sources: got a single one; give a list of runs or banks"


def _warn_of_shared(entries: Sequence[Entry]) -> None:
    """Warn where a sum would count an adapter twice."""
    if shared := shared_adapters(entries):
        warnings.warn(
            f"a sum of these modules counts an adapter twice: {'; '.join(shared)}. Combine one of "
            "the two alone, or with weights regmean, distilled or routed",
            stacklevel=3,
        )
