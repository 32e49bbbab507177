"""What people and the server do all the time costs the same however much is kept: counted in steps
of SQLite's machine, which are the same on every machine."""

import pytest
from sqlalchemy import event
from town import Town

from fastslow.feedback import (
    Store,
    decisions,
    ledger,
    outbox,
    people,
    planning,
    updates,
    voting,
)
from fastslow.feedback.marks import marks
from fastslow.live.planner import Planner
from fastslow.live.watch import Watch

ONCE = 64
STEPS = 10
"""Between two calls of the counter."""


class Counter:
    """Counts what each statement costs."""

    def __init__(self, store):
        self.found, self._now, self._store = {}, 0, store
        engine = store._engine
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)

    def _tick(self):
        self._now += STEPS
        return 0

    def _before(self, connection, cursor, statement, parameters, context, many):
        connection.connection.driver_connection.set_progress_handler(self._tick, STEPS)
        self._now = 0

    def _after(self, connection, cursor, statement, parameters, context, many):
        # Rows are fetched later; what finds them has mostly been done.
        self.found[statement] = max(self.found.get(statement, 0), self._now)

    def stop(self):
        engine = self._store._engine
        event.remove(engine, "before_cursor_execute", self._before)
        event.remove(engine, "after_cursor_execute", self._after)
        return self.found


def usable(row):
    return None


def filled(town, count):
    """Votes of one person, admitted."""
    voter = town.voters[0]
    for number in range(count):
        town.pair(f"Where is {number}?")
        (shown,) = town.next(voter)
        receipt = town.vote(voter, shown.id)
        if number % 8 == 0:
            town.write(voting.retract, voter=voter, vote_id=receipt.id)
            town.vote(voter, shown.id)
    town.now += 700
    while town.write(ledger.admit, check=usable).rows:
        pass
    learner = town.store.write(planning.claim)
    with town.store.read() as connection:
        rows = [row.seq for row in planning.waiting(connection, "talk")]
    # All but a few have been learned from, and the planner has looked before.
    town.write(planning.plan, learner=learner, domain="talk", rows=rows[:-8])
    looks = Planner(rows=16, max_wait_s=1e9, seed=0), Watch(100.0)
    town.store.write(free_learner, learner=learner)
    look(town, *looks)
    return learner, rows, looks


def look(town, planner, watch):
    """What a learner does twice a second."""
    with town.store.read() as connection:
        assert planner.next(connection, now=town.now) == [] == watch.look(connection)


def free_learner(connection, learner):
    """The update on the way is promoted, so that another may be planned."""
    (number,) = planning.undecided(connection)
    own = {"learner": learner, "update_id": number}
    for state in ("learning", "candidate", "gating"):
        planning.move(connection, state=state, **own)
    decisions.promote(connection, gate={}, **own)


def work(town, learner, rows, looks):
    """What comes again and again."""
    voter = town.voters[0]
    pairs = [town.pair(f"Which way to {number}?") for number in range(4)]
    town.pair("Which is right?", purpose="gold", gold_verdict="a")
    town.next(voter, count=4)
    town.next(voter, count=4, domain="talk")
    receipt = town.vote(voter, pairs[0])
    answer = town.answer(town.prompt(), "down the hill")
    town.write(voting.rate, voter=voter, answer_id=answer, verdict="up", key="thumb")
    town.now += 700
    town.write(ledger.admit, check=usable)
    town.write(voting.retract, voter=voter, vote_id=receipt.id)
    town.write(ledger.admit, check=usable)
    with town.store.read() as connection:
        outbox.due(connection, now=town.now)
        list(ledger.entries(connection, after=ledger.last_seq(connection) - 2, limit=10))
        people.principal_of(connection, token="x")
        planning.waiting(connection, "talk", after=rows[-1], limit=8)
        planning.last_learned(connection, "talk", limit=8)
        marks(connection)  # While anybody listens.
        updates.history(connection, limit=10)
        updates.all_routes(connection)
    look(town, *looks)
    town.write(planning.plan, learner=learner, domain="talk", rows=rows[-4:])


def cost(folder, count):
    with Store(folder) as store:
        town = Town(store)
        facts = filled(town, count)
        counter = Counter(store)
        work(town, *facts)
        return counter.stop()


@pytest.mark.slow
def test_no_statement_takes_longer_with_all_that_was_kept_before(tmp_path):
    little, much = (cost(tmp_path / str(count), count) for count in (ONCE, 8 * ONCE))
    assert little.keys() == much.keys() and len(much) > 20
    grown = {
        statement: (little[statement], steps)
        for statement, steps in much.items()
        if steps > 2 * little[statement] + 200
    }
    assert not grown
