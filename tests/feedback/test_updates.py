"""What is learned and what is served: each row once, by one learner, and any of it taken back."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select, update
from town import Town

from fastslow.feedback import (
    Fenced,
    Malformed,
    Store,
    decisions,
    forgetting,
    items,
    leases,
    ledger,
    people,
    planning,
    updates,
    voting,
    watching,
)
from fastslow.feedback.schema import audit, routes

GATE = {"verdict": "promoted"}


class Lab(Town):
    """A town with a learner."""

    def __init__(self, store):
        super().__init__(store)
        self.learner = self.claim()

    def claim(self):
        return self.store.write(planning.claim)

    def add(self, count=1, domain="talk", verdict="a"):
        """New rows of the ledger; their numbers. Prompts that are held out are not counted."""
        found = []
        while len(found) < count:
            with self.store.read() as connection:
                before = ledger.last_seq(connection)
            pair = self.pair(f"prompt {self.now} {before}", domain=domain)
            voter = self.voters[0]
            self.store.write(leases.lease, pair_id=pair, voter=voter, until=self.now)
            self.last = self.vote(voter, pair, verdict)
            self.now += voting.GRACE
            self.write(ledger.admit, check=lambda row: None)
            with self.store.read() as connection:
                (new,) = ledger.entries(connection, after=before)
            found += [] if new.holdout else [new.seq]
        return found

    def waiting(self, domain="talk", **named):
        with self.store.read() as connection:
            return [row.seq for row in planning.waiting(connection, domain, **named)]

    def learned(self, domain="talk"):
        with self.store.read() as connection:
            return planning.learned(connection, domain)

    def route(self, domain="talk"):
        with self.store.read() as connection:
            return updates.route_of(connection, domain)

    def state(self, update_id):
        with self.store.read() as connection:
            return updates.update_of(connection, update_id).state

    def plan(self, rows=None, domain="talk", **named):
        rows = self.waiting(domain) if rows is None else rows
        named = {"learner": self.learner, **named}
        return self.write(planning.plan, domain=domain, rows=rows, **named)

    def tested(self, planned, learner=None):
        """A planned update, learned and before the gate."""
        own = {"learner": learner or self.learner, "update_id": planned.id}
        facts = {"adapter": f"u{planned.id}", "checkpoint": f"c{planned.id}"}
        self.store.write(planning.move, state="learning", **own)
        self.store.write(planning.move, state="candidate", **facts, **own)
        return self.store.write(planning.move, state="gating", **own)

    def resumed(self):
        """What another learner has left, planned again."""
        return self.store.write(planning.resume, learner=self.learner)

    def promoted(self, rows=None, domain="talk", **named):
        found = self.tested(self.plan(rows, domain, **named))
        self.promote(found.id)
        return found

    def promote(self, update_id, learner=None):
        own = {"learner": learner or self.learner, "update_id": update_id}
        return self.store.write(decisions.promote, gate=GATE, **own)

    def quarantine(self, update_id):
        own = {"learner": self.learner, "update_id": update_id}
        return self.store.write(decisions.quarantine, gate={"verdict": "quarantined"}, **own)

    def wait(self, update_id):
        own = {"learner": self.learner, "update_id": update_id}
        return self.store.write(decisions.wait, gate={"verdict": "waiting"}, **own)

    def decide(self, what, update_id):
        return self.write(what, update_id=update_id, by=self.voters[1])


@pytest.fixture
def lab(store):
    return Lab(store)


def test_an_update_goes_from_its_plan_to_the_route(lab):
    rows = lab.add(3)
    planned = lab.plan()
    assert (planned.parent, planned.state, planned.domain) == (None, "planned", "talk")
    assert lab.waiting() == [] and lab.learned() == []
    tested = lab.tested(planned)
    assert tested.adapter == f"u{planned.id}"
    route = lab.promote(planned.id)
    assert (route.update_id, route.previous_id) == (planned.id, None)
    assert lab.learned() == rows and lab.state(planned.id) == "promoted"
    later = lab.promoted(lab.add(2))
    assert later.parent == planned.id and lab.state(planned.id) == "superseded"
    assert lab.route().previous_id == planned.id
    with lab.store.read() as connection:
        assert [one.id for one in updates.history(connection, "talk")] == [later.id, planned.id]
        assert [row.seq for row in updates.rows_of(connection, planned.id)] == rows


def test_rows_wait_in_order_without_what_was_taken_back_or_is_held_out(lab):
    rows = lab.add(3)
    assert lab.waiting() == rows and lab.waiting(limit=1) == rows[:1]
    assert lab.waiting(after=rows[0]) == rows[1:]
    lab.write(voting.retract, voter=lab.voters[0], vote_id=lab.last.id)
    lab.write(ledger.admit, check=lambda row: None)
    assert lab.waiting() == rows[:2] and lab.waiting("other") == []
    with lab.store.read() as connection:
        assert planning.domains(connection) == ["talk"]


def test_one_update_of_a_domain_is_on_the_way_at_a_time(lab):
    rows = lab.add(2)
    lab.plan(rows[:1])
    with pytest.raises(Fenced, match="not decided yet"):
        lab.plan(rows[1:])
    assert lab.plan(lab.add(1, domain="other"), domain="other").domain == "other"


def test_a_row_is_planned_once(lab):
    rows = lab.add(2)
    lab.promoted(rows[:1])
    for again in (rows[:1], rows, [], [99], lab.add(1, domain="other")):
        with pytest.raises(Fenced, match="no longer wait"):
            lab.plan(again)
    lab.promoted(rows[1:], replayed=rows[:1])
    assert lab.learned() == rows
    with lab.store.read() as connection:
        uses = updates.uses_of(connection, list(ledger.entries(connection))[0].vote_id)
    assert [(one.state, one.replayed) for one in uses] == [
        ("superseded", False),
        ("promoted", True),
    ]


def test_a_learner_that_was_replaced_writes_nothing_more(lab):
    old = lab.learner
    planned = lab.plan(lab.add(2))
    lab.learner = lab.claim()
    for attempt in (
        lambda: lab.tested(planned, learner=old),
        lambda: lab.promote(planned.id, learner=old),
        lambda: lab.store.write(planning.resume, learner=old),
        lambda: lab.plan([], learner=old),
    ):
        with pytest.raises(Fenced, match="another learner"):
            attempt()
    (left,) = lab.store.write(planning.resume, learner=lab.learner)
    assert left == planned
    lab.tested(left)
    assert lab.promote(left.id).update_id == planned.id


@pytest.mark.parametrize("reached", ["planned", "learning", "candidate", "gating"])
def test_the_next_learner_takes_up_what_was_left_at_any_point(lab, reached):
    planned = lab.plan(lab.add(2))
    for state in ("learning", "candidate", "gating"):
        if lab.state(planned.id) == reached:
            break
        lab.store.write(planning.move, learner=lab.learner, update_id=planned.id, state=state)
    lab.learner = lab.claim()
    (left,) = lab.store.write(planning.resume, learner=lab.learner)
    assert (left.id, left.state) == (planned.id, "planned")
    lab.tested(left)
    lab.promote(left.id)


def test_what_begins_at_what_answers_no_more_is_given_back_and_not_taken_up(lab):
    parent = lab.promoted(lab.add(1))
    rows = lab.add(2)
    planned = lab.plan(rows)
    later = update(routes).values(epoch=planned.epoch + 1)
    # As stores can have it in which somebody decided while earlier versions planned.
    lab.store.write(lambda connection: connection.execute(later))
    assert lab.resumed() == [] and lab.state(planned.id) == "released"
    assert lab.promoted(rows).parent == parent.id


def test_what_fails_the_gate_is_not_learned_again_unless_released(lab):
    first = lab.promoted(lab.add(1))
    rows = lab.add(2)
    bad = lab.tested(lab.plan(rows))
    lab.quarantine(bad.id)
    assert lab.route().update_id == first.id and lab.waiting() == []
    later = lab.promoted(lab.add(1))
    assert later.parent == first.id
    lab.decide(decisions.release, bad.id)
    assert lab.waiting() == rows and lab.state(bad.id) == "released"
    assert lab.promoted(rows).parent == later.id
    with pytest.raises(Malformed, match="is released"):
        lab.decide(decisions.discard, bad.id)


def test_what_is_discarded_is_never_learned(lab):
    bad = lab.tested(lab.plan(lab.add(2)))
    lab.quarantine(bad.id)
    lab.decide(decisions.discard, bad.id)
    assert lab.waiting() == [] and lab.state(bad.id) == "discarded"


def test_what_waits_answers_once_it_is_approved(lab):
    first = lab.promoted(lab.add(1))
    rows = lab.add(2)
    second = lab.tested(lab.plan(rows))
    lab.wait(second.id)
    assert lab.route().update_id == first.id and lab.waiting() == []
    with pytest.raises(Fenced, match=f"update {second.id} of talk is not decided yet"):
        lab.plan(lab.add(1))
    assert lab.store.write(planning.resume, learner=lab.claim()) == []
    route = lab.decide(decisions.approve, second.id)
    assert (route.update_id, route.previous_id, route.anchor_id) == (second.id, first.id, second.id)
    assert lab.state(first.id) == "superseded" and lab.state(second.id) == "promoted"
    with lab.store.read() as connection:
        assert updates.update_of(connection, second.id).decided_by == lab.voters[1]


def test_what_waits_may_be_given_back_or_discarded(lab):
    for decide, left in ((decisions.release, True), (decisions.discard, False)):
        rows = lab.add(1)
        found = lab.tested(lab.plan())
        lab.wait(found.id)
        lab.decide(decide, found.id)
        assert (lab.waiting() == rows) is left and lab.route().update_id is None


def test_what_waits_on_what_is_rolled_back_is_given_back(lab):
    first = lab.promoted(lab.add(1))
    rows = lab.add(1)
    second = lab.tested(lab.plan(rows))
    lab.wait(second.id)
    lab.decide(decisions.roll_back, first.id)
    assert lab.state(second.id) == "released" and lab.waiting() == rows
    with pytest.raises(Malformed, match="does not answer"):
        lab.decide(decisions.approve, second.id)


def test_rolling_back_serves_what_was_before_and_learns_the_rest_again(lab):
    rows = [lab.add(1) for _ in range(4)]
    first, bad, third, last = (lab.promoted(own) for own in rows)
    lab.write(decisions.approve, update_id=lab.route().update_id, by=lab.voters[1])
    assert lab.route().anchor_id == last.id
    route = lab.decide(decisions.roll_back, bad.id)
    assert (route.update_id, route.previous_id, route.anchor_id) == (first.id, None, first.id)
    states = [lab.state(one.id) for one in (first, bad, third, last)]
    assert states == ["promoted", "rolled_back", "released", "released"]
    assert lab.waiting() == rows[2] + rows[3] and lab.learned() == rows[0]
    again = lab.promoted()
    assert again.parent == first.id and lab.learned() == rows[0] + rows[2] + rows[3]
    with pytest.raises(Malformed, match="only the update that answers"):
        lab.decide(decisions.roll_back, bad.id)
    with lab.store.read() as connection:
        actions = list(connection.scalars(select(audit.c.action).order_by(audit.c.id)))
    assert actions[-2:] == ["approve", "roll_back"]


def test_what_is_too_old_is_forgotten_and_cannot_be_gone_back_to(lab):
    made = [lab.promoted(lab.add(1)) for _ in range(2)]
    lab.write(decisions.approve, update_id=lab.route().update_id, by=lab.voters[1])
    made += [lab.promoted(lab.add(1)) for _ in range(4)]
    own = {"learner": lab.learner, "domain": "talk"}
    gone = lab.store.write(decisions.forget_old, keep=2, **own)
    assert [one.id for one in gone] == [made[3].id, made[2].id, made[0].id]
    assert lab.store.write(decisions.forget_old, keep=2, **own) == []
    with pytest.raises(Malformed, match=f"update {made[3].id}, .* is no longer kept"):
        lab.decide(decisions.roll_back, made[4].id)
    assert lab.decide(decisions.roll_back, made[2].id).update_id == made[1].id


def test_of_what_was_given_back_nothing_is_kept_on_disk(lab):
    first, second, third = (lab.promoted(lab.add(1)) for _ in range(3))
    lab.decide(decisions.roll_back, second.id)
    gone = lab.store.write(decisions.forget_old, keep=9, learner=lab.learner, domain="talk")
    assert [one.id for one in gone] == [third.id]


def test_who_is_forgotten_is_in_nothing_that_answers(lab):
    ann, bob = lab.voters
    first = lab.promoted(lab.add(2))
    lab.voters = [bob, ann]
    second = lab.promoted(lab.add(1))
    lab.voters = [ann, bob]
    rows = lab.add(2)
    third = lab.promoted(rows)
    done = lab.write(forgetting.forget_person, principal_id=bob, by=ann)
    assert (done.votes, done.updates) == (1, [second.id, third.id])
    assert lab.route().update_id == first.id and lab.waiting() == rows
    lab.write(ledger.admit, check=lambda row: None)
    assert lab.waiting() == rows
    with lab.store.read() as connection:
        assert [row.kind for row in ledger.entries(connection)][-1] == "retract"
        assert [one.disabled for one in people.all_principals(connection)] == [False, True]
        actions = list(connection.scalars(select(audit.c.action).order_by(audit.c.id)))
    assert actions[-2:] == ["disable", "forget"]
    with pytest.raises(updates.UnknownItem, match="no person 99"):
        lab.write(forgetting.forget_person, principal_id=99, by=ann)


def test_votes_that_watch_are_read_in_order_and_each_once(lab):
    first, second = lab.promoted(lab.add(1)), lab.promoted(lab.add(1))
    before = first_watched(lab)
    for better in (first.id, second.id):
        prompt = lab.prompt(f"Who is better than {better}?")
        both = {
            update: lab.answer(prompt, f"by {update}", update_id=update)
            for update in (first.id, second.id)
        }
        pair = lab.write(
            items.add_pair, prompt_id=prompt, first=both[first.id], second=both[second.id],
            draw=lab.draw, purpose="watch",
        )  # fmt: skip
        voter = lab.voters[0]
        lab.store.write(leases.lease, pair_id=pair, voter=voter, until=lab.now)
        with lab.store.read() as connection:
            shown = leases.pair_of(connection, pair_id=pair, voter=voter)
        lab.vote(voter, pair, "a" if shown.a == f"by {better}" else "b")
    lab.now += voting.GRACE
    lab.write(ledger.admit, check=lambda row: None)
    with lab.store.read() as connection:
        found = watching.watched(connection, after=before, limit=99)
        assert [(one.better, one.worse) for one in found.cast] == [
            (first.id, second.id), (second.id, first.id),
        ]  # fmt: skip
        nothing = watching.Next([], [], found.last)
        assert watching.watched(connection, after=found.last, limit=99) == nothing
        one = watching.Next(found.cast[:1], [], before + 1)
        assert watching.watched(connection, after=before, limit=1) == one


def first_watched(lab):
    with lab.store.read() as connection:
        return watching.first_watched(connection, lab.route().update_id)


def test_only_what_answers_can_be_approved(lab):
    first, second = lab.promoted(lab.add(1)), lab.promoted(lab.add(1))
    approve = {"by": lab.voters[1]}
    with pytest.raises(
        Malformed, match=f"update {first.id} does not answer in talk; update {second.id}"
    ):
        lab.write(decisions.approve, update_id=first.id, **approve)
    assert lab.write(decisions.approve, update_id=second.id, **approve).anchor_id == second.id


def test_rolling_the_first_update_back_serves_the_base(lab):
    only = lab.promoted(lab.add(1))
    route = lab.decide(decisions.roll_back, only.id)
    assert (route.update_id, route.previous_id) == (None, None)
    assert lab.promoted(lab.add(1)).parent is None


def test_a_learner_on_the_way_from_what_was_rolled_back_is_refused(lab):
    first = lab.promoted(lab.add(1))
    rows = lab.add(1)
    under_way = lab.tested(lab.plan(rows))
    lab.decide(decisions.roll_back, first.id)
    with pytest.raises(Fenced, match="is released, not gating"):
        lab.promote(under_way.id)
    assert lab.route().update_id is None and lab.waiting() == rows


def test_what_was_taken_back_after_it_was_learned_is_not_replayed(lab):
    rows = lab.add(2)
    lab.promoted(rows)
    lab.write(voting.retract, voter=lab.voters[0], vote_id=lab.last.id)
    lab.write(ledger.admit, check=lambda row: None)
    assert lab.learned() == rows[:1]
    with lab.store.read() as connection:
        (use,) = updates.uses_of(connection, lab.last.id)
    assert (use.state, use.domain) == ("promoted", "talk")


def test_what_is_to_be_learned_once_more_and_is_taken_back_is_not(lab):
    rows = lab.add(2)
    lab.promoted(rows)
    new, taken_back = lab.add(1), rows[1:]
    with lab.store.read() as connection:
        votes = {row.seq: row.vote_id for row in ledger.entries(connection)}
    lab.write(voting.retract, voter=lab.voters[0], vote_id=votes[taken_back[0]])
    with pytest.raises(Fenced, match="no longer learned; plan again"):
        lab.plan(new, replayed=rows)
    assert lab.plan(new, replayed=rows[:1]).state == "planned"


def test_what_is_not_there_is_said_so(lab):
    for call in (
        lambda: lab.decide(decisions.roll_back, 7),
        lambda: lab.decide(decisions.release, 7),
    ):
        with pytest.raises(updates.UnknownItem, match="no update 7"):
            call()
    planned = lab.plan(lab.add(1))
    with pytest.raises(Malformed, match="cannot make an update promoted"):
        lab.store.write(planning.move, learner=lab.learner, update_id=planned.id, state="promoted")
    with pytest.raises(Fenced, match="is planned, not candidate"):
        lab.store.write(planning.move, learner=lab.learner, update_id=planned.id, state="gating")


class AnyHistory(RuleBasedStateMachine):
    """Whatever learners and people do in whatever order, what is served has learned each of its
    rows once, and no row is lost or in two places."""

    def __init__(self):
        super().__init__()
        from tempfile import TemporaryDirectory

        self.folder = TemporaryDirectory()
        self.lab = Lab(Store(self.folder.name))
        self.under_way, self.made, self.rows = None, [], []

    def teardown(self):
        self.lab.store.close()
        self.folder.cleanup()

    @rule(count=st.integers(1, 3))
    def votes_come(self, count):
        self.rows += self.lab.add(count)

    @rule(data=st.data())
    def plans(self, data):
        waiting = self.lab.waiting()
        some = waiting[: data.draw(st.integers(0, len(waiting)))]
        try:
            self.under_way = self.lab.plan(some)
            self.made.append(self.under_way.id)
        except Fenced:
            with self.lab.store.read() as connection:
                undecided = planning.on_the_way(connection, "talk")
            assert undecided is not None or not some

    @precondition(lambda self: self.under_way)
    @rule(verdict=st.sampled_from(["promote", "quarantine", "wait"]))
    def learns_and_tests(self, verdict):
        try:
            self.lab.tested(self.under_way)
            getattr(self.lab, verdict)(self.under_way.id)
        except Fenced:
            assert self.lab.state(self.under_way.id) == "released"
        self.under_way = None

    @rule()
    def another_learner_begins(self):
        self.lab.learner = self.lab.claim()
        left = self.lab.store.write(planning.resume, learner=self.lab.learner)
        self.under_way = left[0] if left else None

    @precondition(lambda self: self.made)
    @rule(
        data=st.data(),
        what=st.sampled_from(
            [decisions.roll_back, decisions.release, decisions.discard, decisions.approve]
        ),
    )
    def a_person_decides(self, data, what):
        number = data.draw(st.sampled_from(self.made))
        allowed = {
            decisions.roll_back: updates.SERVED,
            decisions.approve: ("promoted", "waiting"),
        }.get(what, ("quarantined", "rolled_back", "waiting"))
        if self.lab.state(number) in allowed:
            self.lab.decide(what, number)
        else:
            with pytest.raises(Malformed):
                self.lab.decide(what, number)

    @invariant()
    def each_row_is_in_one_place(self):
        with self.lab.store.read() as connection:
            history = updates.history(connection, "talk")
            own = {
                one.id: [row.seq for row in updates.rows_of(connection, one.id)] for one in history
            }
        held = [seq for one in history if one.state != "released" for seq in own[one.id]]
        assert sorted(held + self.lab.waiting()) == self.rows

    @invariant()
    def what_answers_is_a_chain_of_what_was_promoted(self):
        with self.lab.store.read() as connection:
            by_id = {one.id: one for one in updates.history(connection, "talk")}
            route = updates.route_of(connection, "talk")
        chain, at = [], route.update_id
        while at is not None:
            chain.append(at)
            at = by_id[at].parent
        served = [number for number, one in by_id.items() if one.state in updates.SERVED]
        assert sorted(chain) == sorted(served)
        assert [by_id[number].state for number in chain[:1]] in ([], ["promoted"])
        assert all(by_id[number].state == "superseded" for number in chain[1:])
        assert route.previous_id == (chain[1] if len(chain) > 1 else None)
        learned = [seq for number in chain for seq in self._rows(number)]
        assert sorted(learned) == self.lab.learned()

    def _rows(self, number):
        with self.lab.store.read() as connection:
            return [row.seq for row in updates.rows_of(connection, number)]


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
