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
    """Of each entry, of `regmean` of its fitted module; None where there is no sum."""
    rank: int | None
    """Of the combined adapter."""
    lost: float | None
    """Share of the update, in the Frobenius norm, lost by recompression."""
    kl: float | None = None
    """From the modules to a student or to `regmean`, nats per response."""
    budget: dict[str, Any] | None = None
    """How it came to be within its budget: `limit`, `strength`, which all weights include,
    `reverse_kl` (nats per answer), what was `tried`, and `full`, the folder of what it was where it
    was beyond. None without a budget."""

    @property
    def policy(self) -> str:
        """What the policy is called: combined, routed or last."""
        return self.kind if self.kind in (ROUTED, LAST) else COMBINED

    @property
    def modules(self) -> tuple[str, ...]:
        """The adapters that the policy needs."""
        return tuple(self.entries) if self.kind == ROUTED else (self.policy,)

    def place(self, module: str) -> str:
        """Folder of one of its adapters, relative to that of the combination."""
        return module if self.kind == ROUTED else "."

    def write(self, folder: Path) -> None:
        """Write `combination.json`."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        (folder / "combination.json").write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Combination":
        """What `write_combination` wrote into a folder."""
        made: Combination = read_json(folder / "combination.json", cls)
        return made


def combination_after(number: int, run: Path) -> Path:
    """Folder of the policy after so many domains of a run."""
    return run / "combinations" / f"{number:02d}"


def open_combination(
    folder: Path, made: Combination, recipe: Recipe, tokenizer: Any, bases: SharedBase
) -> Policies:
    """The modules of a combination that was written to a folder, frozen, on the recipe's base."""
    folders = {name: folder / made.place(name) for name in made.modules}
    router = Router.load(folder) if made.kind == ROUTED else None
    return open_policies(recipe, folders, tokenizer, bases, router=router)
