"""A stand-in for what the Hub serves of datasets: the files of commits, on this machine."""

import contextlib
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

from local_server import LocalServer


class FakeDatasetHub(LocalServer):
    """Serves datasets.

    Attributes:
        commits: of each dataset by its id, the files of each commit; the last one is `main`.
        requests: method and path of each.
    """

    def __init__(self, commits):
        self.commits, self.requests, outer = commits, [], self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self):
                sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
                path = unquote(self.path.partition("?")[0])
                outer.requests.append((self.command, path))
                status, headers, body = outer._reply(path, sent)
                found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
                if found and status == 200:
                    total, first = len(body), int(found[1])
                    last = min(int(found[2] or total - 1), total - 1)
                    body, status = body[first : last + 1], 206
                    headers = {**headers, "Content-Range": f"bytes {first}-{last}/{total}"}
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    with contextlib.suppress(ConnectionError):
                        self.wfile.write(body)

            do_GET = do_HEAD = do_POST = handle_any

            def log_message(self, *_):
                pass

        super().__init__(Handler)

    def _reply(self, path, sent):
        for repo, commits in self.commits.items():
            place = re.fullmatch(
                rf"(/api)?/datasets/{repo}(?:/(revision|tree|paths-info|resolve)/([^/]+)(?:/(.+))?)?",
                path,
            )
            if place:
                _, action, revision, file = place.groups()
                commit = list(commits)[-1] if revision in (None, "main") else revision
                if commit not in commits:
                    return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
                return self._of_commit(repo, commit, action, file, commits[commit], sent)
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def _of_commit(self, repo, commit, action, file, files, sent):
        if action == "resolve":
            if file not in files:
                return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
            tag = hashlib.sha1(files[file]).hexdigest()
            return 200, {"X-Repo-Commit": commit, "ETag": f'"{tag}"'}, files[file]
        if action == "tree":
            below = [name for name in files if not file or name.startswith(f"{file}/")]
            found = [_entry(name, files[name]) for name in below]
        elif action == "paths-info":
            asked = json.loads(sent)["paths"]
            found = [_entry(name, files[name]) for name in asked if name in files]
            found += [
                {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
                for name in asked
                if any(other.startswith(f"{name}/") for other in files)
            ]
        else:
            siblings = [{"rfilename": name} for name in files]
            found = {"id": repo, "sha": commit, "private": False, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()


def _entry(name, content):
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": name, "oid": oid, "size": len(content)}
