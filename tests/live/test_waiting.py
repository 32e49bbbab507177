"""Which rows wait until there are enough to tell whom they serve."""

import pytest
from ledgers import edits, honest, ratings

from fastslow.config import GateConfig
from fastslow.live.waiting import ENOUGH, FEWEST_OTHERS, held_back, reasons

LIMITS = GateConfig()


@pytest.mark.parametrize(("kind", "sent"), [("edit", edits), ("rating", ratings)])
def test_what_somebody_new_sends_waits_until_there_is_enough_to_tell(kind, sent):
    few = sent(ENOUGH[kind] - 1, 3)
    found = [
        one for one in reasons([*honest(100), *few], {100, 101}, LIMITS) if "until" in str(one)
    ]
    assert {*held_back([*honest(100), *few], found, {})} == {
        one.seq for one in few if one.voter != 102
    }
    (said,) = map(str, found)
    assert f"{kind}s by newcomers wait until there are {ENOUGH[kind]}," in said
    assert said.endswith(f"there are {len(few)}")
    enough = [*honest(100), *sent(ENOUGH[kind], 3)]
    assert not any("until" in str(one) for one in reasons(enough, {100}, LIMITS))
    alone = [*honest(FEWEST_OTHERS - 1), *few]
    assert not any("until" in str(one) for one in reasons(alone, {100}, LIMITS))


def test_nothing_waits_for_a_test_that_is_not_made():
    rows = [*honest(100), *edits(5, 1), *ratings(5, first=200)]
    untested = GateConfig(over_use_p=0, own_rule_p=0)
    assert reasons(rows, {100, 200}, untested) == []
    (one,) = reasons(rows, {100, 200}, GateConfig(over_use_p=0))
    assert one.kind == "rating"
