"""A server on a port with pages of it in a real browser, and a learner without a model beside."""

import shutil
import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright
from sqlalchemy import select

from fastslow.feedback import decisions, ledger, planning, updates
from fastslow.feedback.schema import votes
from fastslow.streams import fault_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 390, "height": 844}


def vote_by(page, key):
    """Press a key and wait for the next pair, or the end."""
    expect(page.locator(".verdicts")).to_be_visible()
    before = page.locator("main").inner_html()
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('main').innerHTML !== before", arg=before
    )


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("PAGE NOT OPENED IN A BROWSER: no chromium is installed")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


class Site:
    """A server on a port, and pages of it, where there is a browser, whose console is kept."""

    def __init__(self, server, browser=None):
        self.server, self.browser, self.complaints = server, browser, []
        config = uvicorn.Config(server.app, port=0, log_level="error")
        self.running = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.running.run)
        self.thread.start()
        while not self.running.started:
            time.sleep(0.01)
        port = self.running.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://localhost:{port}"

    def open(self, role="annotator", view="", **context):
        page = self.browser.new_context(**context).new_page()
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{self.address}/#token={self.server.tokens[role]}")
        expect(page.locator("h1").first).to_be_visible()
        if view:
            page.goto(f"{self.address}/#{view}")
        return page

    def votes(self):
        with self.server.store.read() as connection:
            query = select(votes).where(votes.c.retracted_at.is_(None)).order_by(votes.c.id)
            return connection.execute(query).all()

    def close(self):
        for context in self.browser.contexts if self.browser else ():
            context.close()
        self.running.should_exit = True
        self.thread.join()


@pytest.fixture
def site(server, browser):
    made = Site(server, browser)
    yield made
    made.close()
    assert not [one for one in made.complaints if "ERR_INTERNET_DISCONNECTED" not in one]


def wait(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


class School:
    """A learner without a model, beside a server."""

    def __init__(self, server):
        self.server, self.store = server, server.store
        self.learner = self.store.write(planning.claim)
        self.voter, self.votes = server.person("pupil", "annotator"), 0

    def rows(self, domain):
        """Numbers of rows to learn, at least one of them new."""
        found, before = [], len(self.waiting(domain))
        while len(found) <= before:
            self.votes += 1
            pair = self.server.pair(f"lesson {self.votes}", domain=domain)
            self.server.ask("POST", "/v1/pairs/next", {"domain": domain}, token=self.voter)
            self.server.vote(pair, token=self.voter)
            self.server.now += 100
            self.store.write(ledger.admit, check=fault_of, now=self.server.now)
            found = self.waiting(domain)
        return found

    def waiting(self, domain):
        with self.store.read() as connection:
            return [row.seq for row in planning.waiting(connection, domain)]

    def route(self, domain="talk"):
        with self.store.read() as connection:
            return updates.route_of(connection, domain)

    def state(self, number):
        with self.store.read() as connection:
            return updates.update_of(connection, number).state

    def update(self, domain="talk", *, failed="", untold="", waits=False, held_out=(), **learned):
        """The number of an update that was learned and promoted, or failed a check, or waits.

        `held_out` is the share of held-out votes it judges right, and that of the one before.
        """
        rows, now = self.rows(domain), self.server.now
        planned = self.store.write(
            planning.plan, learner=self.learner, domain=domain, rows=rows, now=now
        )
        own = {"learner": self.learner, "update_id": planned.id}
        kept = {"adapter": f"u{planned.id}", "checkpoint": f"c{planned.id}"}
        for state, facts in (("learning", {}), ("candidate", kept), ("gating", {})):
            self.store.write(planning.move, state=state, **facts, **own)
        names = ["distance", "answers", "phrases", *(["held-out votes"] if held_out else [])]
        checks = [
            {"name": name, "passed": name != failed, "said": f"what came of {name}", "numbers": {},
             "applied": name != untold}
            for name in names
        ]  # fmt: skip
        checks[-1]["numbers"] = dict(zip(("accuracy", "before"), held_out, strict=False))
        about = {"leader": "slow", "rows": len(rows), "notes": [], "loss": 0.625, "accuracy": 0.5}
        gate = {"checks": checks, "learned": {**about, **learned}}
        decide = decisions.wait if waits else decisions.promote
        self.store.write(decisions.quarantine if failed else decide, gate=gate, **own)
        return planned.id

    def serve(self):
        """What the store says answers."""

        def model_for(domain):
            with self.store.read() as connection:
                route = updates.route_of(connection, domain).update_id
                return None if route is None else updates.update_of(connection, route).adapter

        self.server.live.served = SimpleNamespace(model_for=model_for)


@pytest.fixture
def school(site):
    return School(site.server)
