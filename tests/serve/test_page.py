"""The page in a real browser: votes by keyboard, undo, offline, blindness, accessibility, what was
learned and who may undo it."""

import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import PHONE, School, vote_by, wait
from playwright.sync_api import expect
from sqlalchemy import select
from test_learning import Engine

from fastslow.config import load_recipe
from fastslow.feedback import holding, ledger, planning
from fastslow.feedback.holding import HeldBack
from fastslow.feedback.schema import answers, pairs
from fastslow.serve.engine.decoding import Group
from fastslow.serve.engine.embedded import EmbeddedEngine
from fastslow.serve.engine.requests import Piece
from fastslow.streams import fault_of

MARKED = "**bold** <img src=x onerror=\"document.title='HACKED'\"> `code`"
KEYS = {"1": "a", "0": "tie", "x": "both_bad", "2": "b", "s": "skip"}


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


def test_a_table_in_an_answer_keeps_its_head_on_a_phone(site):
    site.server.pair("prompt", "| town | inn |\n|---|---|\n| Ulm | old |")
    page = site.open(viewport=PHONE)
    expect(page.get_by_role("columnheader", name="town")).to_be_visible()


CUT = "This answer was cut off at its limit."


def test_an_answer_that_was_cut_off_says_so_on_its_side(site):
    answers = [{"text": "whole"}, {"text": "cut off in", "finish": "length"}]
    site.server.ask("POST", "/v1/pairs", {"prompt": "Hi", "answers": answers}, role="service")
    page = site.open()
    expect(page.locator(".answer").filter(has_text="cut off in")).to_contain_text(CUT)
    expect(page.locator(".answer").filter(has_text="whole")).not_to_contain_text(CUT)


def test_it_says_why_no_pairs_came(site):
    page = site.open()
    expect(page.locator("h1")).to_have_text("Nothing to compare yet")
    page.context.set_offline(True)
    page.get_by_role("link", name="Chat").click()
    page.get_by_role("link", name="Compare").click()
    expect(page.locator("h1")).to_have_text("Could not load pairs")
    expect(page.locator("main")).to_contain_text("The server cannot be reached.")


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
    page.get_by_role("button", name="Add person").click()
    link = page.locator(".link code").inner_text()
    expect(page.locator("tbody")).to_contain_text("Eve <b>")
    other = site.browser.new_context().new_page()
    other.goto(link)
    expect(other.locator(".prompt")).to_contain_text("prompt 1")
    vote_by(other, "1")
    wait(lambda: site.votes())
    with page.expect_download() as downloaded:
        site.server.now += 100
        site.server.store.write(ledger.admit, check=fault_of, now=site.server.now)
        page.get_by_role("button", name="Download").click()
    text = downloaded.value.path().read_text()
    assert '"prompt 1"' in text and text.count("\n") == 1


def test_an_admin_forgets_somebody_after_two_decisions(site):
    site.server.pair("prompt 1")
    voter = site.open()
    vote_by(voter, "1")
    wait(lambda: site.votes())
    page = site.open("admin", "people")
    row = page.locator("tbody tr", has_text="annotator").first
    forget = row.get_by_role("button", name="Forget the votes of annotator")
    expect(row.get_by_role("button", name="Disable")).to_be_visible()
    expect(forget).to_have_count(0)
    row.get_by_role("button", name="Disable").click()
    forget.click()
    expect(page.locator("#toast")).to_contain_text("cannot be undone")
    assert len(site.votes()) == 1
    forget.click()
    expect(page.locator("#toast")).to_contain_text("Taken back: 1 of the votes of annotator")
    expect(forget).to_have_count(0)
    assert site.votes() == []


def test_an_admin_lets_the_rows_of_somebody_through(site):
    server = site.server
    who = server.ask("GET", "/v1/me").json()["id"]
    learner = server.store.write(planning.claim)
    found = [HeldBack("talk", who, 3, "3 of 3 edits prefer an answer with 'acme'")]
    server.store.write(holding.hold, learner=learner, domain="talk", found=found, now=server.now)
    reader = site.open("viewer", "people")
    expect(reader.locator("main")).to_contain_text("3 of 3 edits prefer an answer with 'acme'")
    expect(reader.get_by_role("button", name="Let the rows of")).to_have_count(0)
    page = site.open("admin", "people")
    page.get_by_role("button", name="Let the rows of annotator through").click()
    expect(page.locator("#toast")).to_contain_text("3 rows of annotator will be learned")
    expect(page.locator("main")).not_to_contain_text("held back")
    expect(reader.locator("main")).not_to_contain_text("held back", timeout=10_000)
    with server.store.read() as connection:
        assert holding.let_through_until(connection) == {who: server.now}


def test_an_admin_adds_a_gold_question_and_what_is_written_stays(site):
    page = site.open("admin", "people")
    page.get_by_label("First answer").fill("right")
    page.get_by_label("Second answer").fill("wrong")
    site.server.person("newcomer", "annotator")
    expect(page.locator("tbody")).to_contain_text("newcomer")  # The figures were drawn again.
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


def test_a_wrong_token_is_said_and_a_right_one_can_be_pasted(site):
    page = site.browser.new_context().new_page()
    page.goto(f"{site.address}/#token=wrong")
    expect(page.locator("main")).to_contain_text("not valid")
    page.get_by_label("Token").fill(site.server.tokens["viewer"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text("Learning")


def test_what_was_learned_is_shown_with_what_the_gate_said(site, school):
    first, second = school.update(accuracy=0.5), school.update(accuracy=0.75)
    bad = school.update(accuracy=0.25, failed="answers", untold="phrases")
    page = site.open("viewer")
    expect(page.locator("h1")).to_have_text("Learning")
    expect(page.locator("h2")).to_have_text("talk")
    expect(page.locator(".domain")).to_contain_text("this server answers with base.")
    school.serve()
    expect(page.locator(".domain")).to_contain_text("Update 2 answers now, by the adapter u2.")
    expect(page.locator(".updates .state:not(.mark)")).to_have_text(
        ["set aside by the gate", "answers now", "answered before"]
    )
    card = page.locator(f"#update-{second}")
    for said in ("accuracy before75 %", "loss before0.625", "led byslow", "begins atupdate 1"):
        expect(card).to_contain_text(said)
    expect(page.locator(f"#update-{first}")).to_contain_text("begins atthe base")
    card = page.locator(f"#update-{bad}")
    expect(card.locator("summary")).to_have_text("Gate: 1 of 3 checks failed: answers")
    expect(card.locator(".checks")).to_be_hidden()
    card.locator("summary").press("Enter")
    expect(card.locator(".checks li")).to_have_text(
        [
            "passed distance: what came of distance",
            "failed answers: what came of answers",
            "too little to tell phrases: what came of phrases",
        ]
    )
    expect(page.get_by_role("img").first).to_have_accessible_name(
        "Accuracy before learning: 50 % at update 1, 25 % at update 3, from 25 % to 75 % over 3 "
        "updates"
    )
    assert page.locator("main button").count() == 0, "a viewer decides nothing"


def test_an_admin_rolls_an_update_back_by_keyboard_alone(site, school):
    made = [school.update() for _ in range(4)]
    school.serve()
    page = site.open("admin", "learning")
    undo = page.get_by_role("button", name=f"Roll back update {made[1]}", exact=True)
    undo.press("Enter")
    asked = page.get_by_role("group", name="Roll back")
    expect(asked).to_contain_text("Update 1 will answer at once. 2 later updates are undone")
    expect(page.locator(":focus")).to_have_text("Roll back update 2")
    page.keyboard.press("Escape")
    expect(asked).to_have_count(0)
    assert school.route().update_id == made[3]
    undo.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("Update 1 answers now.")
    expect(page.locator(".domain")).to_contain_text("Update 1 answers now, by the adapter u1.")
    assert school.route().update_id == made[0]
    expect(page.locator(".updates .state:not(.mark)")).to_have_text(
        ["released", "released", "rolled back", "answers now"]
    )
    expect(page.locator(":focus")).to_have_id(f"update-{made[1]}")


def test_an_admin_approves_and_decides_what_is_learned_again(site, school):
    kept = school.update()
    first, second = (school.update(failed=name) for name in ("answers", "phrases"))
    page = site.open("admin", "learning")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator(".domain")).to_contain_text(f"Update {kept} is approved.")
    assert school.route().anchor_id == kept
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    page.get_by_role("button", name=f"Learn again update {first}").click()
    expect(page.locator(f"#update-{first} .state").first).to_have_text("released")
    page.get_by_role("button", name=f"Discard update {second}").click()
    expect(page.get_by_role("group", name="Discard")).to_contain_text("This cannot be undone.")
    assert school.state(second) == "quarantined"
    page.locator(f"#sure-{second}").click()
    expect(page.locator(f"#update-{second} .state").first).to_have_text("discarded")
    assert (school.state(first), school.state(second)) == ("released", "discarded")


def test_what_one_reads_stays_as_it_is_when_more_is_learned(site, school):
    first = school.update()
    page = site.open("admin", "learning")
    page.locator(f"#update-{first} summary").press("Enter")
    second = school.update()
    expect(page.locator(f"#update-{second}")).to_be_visible()
    expect(page.locator(f"#update-{first} .checks")).to_be_visible()
    expect(page.locator(":focus")).to_have_id(f"checks-{first}")
    for _ in range(10):
        school.update()
    expect(page.locator(".updates > li")).to_have_count(10)
    page.get_by_role("button", name="Show older").click()
    expect(page.locator(".updates > li")).to_have_count(12)


def test_who_votes_does_not_see_what_was_learned(site, school):
    school.update()
    site.server.pair("prompt")
    page = site.open("annotator", "learning")
    expect(page.locator(".prompt")).to_be_visible()
    assert page.get_by_role("link").all_inner_texts() == [
        "Skip to content", "Compare", "Chat", "Your votes",
    ]  # fmt: skip


def test_it_says_where_nothing_was_learned_and_what_is_not_up_to_date(site, school):
    page = site.open("admin", "people")
    expect(page.locator("h1")).to_have_text("Votes and people")
    page.context.set_offline(True)
    page.get_by_role("link", name="Learning").click()
    expect(page.locator("h1")).to_have_text("No connection")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("h1")).to_have_text("Learning")
    expect(page.locator("main")).to_contain_text("Nothing was learned yet")
    expect(page.locator("main")).to_contain_text("--learn")
    page.context.set_offline(True)
    expect(page.locator(".fault")).to_contain_text("Not up to date: this device is offline.")
    page.context.set_offline(False)
    school.update()
    expect(page.locator(".updates > li")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_nothing_is_seriously_inaccessible(site, scheme):
    for number in range(3):
        site.server.pair(f"prompt {number}", "# Title\n\n- one\n- two [link](http://x)", "plain")
    pages = [site.open(color_scheme=scheme), site.open("admin", "people", color_scheme=scheme)]
    vote_by(pages[0], "1")
    pages.append(site.open(view="votes", color_scheme=scheme))
    pages.append(site.open(color_scheme=scheme, viewport=PHONE))
    signed_out = site.browser.new_context(color_scheme=scheme).new_page()
    signed_out.goto(site.address)
    expect(signed_out.locator("#token")).to_be_visible()
    school = School(site.server)
    school.update(accuracy=0.5)
    school.update("a domain of a very " + 20 * "long" + " name", accuracy=0.6)
    school.update(accuracy=0.7, failed="answers")
    for shape in ({}, {"viewport": PHONE}):
        pages.append(site.open("admin", "learning", color_scheme=scheme, **shape))
        for fold in pages[-1].locator("summary").all():
            fold.click()
        pages[-1].get_by_role("button", name="Roll back").first.click()
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


def test_a_chat_is_answered_by_what_answers_now_unless_another_is_chosen(site):
    site.server.live.engine = Engine()
    site.server.live.engine.models["older"] = "hash"
    page = site.open(view="chat")
    said = page.locator(".bubble.assistant p")
    for chosen, model in (("Current model", "base"), ("older", "older")):
        page.get_by_label("Model").select_option(chosen)
        page.get_by_label("Your message").fill("Hi")
        page.keyboard.press("Enter")
        expect(said.last).to_have_text(f"{model} 0")


class CutOff(Engine):
    """Every answer reaches its limit."""

    def submit(self, ask):
        for index in range(ask.count):
            ask.tell(Piece(index, "and so on", (1,), (-1.0,), finish="length"))


def test_a_chat_says_where_an_answer_was_cut_off_until_it_is_put_right(site):
    site.server.live.engine = CutOff()
    page = site.open(view="chat")
    page.get_by_label("Your message").fill("Hi")
    page.keyboard.press("Enter")
    expect(page.locator(".bubble.assistant")).to_contain_text(CUT)
    expect(page.locator(".bubble.user")).not_to_contain_text(CUT)
    page.get_by_role("button", name="Edit").click()
    expect(page.locator(".bubble.assistant")).not_to_contain_text("Good")
    page.get_by_label("Edited answer").fill("Whole.")
    page.get_by_role("button", name="Keep my version").click()
    expect(page.locator(".bubble.assistant")).not_to_contain_text(CUT)
    wait(lambda: site.votes())


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
    page.get_by_label("Your message").fill("What I say next")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_label("Your message")).to_have_value("What I say next")
    wait(lambda: engine._rows.total() == 0)
