"""No work of a server that comes again and again may read a whole table: it would take longer with
every vote that is kept."""

import pytest
from sqlalchemy import event
from town import Town

from fastslow.feedback import Store, ledger, outbox, people, voting

GROWING = ("votes", "ledger", "pairs", "answers", "prompts", "leases", "update_rows", "outbox")
OF_FEW = ("ix_votes_taken_back",)
"""Indexes that hold few of the rows."""


def usable(row):
    return None


def server_work(town):
    """What people and the server's own tasks do all the time."""
    pairs = [town.pair(f"Which way to {number}?") for number in range(4)]
    gold = town.pair("Which is right?", purpose="gold", gold_verdict="a")
    voter = town.voters[0]
    town.next(voter, count=4)
    town.next(voter, count=4, domain="talk")
    receipt = town.vote(voter, pairs[0])
    town.write(ledger.admit, check=usable, grace=0.0)
    town.write(voting.retract, voter=voter, vote_id=receipt.id)
    town.write(ledger.admit, check=usable, grace=0.0)
    with town.store.read() as connection:
        outbox.due(connection, now=town.now)
        list(ledger.entries(connection, after=1, limit=10))
        people.principal_of(connection, token="x")
    assert gold


@pytest.fixture
def plans(tmp_path):
    """How SQLite goes about each statement of that work."""
    found = {}

    def explain(connection, cursor, statement, parameters, context, many):
        if statement.lstrip().startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
            given = parameters[0] if many else parameters
            own = connection.connection.driver_connection.cursor()
            lines = own.execute(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
            found[statement] = [line[3] for line in lines]

    with Store(tmp_path / "live") as store:
        engine = store._engine
        event.listen(engine, "before_cursor_execute", explain)
        server_work(Town(store))
        event.remove(engine, "before_cursor_execute", explain)
    return found


def reads_a_whole_table(line):
    words = line.split()
    return words[0] == "SCAN" and words[1] in GROWING and words[-1] not in OF_FEW


def test_what_comes_again_and_again_reads_no_table_from_end_to_end(plans):
    assert len(plans) > 20
    slow = {
        statement: line
        for statement, lines in plans.items()
        for line in lines
        if reads_a_whole_table(line)
    }
    assert not slow
