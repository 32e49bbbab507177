import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fastslow.feedback import Store, people
from fastslow.serve import Live, Settings, make_app

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "feedback")]  # Helpers of these tests and the store's.

import postgres  # noqa: E402
from browsing import browser, school, site  # noqa: E402, F401
from fake_engine import FakeEngine  # noqa: E402

ADDRESS = "http://localhost"


class Server:
    """A server in this process, with a person of each role and a clock."""

    def __init__(self, folder, engine=None, where=None, **settings):
        self.folder, self.store, self.now = folder, Store(where or folder), 1_000_000.0
        self.live = Live(
            self.store, Settings(**settings), clock=lambda: self.now, engine=engine,
            folder=folder if engine else None,
        )  # fmt: skip
        self.app = make_app(self.live)
        self.client = TestClient(self.app, base_url=ADDRESS, raise_server_exceptions=False)
        self.tokens = {
            role: self.person(role, role) for role in ("admin", "annotator", "viewer", "service")
        }
        self.keys = 0

    def person(self, name, role):
        return self.store.write(people.add_principal, name=name, role=role, now=self.now)[1]

    def ask(self, method, path, body=None, *, role="annotator", token=None, key=None, **named):
        headers = {"Authorization": f"Bearer {token or self.tokens[role]}"}
        if method == "POST" and path in ("/v1/votes", "/v1/ratings", "/v1/edits"):
            self.keys += 1
            headers["Idempotency-Key"] = key or f"k{self.keys}"
        return self.client.request(method, path, json=body, headers=headers, **named)

    def pair(self, prompt="Hi", first="good", second="bad", **facts):
        answers = [{"text": first}, {"text": second}]
        body = {"prompt": prompt, "answers": answers, **facts}
        reply = self.ask("POST", "/v1/pairs", body, role="service")
        assert reply.status_code == 201, reply.text
        return reply.json()["id"]

    def next(self, **named):
        return self.ask("POST", "/v1/pairs/next", {}, **named).json()["pairs"]

    def vote(self, pair_id, verdict="a", **named):
        return self.ask("POST", "/v1/votes", {"pair_id": pair_id, "verdict": verdict}, **named)


@pytest.fixture(scope="session")
def postgres_server():
    with postgres.running() as url:
        yield url


@pytest.fixture
def shared_store(postgres_server):
    """URL of an empty store that several servers may share."""
    return postgres.new_schema(postgres_server)


@pytest.fixture
def engine_server():
    """An engine behind a URL."""
    made = FakeEngine()
    yield made
    made.close()


@pytest.fixture
def make_server(tmp_path):
    made = []

    def make(**settings):
        made.append(Server(tmp_path / "live", **settings))
        return made[-1]

    yield make
    for server in made:
        server.client.close()
        server.store.close()


@pytest.fixture
def server(make_server):
    return make_server()
