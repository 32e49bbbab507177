"""Messages to another server: signed, tried again, sent for what was committed."""

import base64
import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from standardwebhooks import Webhook

from fastslow.feedback import outbox

KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@pytest.fixture
def listener():
    """A server that takes messages, the first one only at the second try."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.server.got.append((dict(self.headers), body))
            self.send_response(500 if len(self.server.got) == 1 else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_new_rows_are_told_of_until_somebody_hears(make_server, listener):
    url = f"http://127.0.0.1:{listener.server_port}/hook"
    server = make_server(webhook=url, webhook_secret=KEY, admit_every=0.05)
    pair = server.pair()
    server.next()
    server.vote(pair, "a")
    server.now = time.time() + 100
    with server.client:
        deadline = time.monotonic() + 20
        while len(listener.got) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
            server.now += outbox.FIRST_PAUSE * len(listener.got)
    assert len(listener.got) >= 2
    (first, body), (_, again) = listener.got[:2]
    assert body == again and json.loads(body) == {
        "type": "ledger.rows", "data": {"rows": 1, "last_seq": 1},
    }  # fmt: skip
    headers = {name.lower(): value for name, value in first.items()}
    assert headers["webhook-id"] == "msg_1"
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    expected = Webhook(KEY).sign("msg_1", at, body.decode())
    assert headers["webhook-signature"] == expected


def test_a_message_is_given_up_after_many_tries(server):
    now = 0.0
    number = server.store.write(outbox.post, kind="x", body={}, now=now)
    for place in range(outbox.MOST_TRIES):
        assert _is_due(server, now)
        server.store.write(outbox.was_sent, message_id=number, sent=False, now=now)
        now += min(5.0 * 2**place, 6 * 3600.0)
        assert not _is_due(server, now - 0.1)
    assert not _is_due(server, now + 10**6)


def _is_due(server, now):
    with server.store.read() as connection:
        return bool(outbox.due(connection, now=now))
