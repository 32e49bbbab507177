"""The store itself: one writer, whole writes, one schema, on SQLite and on PostgreSQL."""

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from filelock import FileLock
from sqlalchemy import select, text

from fastslow.errors import ConfigError, StateError
from fastslow.feedback import Store, people, updates
from fastslow.feedback import store as store_module
from fastslow.feedback.imports import import_pair
from fastslow.feedback.labelled import newest_labelled
from fastslow.feedback.migrate import migrate
from fastslow.feedback.schema import answers, meta, metadata, principals
from fastslow.records import Pair


def add(connection, name):
    return people.add_principal(connection, name=name, role="viewer", now=0.0)[0].id


def names(store):
    with store.read() as connection:
        return [one.name for one in people.all_principals(connection)]


def test_migrations_make_the_schema_of_today(store):
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_what_was_written_is_there_after_reopening(where):
    with Store(where) as store:
        store.write(add, "ann")
        with store.read() as connection:
            own = connection.scalar(select(meta.c.value).where(meta.c.key == "store"))
    with Store(where) as again, again.read() as connection:
        assert names(again) == ["ann"]
        assert connection.scalar(select(meta.c.value).where(meta.c.key == "store")) == own


def test_a_write_that_fails_leaves_nothing_and_disturbs_no_other(store):
    def breaks(connection):
        add(connection, "half")
        raise ValueError("no")

    futures = [store.submit(add, "ann"), store.submit(breaks), store.submit(add, "bob")]
    assert isinstance(futures[1].exception(), ValueError)
    assert futures[0].result() != futures[2].result() and names(store) == ["ann", "bob"]


def test_a_database_that_fails_in_a_write_fails_only_what_shares_its_commit(store):
    with pytest.raises(StateError, match="cannot be used"):
        store.write(lambda connection: connection.execute(text("SELECT * FROM nothing_there")))
    store.write(add, "ann")
    assert names(store) == ["ann"]


@pytest.mark.parametrize("key", ["zero \0", "long " * 99, "half \ud800"])
def test_a_value_that_a_database_cannot_hold_fails_only_its_own_write(shared_store, key):
    go = threading.Event()
    with Store(shared_store) as store:
        before = store.submit(lambda connection: go.wait(30))  # What follows shares a commit.
        writes = [
            store.submit(add, "ann"),
            store.submit(lambda c: c.execute(meta.insert().values(key=key, value=""))),
            store.submit(add, "bob"),
        ]
        go.set()
        assert before.result() and isinstance(writes[1].exception(), (StateError, UnicodeError))
        assert writes[0].result() != writes[2].result() and names(store) == ["ann", "bob"]


def test_answers_are_kept_without_what_no_store_can_hold(town):
    """An engine's token may be the zero character, or half of one that another token ends."""
    number = town.answer(town.prompt(), "one\0two\ud83dthree\U0001f600")
    with town.store.read() as connection:
        text = connection.scalar(select(answers.c.text).where(answers.c.id == number))
    assert text == "one\ufffdtwo\ufffdthree\U0001f600"


def test_pairs_with_zero_characters_are_put_up_once(town):
    pair = Pair("Hi\0", "yes\0", "no")
    given = {"pair": pair, "draw": town.draw}
    assert [town.write(import_pair, **given) for _ in range(2)] == [True, False]


def test_writes_of_many_threads_are_all_there_once(store):
    def work(number):
        for part in range(20):
            store.write(add, f"{number}-{part}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    found = names(store)
    assert len(found) == len(set(found)) == 160


def test_a_write_that_nobody_waits_for_any_more_disturbs_no_other(store):
    """As when a client goes away: before it is begun it is not done, later it is."""
    begun, go = threading.Event(), threading.Event()

    def slow(connection):
        begun.set()
        assert go.wait(30)
        return add(connection, "slow")

    first = store.submit(slow)
    begun.wait(30)
    second = store.submit(add, "gone")
    assert second.cancel() and not first.cancel()
    go.set()
    assert first.result()
    store.write(add, "ann")
    assert names(store) == ["slow", "ann"]


def test_two_open_stores_see_what_the_other_wrote(where):
    with Store(where) as one, Store(where) as other:
        one.write(add, "ann")
        other.write(add, "bob")
        assert names(one) == names(other) == ["ann", "bob"]


def test_an_insert_that_another_process_won_is_tried_again(where):
    """Both look before either has committed: the second look finds what the other wrote."""
    with Store(where) as one, Store(where) as other:
        looked = []

        def once(connection):
            found = connection.scalar(select(principals.c.id))
            looked.append(found)
            if found is not None:
                return found
            if len(looked) == 1 and one.dialect == "postgresql":
                other.write(add, "ann")
            values = {
                "name": "ann",
                "role": "viewer",
                "token_sha256": "x",
                "disabled": False,
                "at": 0,
            }
            return connection.execute(principals.insert().values(values)).inserted_primary_key[0]

        assert one.write(once) == 1 and names(one) == ["ann"]
        assert looked == ([None, 1] if one.dialect == "postgresql" else [None])


def test_a_store_of_an_earlier_version_is_upgraded_with_all_that_refers_to_what_changes(where):
    engine = store_module._engine(store_module._url(where))
    with engine.execution_options(writes=True).connect() as connection:
        migrate(connection, to="0002")
        with connection.begin():
            for statement in (
                "INSERT INTO updates (domain, epoch, state, at) VALUES ('talk', 0, 'promoted', 1)",
                "INSERT INTO updates (domain, parent, epoch, state, at) "
                "VALUES ('talk', 1, 0, 'gating', 2)",
                "INSERT INTO routes (domain, update_id, epoch) VALUES ('talk', 1, 0)",
                "INSERT INTO prompts (sha256, domain, messages, cluster, holdout, at) "
                "VALUES ('x', 'talk', '[]', 1, false, 1)",
                "INSERT INTO answers (prompt_id, text, finish, params, at) "
                "VALUES (1, 'yes', 'stop', '{}', 1), (1, 'no', 'stop', '{}', 1)",
                "INSERT INTO pairs (prompt_id, a, b, purpose, needs, open, at) "
                "VALUES (1, 1, 2, 'learn', 1, true, 1)",
            ):
                connection.execute(text(statement))
    engine.dispose()
    with Store(where) as store:
        with store.read() as connection:
            assert updates.route_of(connection, "talk").update_id == 1
            assert updates.update_of(connection, 2).parent == 1
            assert [one.domain for one in newest_labelled(connection, most=9)] == ["talk"]
            said = connection.execute(select(answers.c.text, answers.c.given_to)).all()
            assert said == [("yes", None), ("no", None)]
        store.write(updates.change, numbers=[2], state="waiting")
        with pytest.raises(StateError, match="refused a write"):
            store.write(updates.change, numbers=[2], state="unheard of")
        with pytest.raises(StateError, match="refused a write"):
            store.write(lambda c: c.execute(text("UPDATE routes SET update_id = 3")))
        with pytest.raises(StateError, match="refused a write"):
            store.write(lambda c: c.execute(text("UPDATE pairs SET a = 3")))


def test_a_store_of_a_newer_version_is_refused(where):
    with Store(where) as store:
        store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(StateError, match="schema 9999.*upgrade fastslow"):
        Store(where)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("mysql://x/y", "cannot be 'mysql'"),
        ("nonsense+x://y", "cannot be 'nonsense'"),
        ("postgresql+nothing://x/y", "driver that is not installed"),
        ("://", "is malformed"),
    ],
)
def test_places_that_are_none_are_one_error(where, said):
    with pytest.raises(ConfigError, match=said):
        Store(where)


def test_an_unreachable_server_is_one_error():
    with pytest.raises(StateError, match="the store cannot be used"):
        Store("postgresql+psycopg://nobody@127.0.0.1:1/none")


def test_a_closed_store_takes_nothing(store):
    store.close()
    store.close()
    with pytest.raises(StateError, match="closed"):
        store.write(add, "late")


def test_a_process_that_never_lets_go_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("fastslow.feedback.store.PATIENCE", 0.1)
    with Store(tmp_path / "live") as store:
        with FileLock(tmp_path / "live" / "store.db.lock"):
            with pytest.raises(StateError, match="another process has held the store"):
                store.write(add, "ann")
        store.write(add, "ann")
        assert names(store) == ["ann"]


def test_sqlite_is_set_up_to_lose_nothing(tmp_path):
    with Store(tmp_path / "live") as store, store.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "foreign_keys")
        }
    assert found == {
        "journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0, "foreign_keys": 1,
    }  # fmt: skip


def test_the_wal_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("fastslow.feedback.store.CHECKPOINT_EVERY", 10)
    with Store(tmp_path / "live") as store:
        sizes = []
        for number in range(60):
            store.write(add, f"{number}")
            sizes.append((tmp_path / "live" / "store.db-wal").stat().st_size)
        assert max(sizes[20:]) <= 2 * max(sizes[:12]), sizes


def test_nobody_else_reads_the_files(tmp_path):
    with Store(tmp_path / "live") as store:
        store.write(add, "ann")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "live").iterdir()}
    assert {modes[name] for name in ("store.db", "store.db-wal", "store.db-shm")} == {0o600}
    assert (tmp_path / "live").stat().st_mode & 0o777 == 0o700
