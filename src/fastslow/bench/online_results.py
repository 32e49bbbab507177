"""Records of `fastslow bench online` to results: settings, gains at equal KL, round by round."""

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
    """The setting of a method with the highest gain, in the mean over BUDGETS and worlds: none with
    which it failed anywhere, if there is another."""
    gains: dict[str, list[float]] = {}
    for record in records:
        if record["method"] == name:
            own = gains.setdefault(json.dumps(record["setting"]), [])
            own += [_gain(record, budget) for budget in BUDGETS]
    setting: Setting = json.loads(max(gains, key=lambda key: fmean(gains[key])))
    return setting


def row(name: str, records: Sequence[Record]) -> dict[str, Any]:
    """A method's results, means over seeds with intervals.

    `failed`: in how many worlds it came to nothing, which are in no other number. `curve` and
    `end`: as it was trained. `gain@B`: reward over the base within B nats.
    Of one that is compared with another, seed by seed: `against`, `difference@B`,
    `reward_difference` and `kl_ratio` at the end, and where both learn in rounds `by_round`, the
    difference after each, and `a_round_less`, that to the other after one round more.
    """
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        found.setdefault(record["method"], {})[record["scenario"]] = record
    against = METHODS[name].against
    own, other = (_sound(found.get(one or "", {})) for one in (name, against))
    if not own:
        raise StateError(f"{name} failed everywhere: {next(iter(found[name].values()))['failed']}")
    results: dict[str, Any] = {"failed": len(found[name]) - len(own)}
    results["curve"] = _curve([record["curve"] for record in own.values()])
    results["end"] = results["curve"][-1]
    for budget in BUDGETS:
        gains = [gain_at_kl(record, "reward", budget) for record in own.values()]
        results[f"gain@{budget:g}"] = interval(gains)
    if pairs := [(record, other[seed]) for seed, record in own.items() if seed in other]:
        results |= {"against": against, **_differences(pairs)}
        if METHODS[name].data == "rounds":
            results |= _by_round([(a["curve"], b["curve"]) for a, b in pairs])
    return results


def _gain(record: Record, budget: float) -> float:
    return -math.inf if "failed" in record else gain_at_kl(record, "reward", budget)


def _sound(records: Mapping[str, Record]) -> dict[str, Record]:
    return {seed: record for seed, record in records.items() if "failed" not in record}


def _curve(curves: Sequence[Sequence[Record]]) -> list[dict[str, Any]]:
    # Runs that leave answers early have fewer moments; the last one is the end of each.
    before = min(map(len, curves)) - 1
    moments = [[curve[place] for curve in curves] for place in range(before)]
    moments.append([curve[-1] for curve in curves])
    return [
        {key: interval([point[key] for point in points]) for key in points[0]} for points in moments
    ]


def _differences(pairs: Sequence[tuple[Record, Record]]) -> dict[str, Any]:
    ends = [(a["curve"][-1], b["curve"][-1]) for a, b in pairs]
    found = {
        "reward_difference": interval([a["reward"] - b["reward"] for a, b in ends]),
        "kl_ratio": interval([a["reverse_kl"] / b["reverse_kl"] for a, b in ends]),
    }
    for budget in BUDGETS:
        found[f"difference@{budget:g}"] = interval(
            [gain_at_kl(a, "reward", budget) - gain_at_kl(b, "reward", budget) for a, b in pairs]
        )
    return found


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
