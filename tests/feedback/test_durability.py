"""What was acknowledged is there: after kill -9 at any moment, and after the power failed."""

import contextlib
import itertools
import random
import sqlite3
import time

import apsw
import fork_server
import pytest
from power import Connection, Disk, Power
from sqlalchemy import event, select

from fastslow.errors import StateError
from fastslow.feedback import Store, items, leases, people, voting
from fastslow.feedback import store as store_module
from fastslow.feedback.schema import votes

NUMBERS = itertools.count()
VOTER = """
import os, random, sys, threading
from fastslow.feedback import Store, items, leases, people, voting
where, begin = sys.argv[1], int(sys.argv[2])
store = Store(where)
with store.read() as connection:
    voters = [one.id for one in people.all_principals(connection)]

def work(voter):
    number = begin
    while True:
        number += 1
        messages = [{"role": "user", "content": f"{voter} {number}"}]
        prompt = store.write(items.add_prompt, messages=messages, domain="d", now=0.0)
        both = [
            store.write(items.add_answer, prompt_id=prompt, answer=items.Answer(text), now=0.0)
            for text in "xy"
        ]
        pair = store.write(
            items.add_pair, prompt_id=prompt, first=both[0], second=both[1], now=0.0,
            draw=random.Random(number),
        )
        store.write(leases.lease, pair_id=pair, voter=voter, until=1e12)
        key = f"{voter}-{number}"
        store.write(voting.vote, voter=voter, pair_id=pair, verdict="a", key=key, now=0.0)
        os.write(1, f"{key}\\n".encode())  # In one piece, whoever else writes.

for voter in voters:
    threading.Thread(target=work, args=(voter,)).start()
"""


def keys(where):
    with Store(where) as store, store.read() as connection:
        return list(connection.scalars(select(votes.c.idem_key)))


def people_in(where, count):
    with Store(where) as store:
        for number in range(count):
            store.write(people.add_principal, name=f"p{number}", role="annotator", now=0.0)


@pytest.mark.processes
@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_kill_9_loses_no_acknowledged_vote_and_doubles_none(where, kills):
    """Four threads vote as fast as they can; the process is killed again and again."""
    people_in(where, 4)
    draw, acknowledged = random.Random(1), set()
    for number in range(kills):
        process = fork_server.start("-c", VOTER, where, number * 100_000)
        deadline = time.monotonic() + 60
        while process.stdout.count("\n") < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.15))
        process.kill()
        process.wait(60)
        # A line that the kill cut short acknowledges nothing.
        said = process.stdout.rpartition("\n")[0].split()
        assert said, process.stderr
        acknowledged |= set(said)
    found = keys(where)
    assert len(found) == len(set(found)), "a vote is there twice"
    assert acknowledged <= set(found), f"{len(acknowledged - set(found))} were lost"
    assert len(acknowledged) > 4 * kills


def powered(monkeypatch, power):
    """Have stores opened on a disk with this supply."""
    name = f"power{next(NUMBERS)}"
    disk = Disk(name, power)
    real = store_module.create_engine

    def create(url, **settings):
        settings.pop("connect_args")
        path = url.database
        return real("sqlite://", creator=lambda: Connection(path, name), poolclass=one_connection(),
                    **settings)  # fmt: skip

    monkeypatch.setattr(store_module, "create_engine", create)
    return disk


def one_connection():
    from sqlalchemy.pool import QueuePool

    return QueuePool


def vote_until_the_power_fails(where, begin):
    """Keys that were acknowledged."""
    said = []
    try:
        store = Store(where)
    except StateError:
        return said
    try:
        for number in range(begin, begin + 30):
            said.append(_one_vote(store, number))
    except StateError:
        pass
    finally:
        with contextlib.suppress(StateError, sqlite3.Error, apsw.Error):
            store.close()
    return said


def _one_vote(store, number):
    def cast(connection):
        prompt = items.add_prompt(
            connection, messages=[{"role": "user", "content": str(number)}], domain="d", now=0.0
        )
        both = [
            items.add_answer(connection, prompt_id=prompt, answer=items.Answer(text), now=0.0)
            for text in "xy"
        ]
        pair = items.add_pair(
            connection, prompt_id=prompt, first=both[0], second=both[1], now=0.0,
            draw=random.Random(number),
        )  # fmt: skip
        leases.lease(connection, pair_id=pair, voter=1, until=1e12)
        voting.vote(connection, voter=1, pair_id=pair, verdict="a", key=str(number), now=0.0)
        return str(number)

    return store.write(cast)


@pytest.mark.parametrize("cuts", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_a_power_cut_loses_no_acknowledged_vote(tmp_path, monkeypatch, cuts):
    """One store goes through all cuts; checkpoints are frequent, so that many fall into one."""
    where, draw = tmp_path / "live", random.Random(5)
    people_in(where, 1)
    monkeypatch.setattr(store_module, "CHECKPOINT_EVERY", 4)
    acknowledged, reached = set(), 0
    for number in range(cuts):
        power = Power(fails_at=draw.randrange(1, 400))
        with monkeypatch.context() as patched:
            disk = powered(patched, power)
            acknowledged |= set(vote_until_the_power_fails(where, number * 1000))
            reached += power.off
            power.fail(draw)
            disk.unregister()
        found = keys(where)
        assert len(found) == len(set(found))
        assert acknowledged <= set(found), f"cut {number} lost {acknowledged - set(found)}"
        with Store(where) as store, store.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    assert reached > 0.5 * cuts and len(acknowledged) > 2 * cuts


def test_a_store_that_does_not_force_its_writes_is_caught(tmp_path, monkeypatch):
    """The test bites: without synchronous=FULL acknowledged votes are lost."""
    where, draw = tmp_path / "live", random.Random(5)
    people_in(where, 1)

    def careless(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    lost = 0
    for number in range(10):
        power = Power(fails_at=draw.randrange(60, 200))
        with monkeypatch.context() as patched:
            disk = powered(patched, power)
            real = store_module._sqlite_engine

            def engine(url, real=real):
                made = real(url)
                event.listen(made, "connect", careless)
                return made

            patched.setattr(store_module, "_sqlite_engine", engine)
            said = set(vote_until_the_power_fails(where, number * 1000))
            power.fail(draw)
            disk.unregister()
        try:
            lost += len(said - set(keys(where)))
        except (StateError, apsw.Error):
            lost += 1
            break
    assert lost
