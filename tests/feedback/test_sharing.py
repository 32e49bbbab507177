"""What processes that share a store settle: whose turn a job is, who is last to use something."""

import threading
import time
from functools import partial

import pytest
from sqlalchemy import update

from fastslow.errors import StateError
from fastslow.feedback import Store
from fastslow.feedback.schema import meta


@pytest.fixture
def two(where):
    """Two processes' worth of one store."""
    with Store(where) as first, Store(where) as second:
        yield first, second


@pytest.fixture
def two_holds(shared_store):
    with Store(shared_store) as first, Store(shared_store) as second:
        yield first, first.holds(), second.holds()


def test_one_at_a_time_has_a_job_and_another_has_another(two):
    first, second = two
    with first.turn("send") as own:
        with second.turn("send") as theirs, second.turn("admit") as other:
            assert own and not theirs and other
    with second.turn("send") as theirs:
        assert theirs


def test_who_fails_at_a_job_leaves_it_to_others(two):
    first, second = two
    with pytest.raises(ValueError), first.turn("send"):
        raise ValueError
    with second.turn("send") as theirs:
        assert theirs


def test_the_last_one_to_drop_something_ends_it(two_holds):
    _, one, other = two_holds
    ended = []
    for _ in range(2):  # Held once, however often it is taken.
        one.take("a")
    other.take("a")
    other.take("b")
    one.drop("a", lambda: ended.append("a by one"))
    one.drop("b", lambda: ended.append("b by one"))
    assert ended == []
    other.drop("a", lambda: ended.append("a by other"))
    other.drop("b", lambda: ended.append("b by other"))
    assert ended == ["a by other", "b by other"]
    one.close()
    other.close()


def test_of_many_that_drop_something_at_once_one_at_least_ends_it(two_holds):
    _, one, other = two_holds
    for number in range(30):
        name, ended = f"adapter {number}", []
        for own in (one, other):
            own.take(name)
        both = [
            threading.Thread(target=own.drop, args=(name, partial(ended.append, 1)))
            for own in (one, other)
        ]
        [thread.start() for thread in both]
        [thread.join() for thread in both]
        assert ended
    one.close()
    other.close()


def test_nobody_takes_something_while_it_is_ended(two_holds):
    _, one, other = two_holds
    one.take("a")
    happened, ending = [], threading.Event()

    def end():
        ending.set()
        time.sleep(0.2)
        happened.append("ended")

    dropping = threading.Thread(target=one.drop, args=("a", end))
    dropping.start()
    ending.wait(10)
    other.take("a")
    happened.append("taken")
    dropping.join()
    assert happened == ["ended", "taken"]
    one.close()
    other.close()


def test_what_a_process_that_died_held_is_free_and_a_lost_connection_is_made_again(two_holds):
    store, one, other = two_holds
    one.take("a")
    other.take("a")
    with store.read() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        )
    one.take("b")  # And "a" again, as its connection was lost.
    ended = []
    other.drop("a", lambda: ended.append("a"))
    assert ended == []
    one.close()  # As a process that dies: it drops nothing.
    other.take("a")
    other.drop("a", lambda: ended.append("a"))
    assert ended == ["a"]
    other.close()


def test_writes_of_two_processes_in_each_others_way_are_both_written(shared_store):
    """Each locks a row and then the other's; SQLite's writers come one after the other."""
    with Store(shared_store) as first, Store(shared_store) as second:
        meeting = threading.Barrier(2)

        def write(connection, names, seen):
            seen.append(1)
            for place, name in enumerate(names):
                change = update(meta).where(meta.c.key == name)
                connection.execute(change.values(value=meta.c.value + "1"))
                if place == 0 and len(seen) == 1:
                    meeting.wait(10)

        counts = [], []
        waits = [
            store.submit(write, names, seen)
            for store, names, seen in (
                (first, ("store", "epoch"), counts[0]), (second, ("epoch", "store"), counts[1]),
            )
        ]  # fmt: skip
        [wait.result(30) for wait in waits]
        assert sum(len(seen) for seen in counts) > 2, "one had to begin again"
        with first.read() as connection:
            rows = dict(connection.execute(meta.select()).all())
        assert rows["epoch"].endswith("11") and rows["store"].endswith("11")


def test_a_write_that_is_always_in_the_way_is_refused_in_the_end(shared_store):
    tries = []

    def fails(connection):
        tries.append(1)
        connection.exec_driver_sql("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")

    with Store(shared_store) as store:
        with pytest.raises(StateError, match="the store cannot be used"):
            store.write(fails)
        assert len(tries) == 5
        assert store.write(lambda connection: 7) == 7
