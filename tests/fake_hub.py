"""A stand-in for the Hub's HTTP API on this machine: repositories, uploads, commits."""

import base64
import contextlib
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler

from local_server import LocalServer

TOKEN = "hf_tokenoftests"
LARGE = ".safetensors"


class FakeHub(LocalServer):
    """Keeps what is committed.

    Attributes:
        repos: by id, whether it is private.
        commits: message, and content of each file by its path.
        requests: method, path and Authorization of each.
        refuse: a status for requests whose path begins so, by its beginning.
    """

    def __init__(self):
        self.repos, self.commits, self.requests, self.refuse = {}, [], [], {}
        self._blobs, outer = {}, self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self):
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                sent = self.headers["Authorization"]
                outer.requests.append((self.command, self.path, sent))
                status, reply = outer._reply(self.command, self.path, sent, body)
                raw = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(raw)

            do_GET = do_POST = do_PUT = handle_any

            def log_message(self, *_):
                pass

        super().__init__(Handler)

    def _reply(self, method, path, token, body):
        for beginning, status in self.refuse.items():
            if path.startswith(beginning):
                return status, {"error": f"no: {token}"}
        if path.startswith("/upload/"):
            self._blobs[path.removeprefix("/upload/")] = body
            return 200, {}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid credentials"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, self._batch(json.loads(body))
        if found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)(/\w+/main)?", path):
            repo, action = found[1], found[2] or ""
            if repo not in self.repos:
                return 404, {"error": "Repository not found"}
            if action.startswith("/preupload"):
                return 200, {"files": [_mode(file) for file in json.loads(body)["files"]]}
            if action.startswith("/commit"):
                return self._commit(repo, body)
            return 200, {"id": repo, "private": self.repos[repo], "siblings": []}
        return 404, {"error": f"unknown: {method} {path}"}

    def _create(self, asked):
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.repos:
            return 409, {"error": "You already created this model repo", "url": repo}
        self.repos[repo] = asked["visibility"] == "private"
        return 200, {"url": f"{self.url}/{repo}"}

    def _batch(self, asked):
        def upload(item):
            return {"href": f"{self.url}/upload/{item['oid']}"}

        objects = [{**item, "actions": {"upload": upload(item)}} for item in asked["objects"]]
        return {"transfer": "basic", "objects": objects}

    def _commit(self, repo, body):
        lines = [json.loads(line) for line in body.splitlines()]
        files, message = {}, ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "lfsFile":
                files[value["path"]] = self._blobs[value["oid"]]
                assert hashlib.sha256(files[value["path"]]).hexdigest() == value["oid"]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        self.commits.append((message, files))
        url = f"{self.url}/{repo}/commit/abc"
        return 200, {"success": True, "commitUrl": url, "commitOid": "abc", "pullRequestUrl": None}


def _mode(file):
    mode = "lfs" if file["path"].endswith(LARGE) else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
