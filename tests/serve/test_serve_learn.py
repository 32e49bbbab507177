"""`fastslow serve --learn` as two processes: either may die at any time."""

import os
import signal
from pathlib import Path

import pytest
import tiny
from local_processes import alive, until
from running import Running, children_of
from sqlalchemy import select
from town import Town

from fastslow.feedback import Store, leases, updates
from fastslow.feedback.schema import update_rows

pytestmark = [pytest.mark.slow, pytest.mark.processes]
SETTINGS = (
    "data.max_length=96", "lora.rank=4", "train.batch_size=4", "train.learning_rate=1e-2",
    "live.rows=8", "live.gate.prompts=4", "budget=null", "eval.max_new_tokens=4",
    "live.gate.kl_to_champion=1e6", "live.gate.chosen_ratio=-1e6", "live.gate.longer=1000",
    "live.gate.shorter=0", "live.gate.unfinished=1", "live.gate.repeated=1",
)  # fmt: skip


def votes(where, first, count):
    """Votes whose grace is over long ago."""
    with Store(where) as store:
        town = Town(store, voters=0)
        voter = town.person(f"voter {first}")
        for number in range(first, first + count):
            good, bad = tiny.GOOD[number % 5], tiny.BAD[number % 5]
            pair = town.pair(f"Describe river {number}.", f"It is {good}.", f"It is {bad}.")
            store.write(leases.lease, pair_id=pair, voter=voter, until=town.now)
            town.vote(voter, pair, "a")


def answering(server):
    """What answers now in the votes' domain, as its route says."""
    found = server.ask("/v1/updates", who="admin", method="GET")
    return next((one["model"] for one in found["routes"] if one["domain"] == "talk"), "base")


def history(where):
    with Store(where) as store, store.read() as connection:
        return updates.history(connection)[::-1]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_votes_are_learned_beside_answers_whatever_dies(tmp_path, model_folder):
    folder = tmp_path / "live"
    votes(folder, 0, 24)
    server = Running(folder, f"model={model_folder}", "--learn", *SETTINGS)

    def answers():
        return answering(server)

    first = until(lambda: found if (found := answers()) != "base" else None)
    assert first.startswith("talk-u")
    listed = [one["id"] for one in server.ask("/v1/models", method="GET")["data"]]
    assert first in listed
    reply = server.ask(
        "/v1/chat/completions",
        {"model": first, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
    )
    assert reply["model"] == first
    (learner,) = children_of(server, "learn")
    os.kill(learner, signal.SIGKILL)
    votes(folder, 24, 24)
    until(lambda: len(history(folder)) >= 4)
    (again,) = children_of(server, "learn")
    assert again != learner
    (engine,) = children_of(server, "engine")
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(30)
    until(lambda: not alive(again) and not alive(engine))
    served = history(folder)
    server = Running(folder, f"model={model_folder}", "--learn", *SETTINGS)
    assert answers() == next(one.adapter for one in reversed(served) if one.state == "promoted")
    server.ask(f"/v1/updates/{served[0].id}/rollback", {}, who="admin")
    assert answers() == "base"
    (last,) = children_of(server, "learn")
    assert server.stop() == 0 and not alive(last)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_of_two_servers_that_both_learn_one_does_and_both_answer_with_it(
    tmp_path, model_folder, shared_store, engine_server
):
    folder = tmp_path / "live"
    votes(shared_store, 0, 48)
    arguments = (
        "--store", shared_store, "--engine", engine_server.url, f"model={model_folder}", "--learn",
        *SETTINGS,
    )  # fmt: skip
    one = Running(folder, *arguments)
    until(lambda: answering(one) != "base")
    two = Running(folder, *arguments)
    assert one.tokens == two.tokens, "they share the folder"
    until(
        lambda: (
            len(learners := children_of(one, "learn") + children_of(two, "learn")) == 1
            and alive(learners[0])
        )
    )
    until(lambda: "is not restarted" in one.process.stderr)
    assert children_of(one, "learn") == []
    until(lambda: len(made := history(shared_store)) >= 4 and made[-1].state == "promoted")
    newest = history(shared_store)[-1].adapter
    until(lambda: answering(one) == answering(two) == newest)
    with Store(shared_store) as store, store.read() as connection:
        new = update_rows.c.replayed.is_(False)
        learned = list(connection.scalars(select(update_rows.c.seq).where(new)))
    assert len(learned) == len(set(learned))
    body = {"model": newest, "messages": [{"role": "user", "content": "Hi"}]}
    replies = [server.ask("/v1/chat/completions", body) for server in (one, two)]
    assert {reply["choices"][0]["message"]["content"][:12] for reply in replies} == {newest[-12:]}
    one.stop()
    assert newest in engine_server.models
    two.stop()
    assert list(engine_server.models) == ["big"] and engine_server.faults == []
