"""The page in a real browser: votes by keyboard, undo, offline, blindness, accessibility."""

import shutil
import threading
import time

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from sqlalchemy import select

from fastslow.config import load_recipe
from fastslow.feedback.schema import answers, pairs, votes
from fastslow.serve.engine.decoding import Group
from fastslow.serve.engine.embedded import EmbeddedEngine

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MARKED = "**bold** <img src=x onerror=\"document.title='HACKED'\"> `code`"
KEYS = {"1": "a", "0": "tie", "x": "both_bad", "2": "b", "s": "skip"}


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
    """A server on a port, and pages of it whose console is kept."""

    def __init__(self, server, browser):
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
        for context in self.browser.contexts:
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


def vote_by(page, key):
    """Press a key and wait for the next pair, or the end."""
    expect(page.locator(".verdicts")).to_be_visible()
    before = page.locator("main").inner_html()
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('main').innerHTML !== before", arg=before
    )


def test_twenty_votes_by_keyboard_alone(site):
    """From the link to an empty queue, with undo on the way."""
    for number in range(20):
        site.server.pair(f"prompt {number}", "good", "bad")
    page = site.open()
    assert "token" not in page.url
    expect(page.locator(".prompt")).to_contain_text("prompt 0")
    pressed = list(KEYS) * 4
    for key in pressed:
        vote_by(page, key)
    wait(lambda: len(site.votes()) == 20)
    assert [one.verdict for one in site.votes()] == [KEYS[key] for key in pressed]
    assert all(0 <= one.seen_ms < 10_000 for one in site.votes())
    expect(page.locator("h1")).to_have_text("All done for now")
    page.keyboard.press("u")
    expect(page.locator(".prompt")).to_contain_text("prompt 19")
    wait(lambda: len(site.votes()) == 19)
    vote_by(page, "2")
    wait(lambda: [one.verdict for one in site.votes()][-1:] == ["b"])


def test_a_reason_is_sent_and_its_letters_are_no_votes(site):
    site.server.pair("prompt")
    page = site.open()
    page.locator("#reason").fill("x sux 1 2")
    page.locator("#reason").press("Escape")
    vote_by(page, "1")
    wait(lambda: site.votes())
    assert [(one.verdict, one.reason) for one in site.votes()] == [("a", "x sux 1 2")]


def test_votes_wait_while_the_server_is_away_and_are_sent_once(site):
    for number in range(3):
        site.server.pair(f"prompt {number}")
    page = site.open()
    expect(page.locator(".prompt")).to_contain_text("prompt 0")
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    vote_by(page, "1")
    vote_by(page, "2")
    expect(page.locator("#banner")).to_contain_text("2 votes wait in this browser")
    assert site.votes() == []
    page.keyboard.press("u")  # What was never sent is just forgotten.
    expect(page.locator("#toast")).to_contain_text("Taken back.")
    expect(page.locator("#banner")).to_be_empty()
    vote_by(page, "0")
    page.context.set_offline(False)
    wait(lambda: len(site.votes()) == 2)
    assert [one.verdict for one in site.votes()] == ["a", "tie"]


def test_answers_are_shown_as_markdown_and_run_nothing(site):
    site.server.pair("prompt", MARKED, MARKED + " again")
    page = site.open()
    expect(page.locator(".answer strong").first).to_have_text("bold")
    assert page.locator("main img").count() == 0
    page.wait_for_timeout(200)
    assert page.title() == "Compare · fastslow"


def test_an_answer_can_be_put_right(site):
    site.server.pair("prompt", "good", "bad")
    page = site.open()
    page.locator("#answer-b button").click()
    box = page.locator("#answer-b textarea")
    said = box.input_value()
    box.fill("much better")
    page.get_by_role("button", name="Keep my version").click()
    wait(lambda: site.votes())
    (edit,) = site.votes()
    assert (edit.kind, edit.text) == ("edit", "much better") and said in ("good", "bad")
    vote_by(page, "2")
    wait(lambda: len(site.votes()) == 2)


def test_nothing_tells_which_answer_is_whose(site):
    """In the document and in what was sent, both sides differ only by their texts."""
    seen = []
    site.server.pair("prompt", "xxxx", "yyyy")
    page = site.open("annotator")
    page.on("response", lambda reply: seen.append(reply))
    expect(page.locator("#answer-a .text")).not_to_be_empty()
    left, right = (
        page.locator(f"#answer-{side}").evaluate("one => one.outerHTML") for side in "ab"
    )
    for one, other in (("xxxx", "yyyy"), ("yyyy", "xxxx")):
        if one in left:
            same = right.replace(other, one).replace("answer-b", "answer-a")
            assert same.replace("Answer B", "Answer A").replace(">B<", ">A<") == left


def test_what_was_voted_is_listed_and_can_be_taken_back(site):
    site.server.pair("prompt 1")
    page = site.open()
    vote_by(page, "1")
    wait(lambda: site.votes())
    page.get_by_role("link", name="Your votes").click()
    expect(page.locator(".votes li")).to_contain_text("A was better")
    page.get_by_role("button", name="Take back").click()
    expect(page.locator(".state")).to_have_text("taken back")
    assert site.votes() == []


def test_an_admin_adds_somebody_who_then_votes(site):
    page = site.open("admin", "people")
    site.server.pair("prompt 1")
    page.get_by_label("Name").fill("Eve <b>")
    page.get_by_role("button", name="Add somebody").click()
    link = page.locator(".link code").inner_text()
    expect(page.locator("tbody")).to_contain_text("Eve <b>")
    other = site.browser.new_context().new_page()
    other.goto(link)
    expect(other.locator(".prompt")).to_contain_text("prompt 1")
    vote_by(other, "1")
    wait(lambda: site.votes())
    with page.expect_download() as downloaded:
        site.server.now += 100
        site.server.store.write(_admit, now=site.server.now)
        page.get_by_role("button", name="Download").click()
    text = downloaded.value.path().read_text()
    assert '"prompt 1"' in text and text.count("\n") == 1


def test_an_admin_adds_a_gold_question_and_what_is_written_stays(site):
    page = site.open("admin", "people")
    page.get_by_label("First answer").fill("right")
    page.get_by_label("Second answer").fill("wrong")
    page.wait_for_timeout(5500)  # The figures were drawn anew.
    expect(page.get_by_label("First answer")).to_have_value("right")
    page.get_by_label("Prompt").fill("Which one?")
    page.get_by_role("button", name="Add a gold question").click()
    expect(page.locator("#toast")).to_contain_text("gold question")
    expect(page.get_by_label("Prompt")).to_have_value("")
    with site.server.store.read() as connection:
        (pair,) = connection.execute(select(pairs)).all()
        said = dict(connection.execute(select(answers.c.id, answers.c.text)).all())
    right = pair.a if pair.gold_verdict == "a" else pair.b
    assert pair.purpose == "gold" and said[right] == "right"


def _admit(connection, now):
    from fastslow.feedback import ledger
    from fastslow.streams import fault_of

    return ledger.admit(connection, now=now, check=fault_of)


def test_a_wrong_token_is_said_and_a_right_one_can_be_pasted(site):
    page = site.browser.new_context().new_page()
    page.goto(f"{site.address}/#token=wrong")
    expect(page.locator("main")).to_contain_text("not valid")
    page.get_by_label("Token").fill(site.server.tokens["viewer"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("main")).to_contain_text("role viewer has no page")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_seriously_inaccessible(site, scheme):
    for number in range(3):
        site.server.pair(f"prompt {number}", "# Title\n\n- one\n- two [link](http://x)", "plain")
    pages = [site.open(color_scheme=scheme), site.open("admin", "people", color_scheme=scheme)]
    vote_by(pages[0], "1")
    pages.append(site.open(view="votes", color_scheme=scheme))
    phone = {"width": 390, "height": 844}
    pages.append(site.open(color_scheme=scheme, viewport=phone))
    signed_out = site.browser.new_context(color_scheme=scheme).new_page()
    signed_out.goto(site.address)
    expect(signed_out.locator("#token")).to_be_visible()
    for page in [*pages, signed_out]:
        found = Axe().run(page).response["violations"]
        bad = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not bad, [(one["id"], one["nodes"][0]["html"]) for one in bad]
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, "nothing hangs over the side"


@pytest.fixture(scope="module")
def engine(model_folder):
    made = EmbeddedEngine(load_recipe({"model": str(model_folder)}), slots=1, max_rank=2)
    yield made
    made.close()


def test_answers_of_a_chat_are_rated_put_right_and_asked_for_twice(site, engine):
    site.server.live.engine = engine
    page = site.open(view="chat")
    page.get_by_label("Your message").fill("Hi")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Good").click()
    expect(page.get_by_role("button", name="Good")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edited answer").fill("As it should be")
    page.get_by_role("button", name="Keep my version").click()
    wait(lambda: len(site.votes()) == 2)
    assert [one.verdict for one in site.votes()] == ["up", "edited"]
    found = Axe().run(page).response["violations"]
    assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")]
    page.get_by_label("Your message").fill("And now?")
    page.get_by_role("button", name="Answer twice").click()
    expect(page.locator(".prompt")).to_contain_text("And now?")
    vote_by(page, "1")
    wait(lambda: len(site.votes()) == 3)


def test_an_answer_can_be_stopped(site, engine, monkeypatch):
    step = Group.step

    def slow(group):
        time.sleep(0.05)
        step(group)

    monkeypatch.setattr(Group, "step", slow)
    site.server.live.engine = engine
    page = site.open(view="chat")
    page.get_by_label("Your message").fill("Hi")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    wait(lambda: engine._rows.total() == 0)
