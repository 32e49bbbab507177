"""Results of `fastslow bench online` from its records: settings, gains at equal KL, rounds."""

import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fastslow.bench.online_methods import METHODS, Setting
from fastslow.bench.table import gain_at_kl, interval
from fastslow.errors import StateError

Record = Mapping[str, Any]

BUDGETS = (1.0, 2.0, 4.0)
"""Reverse KL in nats per answer at which methods are compared."""


def best_setting(name: str, records: Sequence[Record]) -> Setting:
    """The setting of a method with the highest mean gain over BUDGETS and worlds; one that failed
    anywhere only if there is no other."""
    gains: dict[str, list[float]] = {}
    for record in records:
        if record["method"] == name:
            setting_gains = gains.setdefault(json.dumps(record["setting"]), [])
            setting_gains += [_gain(record, budget) for budget in BUDGETS]
    setting: Setting = json.loads(max(gains, key=lambda key: fmean(gains[key])))
    return setting


def row(name: str, records: Sequence[Record]) -> dict[str, Any]:
    """A method's results, means over seeds with intervals.

    `failed`: number of worlds in which it failed, which are in no other number. `curve` and `end`:
    as it was trained. `gain@B`: reward over the base within B nats.
    For one that is compared with another, seed by seed: `against`, `difference@B`,
    `reward_difference` and `kl_ratio` at the end, and if both learn in rounds `by_round`, the
    difference after each, and `a_round_less`, that to the other after one more round.
    """
    by_method: dict[str, dict[str, Record]] = {}
    for record in records:
        by_method.setdefault(record["method"], {})[record["scenario"]] = record
    against = METHODS[name].against
    records_here, other = (_sound(by_method.get(one or "", {})) for one in (name, against))
    if not records_here:
        raise StateError(
            f"{name} failed everywhere: {next(iter(by_method[name].values()))['failed']}"
        )
    results: dict[str, Any] = {"failed": len(by_method[name]) - len(records_here)}
    results["curve"] = _curve([record["curve"] for record in records_here.values()])
    results["end"] = results["curve"][-1]
    for budget in BUDGETS:
        gains = [gain_at_kl(record, "reward", budget) for record in records_here.values()]
        results[f"gain@{budget:g}"] = interval(gains)
    if pairs := [(record, other[seed]) for seed, record in records_here.items() if seed in other]:
        results |= {"against": against, **_differences(pairs)}
        if METHODS[name].data == "rounds":
            results |= _by_round([(a["curve"], b["curve"]) for a, b in pairs])
    return results


def _gain(record: Record, budget: float) -> float:
    return -math.inf if "failed" in record else gain_at_kl(record, "reward", budget)


def _sound(records: Mapping[str, Record]) -> dict[str, Record]:
    return {seed: record for seed, record in records.items() if "failed" not in record}


def _curve(curves: Sequence[Sequence[Record]]) -> list[dict[str, Any]]:
    # Some runs have fewer moments than others; the last one is the end of each.
    before = min(map(len, curves)) - 1
    moments = [[curve[place] for curve in curves] for place in range(before)]
    moments.append([curve[-1] for curve in curves])
    return [
        {key: interval([point[key] for point in points]) for key in points[0]} for points in moments
    ]


def _differences(pairs: Sequence[tuple[Record, Record]]) -> dict[str, Any]:
    ends = [(a["curve"][-1], b["curve"][-1]) for a, b in pairs]
    intervals = {
        "reward_difference": interval([a["reward"] - b["reward"] for a, b in ends]),
        "kl_ratio": interval([a["reverse_kl"] / b["reverse_kl"] for a, b in ends]),
    }
    for budget in BUDGETS:
        intervals[f"difference@{budget:g}"] = interval(
            [gain_at_kl(a, "reward", budget) - gain_at_kl(b, "reward", budget) for a, b in pairs]
        )
    return intervals


def _by_round(curves: Sequence[tuple[Sequence[Record], Sequence[Record]]]) -> dict[str, Any]:
    rounds = range(1, min(len(a) for pair in curves for a in pair))
    return {
        "by_round": [
            interval([a[place]["reward"] - b[place]["reward"] for a, b in curves])
            for place in rounds
        ],
        "a_round_less": [
            interval([a[place]["reward"] - b[place + 1]["reward"] for a, b in curves])
            for place in rounds[:-1]
        ],
    }
