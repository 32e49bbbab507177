"""`fastslow serve` as a process: started, asked over HTTP, stopped, killed, started again."""

import json
import random
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import fork_server
import pytest
import torch
from local_processes import until
from running import Running, pairs_file
from sqlalchemy import select

import fastslow.adapters
from fastslow.feedback import Store
from fastslow.feedback.schema import answers, votes

pytestmark = pytest.mark.processes


def test_the_first_page_is_there_at_once_and_torch_is_not_loaded(tmp_path):
    """Three seconds of a processor, which others may share; it is about one."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "fastslow", "serve", str(tmp_path / "live"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stdout if "serving on" in line)
        base = re.search(r"serving on (\S+);", line)[1]
        with urllib.request.urlopen(base, timeout=30) as reply:
            assert b"<title>" in reply.read()
        loaded = Path(f"/proc/{process.pid}/maps")
        assert not loaded.exists() or "libtorch" not in loaded.read_text()
        process.send_signal(signal.SIGINT)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime < 3


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_votes_stops_and_starts_again(tmp_path, how):
    folder, file = tmp_path / "live", pairs_file(tmp_path)
    server = Running(folder, "--pairs", file)
    assert "40 new pairs, 0 already present" in server.process.stdout
    assert f"{server.base}/#token={server.tokens['admin']}" in server.process.stdout
    assert stat.S_IMODE((folder / "tokens").stat().st_mode) == 0o600
    (shown,) = server.ask("/v1/pairs/next", {})["pairs"]
    server.ask("/v1/votes", {"pair_id": shown["id"], "verdict": "a"}, key="k")
    assert server.stop(how) == 0 and server.process.stdout.rstrip().endswith("stopped")
    assert not (folder / "store.db-wal").exists(), "what was written is in the database"
    again = Running(folder, "--pairs", file)
    assert "0 new pairs, 40 already present" in again.process.stdout
    assert again.tokens == server.tokens and "#token" not in again.process.stdout
    (own,) = again.ask("/v1/votes", method="GET")["votes"]
    assert own["verdict"] == "a"
    again.stop()


def test_a_second_ctrl_c_is_no_fault(tmp_path):
    server = Running(tmp_path / "live")
    headers = {"Authorization": f"Bearer {server.tokens['admin']}"}
    request = urllib.request.Request(f"{server.base}/v1/events", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as stream:
        stream.readline()
        for _ in range(3):
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert server.process.wait(30) == 0
    assert "Traceback" not in server.process.stderr, server.process.stderr


def test_a_removed_file_of_tokens_makes_new_ones(tmp_path):
    folder = tmp_path / "live"
    first = Running(folder)
    first.stop()
    (folder / "tokens").unlink()
    second = Running(folder)
    assert second.tokens["admin"] != first.tokens["admin"]
    assert second.ask("/v1/me", who="admin", method="GET")["role"] == "admin"
    second.tokens = first.tokens
    with pytest.raises(urllib.error.HTTPError, match="401"):
        second.ask("/v1/me", who="admin", method="GET")
    second.stop()


def test_an_address_that_is_taken_is_one_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = fork_server.run("-m", "fastslow", "serve", tmp_path / "live", "--port", port)
    assert done.returncode == 2 and not (tmp_path / "live").exists()
    assert f"error: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pairs", "{thumbs}"], "holds no pairs"),
        (["--pairs", "nothing.jsonl"], "nothing.jsonl"),
        (["--prompts", "{thumbs}"], "add model="),
        (["--adapter", "nothing", "model=x"], "nothing"),
        (["model=nothing-there"], "nothing-there"),
        (["--webhook", "http://x"], "FASTSLOW_WEBHOOK_SECRET"),
        (["--store", "mysql://x"], "cannot be 'mysql'"),
    ],
)
def test_what_cannot_be_served_is_one_error(tmp_path, arguments, said):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "completion": "b", "label": True}) + "\n")
    given = [one.replace("{thumbs}", str(rows)) for one in arguments]
    done = fork_server.run("-m", "fastslow", "serve", tmp_path / "live", "--port", 0, *given)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_a_model_with_an_adapter_answers_and_says_which(tmp_path, model_folder):
    """Prompts become pairs of the adapter's answers, which become rows."""
    folder = tmp_path / "mine"
    fastslow.adapters.Factors(
        {"model.layers.0.self_attn.q_proj": (torch.ones(1, 32), torch.ones(32, 1))}, ("q_proj",)
    ).write(folder)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Hi"}\n{"prompt": "Bye", "domain": "talk"}\n')
    server = Running(
        tmp_path / "live", f"model={model_folder}", "data.max_length=64", "--adapter", folder,
        "--prompts", prompts,
    )  # fmt: skip
    said = re.findall(r"^model (\S+)$", server.process.stdout, re.M)
    assert said[0] == "base" and re.fullmatch(r"mine-[0-9a-f]{12}", said[1])
    names = [one["id"] for one in server.ask("/v1/models", method="GET")["data"]]
    assert names == said
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    reply = server.ask("/v1/chat/completions", body)
    assert reply["model"] == said[1] and len(reply["answer_ids"]) == 1
    deadline = time.monotonic() + 30
    while not (found := server.ask("/v1/pairs/next", {})["pairs"]):
        assert time.monotonic() < deadline
    server.ask("/v1/votes", {"pair_id": found[0]["id"], "verdict": "a"}, key="k")
    assert server.stop() == 0
    with Store(tmp_path / "live") as store, store.read() as connection:
        rows = connection.execute(select(answers)).all()
    assert {row.model for row in rows} == {said[1]}
    assert {row.adapter_sha256[:12] for row in rows} == {said[1].removeprefix("mine-")}


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_of_the_server_loses_no_acknowledged_vote(tmp_path, kills):
    """Clients vote, repeat what got no reply with the same key, and count what was acknowledged."""
    folder, draw = tmp_path / "live", random.Random(2)
    file = pairs_file(tmp_path, count=2000)
    acknowledged = set()
    for _ in range(kills):
        server = Running(folder, "--pairs", file)
        stop = threading.Event()

        def client(server=server, stop=stop):
            while not stop.is_set():
                try:
                    for shown in server.ask("/v1/pairs/next", {"count": 5})["pairs"]:
                        key = f"{shown['id']}"
                        body = {"pair_id": shown["id"], "verdict": "a"}
                        server.ask("/v1/votes", body, key=key)
                        acknowledged.add(key)
                except (OSError, ValueError, HTTPException):
                    return

        clients = [threading.Thread(target=client) for _ in range(3)]
        enough = len(acknowledged) + 4
        [one.start() for one in clients]
        until(lambda enough=enough: len(acknowledged) >= enough)
        time.sleep(draw.uniform(0, 0.5))
        server.process.kill()
        stop.set()
        [one.join() for one in clients]
        server.process.wait(30)
    with Store(folder) as store, store.read() as connection:
        found = list(connection.scalars(select(votes.c.idem_key)))
    assert len(found) == len(set(found)) and acknowledged <= set(found)
    assert len(acknowledged) > 3 * kills
