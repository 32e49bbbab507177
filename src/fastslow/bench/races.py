"""Records of runs at single learning rates to regrets, and to chasing between those same runs.

Without a chase term the chasing modules are independent runs, bit for bit. So what switching
alone is worth, with any number of speeds and from any rate, follows from the runs at single rates
and costs no training.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fastslow.bench.table import BUDGETS, gain_at_end, gain_at_kl, interval, shown
from fastslow.dynamics import LeaderSelector
from fastslow.evaluation import relative_regret

Record = Mapping[str, Any]

SWAP_EVERY, MEMORY = 2, 0.8
"""Leader decisions without a chase term, as in the fixed settings."""
SPEEDS = (2, 4)


def results(
    records: Sequence[Record], names: Sequence[str], num_rates: int, fixed: int
) -> dict[str, Any]:
    """What every setting did on the streams of one kind.

    Args:
        records: of all settings on all streams.
        names: of the settings, DPO at each of `num_rates` rates first, slowest first.
        num_rates: how many those are.
        fixed: index of the rate of the fast module in the fixed settings.

    `settings`: one row for each setting, and for switching alone at the fixed rate;
    `fast_rates`: regret by rate, of DPO and of chasing with this rate for the fastest module.
    """
    streams: dict[str, dict[str, Record]] = {}
    for record in records:
        streams.setdefault(record["scenario"], {})[record["setting"]] = record
    rates = names[:num_rates]
    best = [min(own[rate]["loss"] for rate in rates) for own in streams.values()]
    runs = {name: [own[name] for own in streams.values()] for name in names}
    for speeds in SPEEDS:
        runs[f"switching-{speeds}-speeds"] = _races(streams, rates, fixed, speeds)
    by_rate = {
        rate: {
            "dpo": _regret(runs[rate], best),
            **{
                f"{speeds} speeds": _regret(_races(streams, rates, index, speeds), best)
                for speeds in SPEEDS
            },
        }
        for index, rate in enumerate(rates)
        if index
    }
    return {
        "settings": {name: _row(own, best) for name, own in runs.items()},
        "fast_rates": by_rate,
    }


def _races(
    streams: Mapping[str, Mapping[str, Record]], rates: Sequence[str], fastest: int, speeds: int
) -> list[Record]:
    """On each stream, switching between the run at one rate and those at the next slower ones."""
    modules = tuple(reversed(rates[max(0, fastest + 1 - speeds) : fastest + 1]))
    return [race_runs({name: own[name] for name in modules}) for own in streams.values()]


def race_runs(runs: Mapping[str, Record]) -> Record:
    """The record of switching between finished runs, fastest first, on the same stream."""
    race = LeaderSelector(tuple(runs), swap_every=SWAP_EVERY, decay=MEMORY)
    steps = zip(*(run["losses"] for run in runs.values()), strict=True)
    losses, swaps = [], 0
    for now in steps:
        current = dict(zip(runs, now, strict=True))
        losses.append(current[race.leader])
        race.record(current)
        swaps += race.finish_step()
    points = runs[race.leader]["points"]
    return {"loss": fmean(losses), "losses": losses, "swaps": swaps, "points": points}


def _regret(runs: Sequence[Record], best: Sequence[float]) -> dict[str, float]:
    each = zip(runs, best, strict=True)
    return interval([relative_regret([run["loss"]], [loss]) for run, loss in each])


def _row(runs: Sequence[Record], best: Sequence[float]) -> dict[str, Any]:
    return {
        "loss": interval([run["loss"] for run in runs]),
        "regret": _regret(runs, best),
        "swaps": fmean(run["swaps"] for run in runs),
        "gain": interval([gain_at_end(run, "reward") for run in runs]),
        **{
            f"gain@{budget:g}": interval([gain_at_kl(run, "reward", budget) for run in runs])
            for budget in BUDGETS
        },
    }


def as_markdown(found: Mapping[str, Any]) -> str:
    """The results as tables to read; regret is above the best rate of each stream in hindsight."""
    lines = []
    for kind, results in found["streams"].items():
        head = ["setting", "loss before learning", "regret", "reward gained"]
        head += [*(f"at {budget:g} nats" for budget in BUDGETS), "swaps"]
        lines += [f"### {kind}", "", *_head(head)]
        for setting, row in results["settings"].items():
            cells = [setting, f"{row['loss']['mean']:.4f}", shown(row["regret"], percent=True)]
            cells += [shown(row["gain"])]
            cells += [shown(row[f"gain@{budget:g}"]) for budget in BUDGETS]
            lines.append("| " + " | ".join([*cells, f"{row['swaps']:.1f}"]) + " |")
        by_rate = results["fast_rates"]
        lines += ["", f"Regret by the fastest module's rate, switching only, {kind}:", ""]
        lines += _head(["rate", *next(iter(by_rate.values()))])
        for rate, row in by_rate.items():
            cells = [rate.removeprefix("dpo-"), *(shown(v, percent=True) for v in row.values())]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _head(names: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
