"""A policy that is worse by a little with every update never fails against the one before: how soon
the gate sees it against what a person approved of, and how often it errs on sound updates.

Simulated margins, as a policy has them on 512 held-out votes: those of one update hang together
with those of the update before (0.96), so that after six they judge a fifth to a third of the votes
otherwise, for better or worse. Three ways to lose a point of accuracy an update: all margins fall;
votes of one kind are judged the other way round; votes of one kind are no longer told apart.
"""

import math
from statistics import NormalDist

import numpy as np
import pytest

from fastslow.config import GateConfig
from fastslow.live.choice import vote_loss
from fastslow.live.gate.held_out import SLOWLY, retention

LIMITS = GateConfig()
SPREAD, CHANGE = 10.0, 3.0
"""Of margins, and what an update changes about each at random, nats."""
KEPT = 1 / math.sqrt(1 + (CHANGE / SPREAD) ** 2)
"""Correlation of margins before and after an update."""


class Policies:
    """The margins of an approved policy, and of one update after the other since."""

    def __init__(self, draw, accuracy, votes):
        self.draw, self.accuracy = draw, accuracy
        self.own = draw.standard_normal(votes)
        self.order = draw.permutation(votes)
        self.anchor = self.margins(accuracy)

    def margins(self, accuracy):
        return NormalDist().inv_cdf(accuracy) * SPREAD + SPREAD * self.own

    def change(self, updates=1):
        kept = KEPT**updates
        fresh = self.draw.standard_normal(len(self.own))
        self.own = kept * self.own + math.sqrt(1 - kept**2) * fresh

    def after(self, lost, how):
        """Margins of a policy that is worse by so much accuracy."""
        if how == "all fall":
            return self.margins(self.accuracy - lost)
        found = self.margins(self.accuracy)
        worth = 2 * self.accuracy - 1 if how == "the other way round" else self.accuracy - 0.5
        some = self.order[: self.draw.binomial(len(found), lost / worth)]
        if how == "the other way round":
            found[some] *= -1
        else:
            found[some] = self.draw.normal(0.0, CHANGE, len(some))
        return found


def failed(candidate, champion, anchor):
    """Checks that an update fails."""
    found = retention([*candidate], [*champion], [*anchor], lambda m: vote_loss(m, 0.1), LIMITS)
    assert all(check.applied for check in found)
    return [check.name for check in found if not check.passed]


def caught_at(draw, accuracy, how, votes, most=6):
    """At how many points of lost accuracy an update is set aside; None where six answer."""
    policies = Policies(draw, accuracy, votes)
    champion = policies.anchor
    for points in range(1, most + 1):
        policies.change()
        candidate = policies.after(points / 100, how)
        if failed(candidate, champion, policies.anchor):
            return points
        champion = candidate
    return None


WAYS = ("all fall", "the other way round", "not told apart")


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("accuracy", [0.65, 0.73, 0.8])
@pytest.mark.parametrize(
    ("votes", "least"), [(512, 0.4), pytest.param(1024, 0.75, marks=pytest.mark.slow)]
)
def test_slow_drift_is_set_aside_before_six_points_answer(how, accuracy, votes, least):
    """Of 200 runs of each kind, 48 to 95 % (on average 70 %) of 512 votes and 88 to 100 % of the
    1,024 that the gate looks at where there are so many; at five points 36 to 83 % and 72 to 97 %.
    With a test on either half at 0.02, as against the one before, it was 15 to 62 % of 512 votes.
    """
    draw, runs = np.random.default_rng(1), 40
    at = [caught_at(draw, accuracy, how, votes) for _ in range(runs)]
    assert sum(one is not None for one in at) / runs >= least


def test_sound_updates_are_hardly_ever_set_aside():
    """Up to 200 updates after what was approved of: 0.35 % of 4,000 looks, at most 1 % may be."""
    draw, wrong, looks = np.random.default_rng(2), 0, 1000
    for look in range(looks):
        policies = Policies(draw, (0.65, 0.73, 0.8)[look % 3], 512)
        policies.change(look % 200)
        champion = policies.margins(policies.accuracy)
        policies.change()
        wrong += bool(failed(policies.margins(policies.accuracy), champion, policies.anchor))
    assert wrong / looks <= 0.01


def test_what_is_lost_slowly_is_seen_by_the_anchor_alone():
    """And only by all votes at once: on either half it is by chance."""
    policies = Policies(np.random.default_rng(3), 0.73, 512)
    before = policies.after(0.05, "all fall")
    now = policies.after(0.06, "all fall")
    names = failed(now, before, policies.anchor)
    assert names and all(name.endswith(SLOWLY) for name in names)
