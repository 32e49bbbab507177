"""From records to tables, by hand."""

import pytest

from fastslow.bench.table import best_rates, differences, gain_at_end, gain_at_kl, results


def record(method, scenario, gains, *, rate=1e-3, kl=1.0, base=0.5):
    """Two domains; strength s has s * gain and s * kl, less 1 and plus 1 for the domains."""
    points = [
        {
            "strength": strength,
            "domains": [
                {
                    "reward": base + strength * gain,
                    "reverse_kl": strength * kl + shift * (strength > 0) * 0.1,
                    "mean_length": 10.0,
                    "chosen_log_ratio": -strength,
                    "rejected_log_ratio": -2 * strength,
                    "accuracy": 0.5,
                }
                for gain, shift in zip(gains, (-1, 1), strict=True)
            ],
        }
        for strength in (0.0, 0.5, 1.0, 2.0)
    ]
    kept = {"reward": {"average": 1.0, "forgetting": 0.25}}
    return {
        "scenario": scenario,
        "method": method,
        "rate": rate,
        "points": points,
        "retention": kept,
    }


def test_gain_within_a_budget_is_interpolated_between_strengths():
    one = record("cofs", "w", (1.0, 3.0))
    assert gain_at_kl(one, "reward", 1.0) == pytest.approx(2.0)
    assert gain_at_kl(one, "reward", 0.25) == pytest.approx(0.5)
    assert gain_at_kl(one, "reward", 1.5) == pytest.approx(3.0)
    assert gain_at_kl(one, "reward", 99.0) == pytest.approx(4.0)
    assert gain_at_end(one, "reward") == pytest.approx(2.0)


def test_the_measured_base_stands_at_no_kl():
    one = record("cofs", "w", (1.0, 1.0))
    for domain in one["points"][0]["domains"]:
        domain["reverse_kl"] = 0.3  # As no exact computation would give.
    assert gain_at_kl(one, "reward", 0.0) == 0.0


def test_each_method_takes_the_rate_with_the_highest_mean_gain():
    records = [
        record("cofs", "a", (1.0, 1.0), rate=1e-3),
        record("cofs", "b", (1.0, 1.0), rate=1e-3),
        record("cofs", "a", (9.0, 9.0), rate=1e-2),
        record("cofs", "b", (-9.0, -9.0), rate=1e-2),
        record("joint", "a", (1.0, 1.0), rate=1e-2),
    ]
    # Going nowhere is within every budget, so a policy that only loses gains nothing.
    assert best_rates(records, "reward") == {"cofs": 1e-2, "joint": 1e-2}
    records[2] = record("cofs", "a", (1.5, 1.5), rate=1e-2)
    assert best_rates(records, "reward")["cofs"] == 1e-3


def test_results_compare_with_the_oracle_of_the_same_scenario():
    records = [
        record("oracle", "a", (2.0, 2.0)),
        record("oracle", "b", (4.0, 4.0)),
        record("cofs", "a", (1.0, 1.0)),
        record("cofs", "b", (3.0, 3.0)),
    ]
    found = results(records, "reward")
    assert found["cofs"]["gain@2"]["mean"] == pytest.approx((2 + 6) / 2)
    assert found["cofs"]["kept@2"]["mean"] == pytest.approx((0.5 + 0.75) / 2)
    assert found["oracle"]["kept@2"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert found["cofs"]["gain"]["mean"] == pytest.approx(2.0)
    assert found["cofs"]["rejected_log_ratio"] == -2.0
    assert found["cofs"]["retention"]["forgetting"] == 0.25


def test_differences_are_paired_by_scenario():
    records = [
        record("cofs", "a", (2.0, 2.0)),
        record("cofs", "b", (9.0, 9.0)),
        record("joint", "a", (1.0, 1.0)),
        record("joint", "b", (8.0, 8.0)),
    ]
    found = differences(records, "reward", [("cofs", "joint")])
    assert found["cofs - joint @1"]["mean"] == pytest.approx(1.0)
    # Paired, the difference is the same on both scenarios, whatever their levels.
    assert found["cofs - joint @1"]["low"] == pytest.approx(1.0)
    assert found["cofs - joint @1"]["high"] == pytest.approx(1.0)
