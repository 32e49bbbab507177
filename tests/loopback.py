"""A real HTTP server on this machine that answers as a test says."""

import contextlib
import json
from http.server import BaseHTTPRequestHandler

import pytest
from local_server import LocalServer


class Loopback(LocalServer):
    """Replies to POST with `handle(path, body)`: a status and JSON, or bytes as they are, or None
    for an empty reply; or a function that is given the handler and does what it likes."""

    def __init__(self, handle):
        self.requests, outer = [], self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, self.headers["Authorization"], body))
                replied = handle(self.path, body)
                if callable(replied):
                    with contextlib.suppress(ConnectionError):  # The client may be gone.
                        replied(self)
                    return
                status, reply = replied
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                if reply is not None:
                    raw = isinstance(reply, bytes)
                    self.wfile.write(reply if raw else json.dumps(reply).encode())

            def log_message(self, *_):
                pass

        super().__init__(Handler)
        self.url += "/v1"


def chat_reply(texts, *, finish="stop", **usage):
    """The body of a reply with those answers."""
    choices = [
        {"index": i, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        for i, text in enumerate(texts)
    ]
    head = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return head | {"choices": choices} | ({"usage": usage} if usage else {})


@pytest.fixture
def loopback():
    """Starts servers."""
    servers = []

    def start(handle):
        servers.append(Loopback(handle))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
