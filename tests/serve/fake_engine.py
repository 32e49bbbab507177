"""An engine with OpenAI's API on this machine, as strict as any: an adapter is loaded once, is not
there before and after, and says in its answers which weights it has."""

import contextlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from local_server import LocalServer

from fastslow.atomic_io import file_hash
from fastslow.foreign_files import ADAPTER_WEIGHTS

PIECES = 4
"""Of an answer: the hash of the weights that the adapter was loaded from, cut up; of further ones
with marks, as two that are the same make no pair."""


class FakeEngine(LocalServer):
    """Started at once, on a port of its own.

    Args:
        pause: seconds between two pieces of an answer.
    """

    def __init__(self, pause=0.01):
        self.pause, self.lock = pause, threading.Lock()
        self.models = {"big": "base"}
        """What each says, by name."""
        self.asked, self.loads, self.answering = Counter(), Counter(), Counter()
        self.faults = []
        """What a server should never have done."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                data = [
                    {"id": name, "parent": None if name == "big" else "big"}
                    for name in list(outer.models)
                ]
                self.reply(200, {"data": data})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.handle(self, self.path.removeprefix("/v1"), body)

            def reply(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        super().__init__(Handler)
        self.url += "/v1"

    def handle(self, request, path, body):
        if path == "/load_lora_adapter":
            request.reply(*self.load(body["lora_name"], Path(body["lora_path"])))
        elif path == "/unload_lora_adapter":
            request.reply(*self.unload(body["lora_name"]))
        else:
            self.answer(request, body)

    def load(self, name, folder):
        said = file_hash(folder / ADAPTER_WEIGHTS)
        with self.lock:
            self.loads[name] += 1
            if name in self.models:
                return 400, {"message": f"{name} has already been loaded"}
            self.models[name] = said
            return 200, {}

    def unload(self, name):
        with self.lock:
            if self.answering[name]:
                self.faults.append(f"{name} unloaded while it answers")
            if name not in self.models:
                return 404, {"message": f"{name} is not there"}
            del self.models[name]
            return 200, {}

    def answer(self, request, body):
        name = body["model"]
        with self.lock:
            said = self.models.get(name)
            self.asked[name] += 1
            self.answering[name] += said is not None
        if said is None:
            self.faults.append(f"{name} asked and not there")
            request.reply(404, {"error": {"message": f"there is no {name}"}})
            return
        try:
            if body.get("stream"):
                with contextlib.suppress(ConnectionError):  # The client may be gone.
                    self.stream(request, said, body.get("n", 1))
            else:
                request.reply(200, {})
        finally:
            with self.lock:
                self.answering[name] -= 1

    def stream(self, request, said, count):
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        size = -(-len(said) // PIECES)
        for first in range(0, len(said), size):
            self.tell(request, count, {"content": said[first : first + size]}, None)
            time.sleep(self.pause)
        self.tell(request, count, {}, "stop")
        request.wfile.write(b"data: [DONE]\n\n")
        request.close_connection = True

    @staticmethod
    def tell(request, count, delta, finish):
        choices = [
            {"index": n, "delta": {key: text + n * "'" for key, text in delta.items()},
             "finish_reason": finish}
            for n in range(count)
        ]  # fmt: skip
        request.wfile.write(f"data: {json.dumps({'choices': choices})}\n\n".encode())
        request.wfile.flush()
