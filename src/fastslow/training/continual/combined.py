"""A combination of modules on disk: how it was made, and its policies."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastslow.config import Recipe
from fastslow.foreign_files import read_json
from fastslow.training.policies.loading import SharedBase, open_policies
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.routed import ROUTED, Router

COMBINED = "combined"
DISTILLED = "distilled"
REGMEAN = "regmean"
LAST = "last"


@dataclass(frozen=True, slots=True)
class Combination:
    """How entries became one policy."""

    kind: str
    """uniform, fixed, grid, learned, regmean, distilled or routed; last where one entry answers
    alone."""
    entries: list[str]
    weights: dict[str, float] | None
    """Weight of each entry, for `regmean` of its fitted module; None if the policy is no sum."""
    rank: int | None
    """Rank of the combined adapter."""
    lost: float | None
    """Share of the update, in the Frobenius norm, lost by recompression."""
    kl: float | None = None
    """KL from the modules to a student or to `regmean`, nats per response."""
    budget: dict[str, Any] | None = None
    """How it was scaled to its budget: `limit`, `strength`, which all weights include, `reverse_kl`
    (nats per answer), what was `tried`, and, if it was beyond, `full`, the folder of the unscaled
    modules. None without a budget."""

    @property
    def policy(self) -> str:
        """Name of the policy: combined, routed or last."""
        return self.kind if self.kind in (ROUTED, LAST) else COMBINED

    @property
    def modules(self) -> tuple[str, ...]:
        """The adapters that the policy needs."""
        return tuple(self.entries) if self.kind == ROUTED else (self.policy,)

    def place(self, module: str) -> str:
        """Folder of one of its adapters, relative to the combination's."""
        return module if self.kind == ROUTED else "."

    def write(self, folder: Path) -> None:
        """Write `combination.json`."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        (folder / "combination.json").write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Combination":
        """What `write_combination` wrote into a folder."""
        combination: Combination = read_json(folder / "combination.json", cls)
        return combination


def combination_after(number: int, run: Path) -> Path:
    """Folder of a run's policy after `number` domains."""
    return run / "combinations" / f"{number:02d}"


def open_combination(
    folder: Path, made: Combination, recipe: Recipe, tokenizer: Any, bases: SharedBase
) -> Policies:
    """The modules of a combination in a folder, frozen, on the recipe's base."""
    folders = {name: folder / made.place(name) for name in made.modules}
    router = Router.load(folder) if made.kind == ROUTED else None
    return open_policies(recipe, folders, tokenizer, bases, router=router)
