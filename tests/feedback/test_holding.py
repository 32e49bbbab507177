"""What is held back of whom is said in the store, and let through by an admin."""

import pytest
from sqlalchemy import select
from town import Town

from fastslow.feedback import Fenced, UnknownItem, holding, planning
from fastslow.feedback.holding import HeldBack, Waiting
from fastslow.feedback.marks import marks
from fastslow.feedback.schema import audit


class Holding(Town):
    """A town with a learner that holds rows back."""

    def __init__(self, store):
        super().__init__(store)
        self.learner = store.write(planning.claim)

    def hold(self, *found, domain="talk"):
        self.now += 1
        self.write(holding.hold, learner=self.learner, domain=domain, found=found)

    def held(self):
        with self.store.read() as connection:
            return holding.all_held(connection)


@pytest.fixture
def town(store):
    return Holding(store)


def test_what_is_held_back_in_a_domain_takes_the_place_of_what_was(town):
    ann, bob = town.voters
    first, other = HeldBack("talk", ann, 3, "why"), HeldBack("code", ann, 1, "so")
    town.hold(first)
    town.hold(other, domain="code")
    later = HeldBack("talk", bob, 2, "why else")
    town.hold(later)
    assert town.held() == [
        Waiting("code", ann, 1, "so", "voter 0"),
        Waiting("talk", bob, 2, "why else", "voter 1"),
    ]
    with town.store.read() as connection:
        assert holding.held_in(connection, "talk") == [later]
    town.hold()
    assert [one.domain for one in town.held()] == ["code"]


def test_an_admin_lets_what_somebody_sent_until_now_through(town):
    ann, bob = town.voters
    for domain in ("code", "talk"):
        held = [HeldBack(domain, who, 2, "why") for who in (ann, bob)]
        town.hold(*held, domain=domain)
    assert town.write(holding.let_through, principal_id=ann, by=bob) == 4
    assert [one.voter for one in town.held()] == [bob, bob]
    with town.store.read() as connection:
        assert holding.let_through_until(connection) == {ann: town.now}
        last = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(1)).one()
    assert (last.action, last.principal_id) == ("let_through", bob)
    assert last.detail == {"principal": ann, "rows": 4}
    assert town.write(holding.let_through, principal_id=ann, by=bob) == 0
    with pytest.raises(UnknownItem, match="no person 99"):
        town.write(holding.let_through, principal_id=99, by=bob)


def test_a_stale_learner_says_nothing_and_pages_hear_of_what_is_said(town):
    def seen():
        with town.store.read() as connection:
            return marks(connection)["votes"]

    before = seen()
    town.hold(HeldBack("talk", town.voters[0], 1, "why"))
    between = seen()
    town.hold(HeldBack("talk", town.voters[0], 2, "why"))
    assert before != between != seen()
    town.store.write(planning.claim)
    with pytest.raises(Fenced):
        town.hold()
