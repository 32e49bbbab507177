"""Texts that would like to be code, wherever anybody can write one, on every page of a browser:
none runs, none is an element, and nothing is left for the content security policy to stop."""

import pytest
from browsing import School, wait
from playwright.sync_api import expect
from test_learning import Engine
from test_safety import ATTACKS

from fastslow.feedback import holding, ledger, planning
from fastslow.feedback.holding import HeldBack
from fastslow.serve.engine.requests import Piece
from fastslow.streams import fault_of

DANGEROUS = """() => [...document.querySelectorAll("body *")].filter((one) =>
    ["SCRIPT", "IFRAME", "OBJECT", "EMBED", "BASE", "LINK", "META", "STYLE", "IMG", "VIDEO",
     "MATH"].includes(one.tagName)
    || [...one.attributes].some((own) => /^(on.*|style|action)$/.test(own.name)
        || /^\\s*(javascript|data):/i.test(own.value))
).map((one) => one.outerHTML)"""
"""What texts would become if they were taken for code."""
OPEN = "() => document.querySelectorAll('main details').forEach((one) => (one.open = true))"


def in_a_line(text):
    return " ".join(text.split())


class Echo(Engine):
    """Answers what it was asked."""

    def submit(self, ask):
        text = ask.messages[-1]["content"]
        for index in range(ask.count):
            ask.tell(Piece(index, text, (1,), (-1.0,), finish="stop"))

    def token_text(self, token):
        return ""


class Guarded:
    """Pages of a site, where nothing may run or be asked for elsewhere."""

    def __init__(self, site):
        self.site, self.ran, self.elsewhere = site, [], []

    def open(self, role="annotator", view=""):
        page = self.site.open(role, view)
        page.on("dialog", lambda dialog: (self.ran.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self._asked(request.url))
        return page

    def _asked(self, url):
        if not url.startswith((self.site.address, "data:")):
            self.elsewhere.append(url)

    def check(self, page, *texts):
        """Nothing ran, and the texts are there to be read."""
        page.evaluate(OPEN)
        for text in texts:
            expect(page.locator("main")).to_contain_text(in_a_line(text))
        assert page.evaluate(DANGEROUS) == []
        assert self.ran == [] and self.elsewhere == [] and self.site.complaints == []


@pytest.fixture
def pages(site):
    return Guarded(site)


def settled(server):
    server.now += 100
    server.store.write(ledger.admit, check=fault_of, now=server.now)


def test_nothing_runs_where_pairs_are_compared_or_votes_are_listed(site, pages):
    for text in ATTACKS:
        site.server.pair(text, text, text + " too", domain=text)
    page = pages.open()
    for place, text in enumerate(ATTACKS):
        expect(page.locator(".prompt")).to_contain_text(in_a_line(text))
        pages.check(page)
        page.locator("#reason").fill(text)
        page.locator("#reason").press("Escape")
        page.keyboard.press("1")
        wait(lambda: len(site.votes()) == place + 1)  # noqa: B023
    assert [in_a_line(one.reason) for one in site.votes()] == [in_a_line(text) for text in ATTACKS]
    page.get_by_role("link", name="Your votes").click()
    expect(page.locator(".votes > li")).to_have_count(len(ATTACKS))
    pages.check(page, *ATTACKS)


def test_nothing_runs_where_people_and_what_they_differ_on_are_shown(site, pages):
    server = site.server
    tokens = [server.person(text, "annotator") for text in ATTACKS]
    for text, first, second in zip(ATTACKS, tokens, tokens[1:] + tokens[:1], strict=True):
        pair = server.pair(text, text, text + " too", needs=2, domain=text)
        for token, verdict in ((first, "a"), (second, "b")):
            server.ask("POST", "/v1/pairs/next", {"domain": text}, token=token)
            body = {"pair_id": pair, "verdict": verdict, "reason": text}
            assert server.ask("POST", "/v1/votes", body, token=token).status_code == 202
    settled(server)
    learner = server.store.write(planning.claim)
    for text in ATTACKS:
        found = [HeldBack(text, 1, 1, f"{text} is put in")]
        server.store.write(holding.hold, learner=learner, domain=text, found=found, now=server.now)
    for role in ("admin", "viewer"):
        page = pages.open(role, "people")
        pages.check(page, *ATTACKS, *(f"{text} is put in" for text in ATTACKS))


def test_nothing_runs_where_what_was_learned_is_shown(site, pages):
    school = School(site.server)
    for text in ATTACKS:
        school.update(text, failed=text, notes=[text])
    page = pages.open("admin", "learning")
    expect(page.locator(".domain")).to_have_count(len(ATTACKS))
    pages.check(page, *ATTACKS)


def test_nothing_runs_in_a_chat(site, pages):
    site.server.live.engine = Echo()
    page = pages.open(view="chat")
    for place, text in enumerate(ATTACKS, 1):
        page.get_by_label("Your message").fill(text)
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".bubble")).to_have_count(2 * place)
        expect(page.get_by_role("button", name="Send")).to_be_visible()
    pages.check(page, *ATTACKS)
