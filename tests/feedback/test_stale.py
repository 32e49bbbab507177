"""What a learner publishes after something else was decided is refused, however often it tries."""

import pytest
from test_updates import Lab

from fastslow.feedback import Fenced, decisions


@pytest.mark.parametrize("overtaken", ["by another learner", "by a rollback"])
@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_stale_learners_publish_is_refused_every_time(store, overtaken, times):
    lab, refused = Lab(store), 0
    for _ in range(times):
        parent = lab.promoted(lab.add(1))
        planned = lab.tested(lab.plan(lab.add(1)))
        old, before = lab.learner, lab.route()
        if overtaken == "by another learner":
            lab.learner = lab.claim()
        else:
            before = lab.decide(decisions.roll_back, parent.id)
        try:
            lab.promote(planned.id, learner=old)
        except Fenced:
            refused += 1
        assert lab.route() == before and lab.state(planned.id) != "promoted"
        if overtaken == "by another learner":
            lab.promote(lab.tested(*lab.resumed()).id)
    assert refused == times
