"""Two servers on one PostgreSQL store: what is to be done once is done once."""

import base64
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from local_processes import until
from sharing import SharingServer
from sqlalchemy import func, select
from town import Town

from fastslow.feedback import Store, ledger, people
from fastslow.feedback.schema import answers, leases, outbox, pairs, votes
from fastslow.records import Prompt

THREADS, PAIRS = 4, 60
KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@pytest.fixture
def told():
    """A receiver of messages, which takes its time; ids and bodies as they came."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            got.append((self.headers["webhook-id"], body["data"]))
            time.sleep(0.02)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    server.server_close()


@contextmanager
def two_servers(url, folder, engine_server, **settings):
    with (
        SharingServer(url, folder, engine_server, **settings) as one,
        SharingServer(url, folder, engine_server, **settings) as two,
    ):
        yield one, two


def test_votes_at_two_servers_are_numbered_once_and_told_of_once(
    shared_store, engine_server, told, tmp_path
):
    url, got = told
    settings = {"grace": 0.0, "admit_every": 0.01, "webhook": url, "webhook_secret": KEY}
    with Store(shared_store) as store:
        town = Town(store, voters=0)
        for number in range(PAIRS):
            town.pair(f"prompt {number}")
        tokens = [
            store.write(people.add_principal, name=f"p{n}", role="annotator", now=0.0)[1]
            for n in range(THREADS)
        ]
        with two_servers(shared_store, tmp_path / "live", engine_server, **settings) as servers:

            def annotate(n):
                """Ask one server for a pair, and give the verdict to the other, twice."""
                own = []
                while True:
                    ask, tell = servers if len(own) % 2 else servers[::-1]
                    shown = ask.post(tokens[n], "/v1/pairs/next", {}).json()["pairs"]
                    if not shown:
                        return own
                    own.append(shown[0]["id"])
                    body, key = {"pair_id": own[-1], "verdict": "a"}, f"{n}-{own[-1]}"
                    for server in (tell, ask):
                        server.post(tokens[n], "/v1/votes", body, **{"Idempotency-Key": key})

            with ThreadPoolExecutor(THREADS) as pool:
                given = Counter(pair for own in pool.map(annotate, range(THREADS)) for pair in own)
            until(lambda: sum(body["rows"] for _, body in got) >= PAIRS)
            time.sleep(0.3)  # Whatever would be sent once more is sent by now.
        with store.read() as connection:
            entries = list(ledger.entries(connection))
            sent = connection.execute(select(votes.c.id)).scalars().all()
            held = connection.execute(select(leases.c.pair_id, leases.c.voter)).all()
            messages = connection.execute(select(outbox)).all()
    assert len(given) == PAIRS and set(given.values()) == {1} and len(held) == PAIRS
    assert [one.seq for one in entries] == list(range(1, PAIRS + 1))
    assert sorted(one.vote_id for one in entries) == sorted(sent)
    assert Counter(name for name, _ in got) == {f"msg_{one.id}": 1 for one in messages}
    assert all(one.sent_at is not None and one.tries == 0 for one in messages)
    ends = sorted(body["last_seq"] for _, body in got)
    assert len(set(ends)) == len(ends) > 1 and ends[-1] == PAIRS


def test_two_servers_make_no_more_pairs_than_one(shared_store, engine_server, tmp_path):
    prompts = [Prompt(f"prompt {number}") for number in range(5)]
    settings = {"prompts": prompts, "admit_every": 0.01, "pairs_ahead": 7}
    with Store(shared_store) as store:
        with two_servers(shared_store, tmp_path / "live", engine_server, **settings):

            def made():
                with store.read() as connection:
                    return connection.scalar(select(func.count(pairs.c.id)))

            until(lambda: made() >= 7)
            time.sleep(0.5)
        assert made() == 7
        with store.read() as connection:
            assert connection.scalar(select(func.count(answers.c.id))) == 14
