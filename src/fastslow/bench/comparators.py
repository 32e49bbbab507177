"""The fixed policies that define a stream's regret.

R_T = sum_t loss_t(policy before pair t) - min over fixed policies of sum_t loss_t. The minimum is
bounded from above by one policy of the same rank, trained on those T pairs for several passes, so
the regret against it is a lower bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.bench.scenario import Scenario
from fastslow.bench.suite import kept, trained
from fastslow.config import load_recipe

PASSES = 5
SHARES = (0.25, 0.5, 1.0)
"""Shares of the stream after which its regret is computed."""


@dataclass(frozen=True, slots=True)
class Comparators:
    """Mean losses of fixed policies, nats per pair, each on the pairs it was trained on."""

    prefixes: Mapping[int, float]
    """By the number of the stream's first pairs trained on."""
    segments: Sequence[float]
    """One for each segment of the stream with the same tastes."""


def comparators(
    scenario: Scenario, out: Path, *, segments: int, rate: float, optimizer: str
) -> Comparators:
    """The comparators of a stream; trained unless they exist.

    Args:
        scenario: of one domain, whose pairs are the stream.
        out: folder of the records, runs and parts of streams.
        segments: number of equally long segments with different tastes.
        rate: learning rate, which decays to 0.
        optimizer: as in a recipe.
    """
    (domain,) = scenario.domains
    lines = Path(domain.train_sources[0]).read_text(encoding="utf-8").splitlines(keepends=True)
    total, each = len(lines), len(lines) // segments
    ends = [round(share * total) for share in SHARES]
    parts = {f"first-{end}": lines[:end] for end in ends}
    if segments > 1:
        parts |= {f"segment-{i}": lines[i * each : (i + 1) * each] for i in range(segments)}
    losses = {}
    for name, part in parts.items():
        make = partial(_loss, scenario, part, out / scenario.name / name, rate, optimizer)
        losses[name] = kept(out / scenario.name / f"{name}.json", make)["loss"]
    return Comparators(
        {end: losses[f"first-{end}"] for end in ends},
        [losses[f"segment-{i}"] for i in range(segments)] if segments > 1 else [],
    )


def _loss(
    scenario: Scenario, part: Sequence[str], folder: Path, rate: float, optimizer: str
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "pairs.jsonl", "".join(part))
    pairs = str(folder / "pairs.jsonl")
    recipe = load_recipe(
        {
            **scenario.settings,
            "output_dir": str(folder / "run"),
            "chase": None,
            "budget": None,
            "data": {**scenario.settings["data"], "train": pairs, "eval": pairs},
            "eval": {"num_prompts": 0, "max_pairs": None},
            "train": {
                **scenario.settings["train"],
                "learning_rate": rate,
                "schedule": "linear",
                "optimizer": optimizer,
                "epochs": PASSES,
            },
        }
    )
    final = trained(recipe).eval["final"]
    assert final is not None
    return {"loss": final["loss"]}


def regret(losses: Sequence[float], pairs: int, comparator: float) -> float:
    """R_T in nats from each step's mean loss over `pairs` pairs; a lower bound, see the module."""
    return pairs * (sum(losses) / len(losses) - comparator)
