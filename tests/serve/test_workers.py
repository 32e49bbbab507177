"""`fastslow serve --workers`: several processes answer on one socket, whatever one of them does."""

import os
import signal
import urllib.error
from http.client import HTTPException
from pathlib import Path

import fork_server
import pytest
from local_processes import alive, until
from running import Running, children_of, pairs_file

from fastslow.atomic_io import file_hash
from fastslow.errors import ConfigError
from fastslow.feedback import Store, ledger
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.serve import Settings
from fastslow.serve.engine.opening import EngineChoice
from fastslow.serve.workers import Serving

POSTGRES = "postgresql+psycopg://db/votes"
URL = "http://127.0.0.1:8001/v1"


@pytest.mark.parametrize(
    ("store", "answers", "said"),
    [
        (None, EngineChoice(url=URL), "--workers 3: .*SQLite; add --store postgresql"),
        ("sqlite:///x.db", EngineChoice(), "--workers 3: .*SQLite"),
        (POSTGRES, EngineChoice(["model=x"]), "--workers 3: .*hold the model; .*--engine URL"),
        (POSTGRES, EngineChoice([], [Path("a")]), "--workers 3: .*hold the model"),
        (POSTGRES, EngineChoice(url=URL, adapters=[Path("a")]), None),
        (POSTGRES, EngineChoice(), None),
    ],
)
def test_workers_that_would_be_in_each_others_way_are_refused(store, answers, said):
    serving = Serving(Path("live"), Settings(), answers, store_url=store)
    if said is None:
        serving.check_workers(3)
        return
    with pytest.raises(ConfigError, match=said):
        serving.check_workers(3)


def test_a_worker_is_told_all_that_is_served():
    serving = Serving(
        Path("live"),
        Settings(hosts=("a", "b"), webhook="http://hook", webhook_secret="secret"),
        EngineChoice([], [Path("mine")], URL, "big", template_settings={"enable_thinking": False}),
        ["prompts.jsonl"],
        POSTGRES,
    )
    assert Serving.from_json(serving.as_json()) == serving


@pytest.mark.processes
def test_what_cannot_be_shared_is_one_error(tmp_path):
    done = fork_server.run("-m", "fastslow", "serve", tmp_path / "live", "--workers", 2)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "error: --workers 2: " in done.stderr and not (tmp_path / "live").exists()
    alone = fork_server.run("-m", "fastslow", "worker", "--socket", 9, "--supervisor", 1)
    assert alone.returncode == 2 and "is started by `fastslow serve --workers`" in alone.stderr


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_two_workers_answer_whichever_of_them_dies(shared_store, engine_server, tmp_path):
    adapter = tmp_path / "mine"
    adapter.mkdir()
    (adapter / ADAPTER_WEIGHTS).write_text("these weights")
    (adapter / "adapter_config.json").write_text('{"r": 8}')
    server = Running(
        tmp_path / "live", "--workers", 2, "--store", shared_store, "--engine", engine_server.url,
        "--adapter", adapter, "--pairs", pairs_file(tmp_path),
    )  # fmt: skip
    assert "40 new pairs" in server.process.stdout
    assert server.process.stdout.count("serving on") == 1
    first = children_of(server, "worker")
    assert len(first) == 2

    def answer():
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        try:
            return server.ask("/v1/chat/completions", body)
        except (urllib.error.URLError, HTTPException, ConnectionError):
            return None  # The worker that had taken the connection is gone.

    reply = until(answer)
    assert reply["model"].startswith("mine-")
    assert reply["choices"][0]["message"]["content"] == file_hash(adapter / ADAPTER_WEIGHTS)
    (shown,) = server.ask("/v1/pairs/next", {})["pairs"]
    vote = {"pair_id": shown["id"], "verdict": "a"}
    receipts = {server.ask("/v1/votes", vote, key="once")["id"] for _ in range(8)}
    assert len(receipts) == 1
    os.kill(first[0], signal.SIGKILL)
    assert until(answer)["model"] == reply["model"]
    again = until(lambda: found if len(found := children_of(server, "worker")) == 2 else None)
    assert first[0] not in again and first[1] in again
    assert "worker 1 ended with code -9" in server.process.stderr
    assert server.stop() == 0 and server.process.stdout.rstrip().endswith("stopped")
    assert not any(alive(pid) for pid in again) and list(engine_server.models) == ["big"]
    assert engine_server.faults == []
    with Store(shared_store) as store, store.read() as connection:
        assert ledger.last_seq(connection) == 0  # Still in its grace.


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_workers_end_with_the_process_that_started_them(shared_store, engine_server, tmp_path):
    server = Running(
        tmp_path / "live", "--workers", 2, "--store", shared_store, "--engine", engine_server.url
    )
    workers = children_of(server, "worker")
    until(lambda: server.ask("/v1/me", method="GET"))
    server.stop(signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in workers))
