"""A server's process and how to ask it."""

import json
import re
import signal
import time
import urllib.request
from pathlib import Path

import fork_server
from local_processes import children


def pairs_file(folder, count=40):
    path = folder / "pairs.jsonl"
    rows = [
        {"prompt": f"prompt {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Running:
    """A server's process and how to ask it."""

    def __init__(self, folder, *arguments):
        self.process = fork_server.start(
            "-m", "fastslow", "serve", folder, "--port", "0", *arguments
        )
        deadline = time.monotonic() + 60
        while "serving on" not in self.process.stdout:
            assert time.monotonic() < deadline and self.process.poll() is None, self.process.stderr
            time.sleep(0.01)
        self.base = re.search(r"serving on (\S+);", self.process.stdout)[1]
        lines = (folder / "tokens").read_text().split("\n")
        self.tokens = dict(line.split() for line in lines if line)

    def ask(self, path, body=None, *, who="annotator", key=None, method="POST"):
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        headers |= {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    def stop(self, how=signal.SIGINT):
        self.process.send_signal(how)
        return self.process.wait(30)


def children_of(server, verb):
    """Numbers of the processes of a command that a server has started; needs Linux."""
    found = children(server.process.pid)
    return [pid for pid in found if verb in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
