"""Students that are asked for, planned once, and undone with their teachers."""

import pytest
from sqlalchemy import select
from test_updates import Lab

from fastslow.feedback import (
    Fenced,
    Malformed,
    consolidating,
    decisions,
    planning,
    updates,
    voting,
)
from fastslow.feedback.schema import audit


@pytest.fixture
def lab(store):
    return Lab(store)


def ready(lab):
    """An update answers in each of two domains, by which rows."""
    rows = {domain: lab.add(2, domain) for domain in ("talk", "walk")}
    for domain, own in rows.items():
        lab.promoted(own, domain)
    return rows


def asked(lab):
    return lab.write(consolidating.ask, by=lab.voters[1])


def plan(lab, number, rows, **named):
    named = {"learner": lab.learner, "number": number, "shown": rows, **named}
    return lab.write(consolidating.plan, **named)


def test_a_student_is_planned_once_as_an_update_of_every_domain(lab):
    rows = ready(lab)
    found = asked(lab)
    assert (found.state, found.by) == ("wanted", lab.voters[1])
    with pytest.raises(Malformed, match=f"consolidation {found.id} is in progress"):
        asked(lab)
    made = plan(lab, found.id, rows)
    assert [(one.domain, one.parent) for one in made] == [
        (domain, lab.route(domain).update_id) for domain in ("talk", "walk")
    ]
    with lab.store.read() as connection:
        assert consolidating.updates_of(connection, found.id) == made
        assert consolidating.unfinished(connection) == {found.id}
        assert consolidating.wanted(connection) is None
        shown = [updates.rows_of(connection, one.id) for one in made]
        assert [[row.seq for row in own] for own in shown] == [*rows.values()]
        assert planning.learned(connection, "talk") == rows["talk"], "each row is learned once"
        assert "consolidate" in list(connection.scalars(select(audit.c.action)))
    for one in made:
        lab.promote(lab.tested(one).id)
        assert lab.route(one.domain).update_id == one.id
    assert asked(lab).id > found.id


def test_nothing_is_planned_of_what_has_changed(lab):
    rows = ready(lab)
    number = asked(lab).id
    with pytest.raises(Fenced, match="another learner"):
        plan(lab, number, rows, learner=lab.learner - 1)
    with pytest.raises(Fenced, match="has changed since"):
        plan(lab, number, {"talk": rows["talk"]})
    waiting = lab.plan(lab.add(1, "walk"), "walk")
    with lab.store.read() as connection:
        why = consolidating.hindrance(connection)
    assert why == f"update {waiting.id} of walk is not decided yet"
    with pytest.raises(Fenced, match="has changed since"):
        plan(lab, number, rows)
    own = {"learner": lab.learner, "number": number}
    lab.store.write(consolidating.put_off, why=why, **own)
    with lab.store.read() as connection:
        assert [one.why for one in consolidating.asked_for(connection, limit=9)] == [why]
    lab.promote(lab.tested(waiting).id)
    plan(lab, number, rows)
    with pytest.raises(Fenced, match="has changed since"):
        plan(lab, number, rows)


def test_a_domain_that_has_nothing_left_to_show_teaches_no_student(lab):
    rows = {"talk": lab.add(2), "walk": lab.add(1, "walk")}
    last = lab.last
    for domain, own in rows.items():
        lab.promoted(own, domain)
    number = asked(lab).id
    lab.write(voting.retract, voter=lab.voters[0], vote_id=last.id)
    with lab.store.read() as connection:
        why = consolidating.hindrance(connection)
    assert why == "all that walk has learned was taken back; it has nothing to teach"
    for shown in (rows, {**rows, "walk": []}):
        with pytest.raises(Fenced, match="has changed since"):
            plan(lab, number, shown)


def test_what_was_taken_back_meanwhile_is_not_shown(lab):
    rows = ready(lab)
    number = asked(lab).id
    lab.write(voting.retract, voter=lab.voters[0], vote_id=lab.last.id)
    with pytest.raises(Fenced, match="no longer learned"):
        plan(lab, number, rows)
    assert len(plan(lab, number, {**rows, "walk": rows["walk"][:1]})) == 2


def test_what_is_undone_teaches_no_student_that_is_on_its_way(lab):
    rows = ready(lab)
    teacher = lab.route("walk").update_id
    of_talk, of_walk = plan(lab, asked(lab).id, rows)
    lab.tested(of_talk)
    lab.decide(decisions.roll_back, teacher)
    assert lab.state(of_talk.id) == lab.state(of_walk.id) == "released"
    with pytest.raises(Fenced, match="is released, not gating"):
        lab.promote(of_talk.id)
    assert lab.route("talk").update_id == of_talk.parent
    with pytest.raises(Malformed, match="there is only talk"):
        asked(lab)


def test_a_student_that_answers_stays_where_its_teacher_elsewhere_is_undone(lab):
    rows = ready(lab)
    teacher = lab.route("walk").update_id
    of_talk, of_walk = plan(lab, asked(lab).id, rows)
    lab.promote(lab.tested(of_talk).id)
    lab.decide(decisions.roll_back, teacher)
    assert lab.route("talk").update_id == of_talk.id
    assert lab.state(of_walk.id) == "released" and lab.route("walk").update_id is None
    assert lab.decide(decisions.roll_back, of_talk.id).update_id == of_talk.parent
