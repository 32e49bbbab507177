"""Results from records: gains over the base at matched KL and at equal steps, with intervals."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from fastslow.evaluation import bootstrap_interval, reward_at_kl

Record = Mapping[str, Any]

BUDGETS = (0.5, 1.0, 2.0)
"""Reverse KL in nats per answer, mean over the domains, at which methods are compared."""
BUDGET = 2.0
"""The budget of tuning and the headline: about what a domain's own module spends."""
BESIDE = ("reverse_kl", "mean_length", "chosen_log_ratio", "rejected_log_ratio", "accuracy")


def gain_at_kl(record: Record, metric: str, budget: float) -> float:
    """Mean gain over the base within a reverse KL, interpolated between strengths."""
    points = [(_mean(point, "reverse_kl"), _mean(point, metric)) for point in record["points"]]
    base = points[0][1]
    # The KL of the base itself is exactly 0.
    return reward_at_kl([(0.0, base), *points[1:]], budget) - base


def gain_at_end(record: Record, metric: str) -> float:
    """Mean gain over the base on all domains at the end of training."""
    base, trained = record["points"][0], ended_at(record)
    return _mean(trained, metric) - _mean(base, metric)


def best_rates(records: Sequence[Record], metric: str) -> dict[str, float]:
    """For each method the rate with the highest mean gain within BUDGET over the records."""
    gains: dict[str, dict[float, list[float]]] = {}
    for record in records:
        rate_gains = gains.setdefault(record["method"], {}).setdefault(record["rate"], [])
        rate_gains.append(gain_at_kl(record, metric, BUDGET))
    return {
        method: max(by_rate, key=lambda rate: fmean(by_rate[rate]))
        for method, by_rate in gains.items()
    }


def results(
    records: Sequence[Record], metric: str, *, oracle: str = "oracle"
) -> dict[str, dict[str, Any]]:
    """For each method, means over the scenarios with 95 % bootstrap intervals.

    `gain@B`: gain within a reverse KL of B nats; `kept@B`: as a share of the oracle's on the same
    scenario; `gain` and the other metrics at the end of training; retention if measured.
    """
    by_method: dict[str, dict[str, Record]] = {}
    for record in records:
        by_method.setdefault(record["method"], {})[record["scenario"]] = record
    best = by_method.get(oracle, {})
    rows = {}
    for method, by_scenario in by_method.items():
        row: dict[str, Any] = {"scenarios": len(by_scenario)}
        for budget in BUDGETS:
            gains = {
                name: gain_at_kl(record, metric, budget) for name, record in by_scenario.items()
            }
            row[f"gain@{budget:g}"] = interval(list(gains.values()))
            # No share is defined where the oracle gains nothing.
            shares = [
                gain / most
                for name, gain in gains.items()
                if name in best and (most := gain_at_kl(best[name], metric, budget)) > 0
            ]
            if shares:
                row[f"kept@{budget:g}"] = interval(shares)
        row["gain"] = interval([gain_at_end(record, metric) for record in by_scenario.values()])
        for key in BESIDE:
            row[key] = fmean(_mean(ended_at(record), key) for record in by_scenario.values())
        kept = [
            record["retention"][metric] for record in by_scenario.values() if record["retention"]
        ]
        if kept:
            row["retention"] = {
                key: fmean(metrics[key] for metrics in kept if metrics[key] is not None)
                for key in kept[0]
            }
        rows[method] = row
    return rows


def differences(
    records: Sequence[Record], metric: str, pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Gain of one method minus that of another on the same scenarios, within each budget."""
    gains = {
        (record["method"], record["scenario"], budget): gain_at_kl(record, metric, budget)
        for record in records
        for budget in BUDGETS
    }
    scenarios = sorted({record["scenario"] for record in records})
    return {
        f"{first} - {second} @{budget:g}": interval(
            [gains[first, s, budget] - gains[second, s, budget] for s in scenarios]
        )
        for first, second in pairs
        for budget in BUDGETS
    }


def ended_at(record: Record) -> Mapping[str, Any]:
    """The measurements of the training's final policy."""
    point: Mapping[str, Any] = next(p for p in record["points"] if p["strength"] == 1.0)
    return point


def _mean(point: Mapping[str, Any], key: str) -> float:
    return fmean(domain[key] for domain in point["domains"])


def interval(
    values: Sequence[float],
    ends: Callable[[Sequence[float]], tuple[float, float]] = bootstrap_interval,
) -> dict[str, float]:
    """Mean of values of independent scenarios, with the ends of its 95 % interval.

    A single value has no spread and gets no ends.
    """
    result = {"mean": fmean(values)}
    if len(values) > 1:
        result["low"], result["high"] = ends(values)
    return result


def shown(value: Mapping[str, float], *, form: str = "+.3f") -> str:
    """A value of `interval` as text: its mean, and its ends if it has them."""
    texts = {key: format(end, form) for key, end in value.items()}
    between = " ({low} to {high})".format(**texts) if "low" in texts else ""
    return texts["mean"] + between
