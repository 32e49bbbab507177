"""Margins are computed once for each adapter and vote."""

from pathlib import Path
from types import SimpleNamespace

from fastslow.adapters import BASE
from fastslow.live.gate import margins
from fastslow.live.gate.margins import KeptMargins

ROWS = [{"prompt": [], "chosen": "x" * count, "rejected": "y"} for count in range(4)]


class Counting:
    """A learner whose margin of a row is the length of what was chosen."""

    def __init__(self):
        self.asked = []

    def score(self, rows, *, module):
        self.asked.append((module, len(rows)))
        return [SimpleNamespace(margin=float(len(row["chosen"]))) for row in rows]


def test_only_votes_that_are_new_to_an_adapter_are_scored():
    learner = Counting()
    kept = KeptMargins(learner)
    assert kept.of("candidate", Path("a"), ROWS[:3]) == [0.0, 1.0, 2.0]
    assert kept.of("champion", Path("a"), [ROWS[3], ROWS[1], ROWS[1]]) == [3.0, 1.0, 1.0]
    assert kept.of("candidate", Path("b"), ROWS[:1]) == [0.0]
    assert kept.of("champion", Path("a"), ROWS) == [0.0, 1.0, 2.0, 3.0]
    assert learner.asked == [("candidate", 3), ("champion", 1), ("candidate", 1)]


def test_the_base_is_on_no_side_and_is_not_asked():
    learner = Counting()
    assert KeptMargins(learner).of(BASE, None, ROWS) == [0.0] * 4 and not learner.asked


def test_adapters_that_nobody_asks_about_are_forgotten(monkeypatch):
    monkeypatch.setattr(margins, "MOST_KEPT", 2)
    learner = Counting()
    kept = KeptMargins(learner)
    for name in "abaca":
        kept.of("candidate", Path(name), ROWS[:1])
    assert len(learner.asked) == 3, "`a` was asked about between the others"
    kept.of("candidate", Path("b"), ROWS[:1])
    assert len(learner.asked) == 4
