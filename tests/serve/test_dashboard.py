"""The pages of who reads, in a real browser: drawn from what is kept, and again when it changes."""

import json
import re
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import PHONE
from playwright.sync_api import expect

from fastslow.feedback import consolidating, decisions, ledger, planning
from fastslow.serve import changes
from fastslow.streams import fault_of

AT_ONCE = 3000
"""Milliseconds: less than it took while pages asked every five seconds."""


def picture(page, name):
    return page.get_by_role("img", name=re.compile(name))


def test_what_changes_is_shown_at_once_and_nothing_is_asked_for_meanwhile(site, school):
    school.update()
    page, asked = site.open("viewer", "learning"), []
    expect(page.locator("#update-1")).to_be_visible()
    page.wait_for_timeout(1500)  # The stream is open, and has told of everything.
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2000)
    assert asked == []
    school.update()
    expect(page.locator("#update-2")).to_be_visible(timeout=AT_ONCE)
    decisions_before = len(asked)
    site.server.store.write(decisions.roll_back, update_id=2, now=site.server.now, by=None)
    expect(page.locator("#update-2 .state").first).to_have_text("rolled back", timeout=AT_ONCE)
    assert len(asked) > decisions_before > 0
    assert not any("token" in url for url in asked)


def test_votes_are_counted_as_they_come_on_the_page_of_people(site, school):
    page = site.open("admin", "people")
    expect(page.locator(".tiles dd").first).to_have_text("0")
    school.rows("talk")
    expect(page.locator(".tiles dd").first).to_have_text(str(school.votes), timeout=10_000)
    expect(picture(page, "Votes in each of the last 24 hours")).to_have_accessible_name(
        re.compile(f"{school.votes} in all")
    )


def test_a_page_that_nobody_sees_does_not_listen(site, school):
    page = site.open("admin", "learning")
    heard = site.server.live.changes._listeners
    listens(heard, 1)
    hide(page, True)
    listens(heard, 0)
    school.update()
    page.wait_for_timeout(800)
    expect(page.locator(".updates > li")).to_have_count(0)
    hide(page, False)
    expect(page.locator(".updates > li")).to_have_count(1)
    listens(heard, 1)
    page.get_by_role("link", name="Compare").click()
    listens(heard, 0)


def hide(page, hidden):
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def listens(heard, count):
    deadline = time.monotonic() + 10
    while len(heard) != count:
        assert time.monotonic() < deadline, len(heard)
        time.sleep(0.02)


def test_a_stream_that_breaks_is_said_and_opened_again_after_a_growing_pause(site, school):
    page, tries = site.open("viewer", "learning"), []
    live = site.server.live
    listens(live.changes._listeners, 1)
    page.on("request", lambda request: tries.append(request.url.endswith("/v1/events")))
    live.changes.close()  # As a server that stops: a stream ends as soon as it begins.
    fault = page.locator(".fault")
    expect(fault).to_have_text(
        "Not up to date: the connection was lost. The page tries again in 2 seconds."
    )
    expect(fault).to_contain_text("4 seconds", timeout=8000)
    assert sum(tries) >= 2
    live.changes = changes.Changes(live.marks)
    school.update()
    expect(page.locator("#update-1")).to_be_visible(timeout=12_000)
    expect(fault).to_be_empty()


def test_held_out_votes_losses_and_who_leads_are_drawn(site, school):
    facts = [("fast", 0.7), ("slow", 0.6), ("slow", 0.5)]
    for step, (leader, loss) in enumerate(facts):
        right = 0.6 + step / 10
        school.update(leader=leader, loss=loss, accuracy=right, held_out=(right, right - 0.1))
    school.update(held_out=(0.3, 0.8), failed="held-out votes", accuracy=0.6, loss=0.6)
    page = site.open("viewer", "learning")
    expect(picture(page, "Loss before")).to_have_accessible_name(
        "Loss before learning: 0.700 at update 1, 0.600 at update 4, from 0.500 to 0.700 over 4 "
        "updates"
    )
    held_out = picture(page, "Held-out")
    expect(held_out).to_have_accessible_name(re.compile("60 % at update 1, 30 % at update 4"))
    heights = [float(one.split()[1]) for one in re.split("[ML]", line(held_out))[1:]]
    assert heights[0] > heights[1] > heights[2] == heights[3], "what answers is no worse"
    assert held_out.locator(".ring").count() == 1
    assert held_out.locator("title").last.text_content() == "Update 4: 30 %, 80 % before"
    expect(page.locator(".charts + .legend li")).to_have_text(
        ["led by fast", "led by slow", "hollow: not in use"]
    )
    assert picture(page, "Accuracy before").locator(".square:not(.hole)").count() == 3


def line(drawn):
    return drawn.locator(".course").get_attribute("d")


def test_the_lineage_shows_what_begins_where(site, school):
    school.serve()
    for _ in range(3):
        school.update()
    school.update(failed="answers")
    site.server.store.write(decisions.roll_back, update_id=2, now=site.server.now, by=None)
    school.update()
    school.update(waits=True)
    page = site.open("viewer", "learning")
    drawn = picture(page, "Update 6 begins")
    expect(drawn).to_have_accessible_name(
        "Update 6 begins at update 5: waits for approval. Update 5 begins at update 1: answers "
        "now. Update 4 begins at update 3: set aside by the gate. Update 3 begins at update 2: "
        "released. Update 2 begins at update 1: rolled back. Update 1 begins at the base: "
        "answered before."
    )
    places = dict(drawn.locator(".node").evaluate_all(
        "all => all.map((one) => [one.querySelector('text').textContent, "
        "one.getAttribute('transform').match(/[0-9.]+/g).map(Number)])"
    ))  # fmt: skip
    assert list(places) == ["base", "1", "2", "3", "4", "5", "6"]
    across = [at[0] for at in places.values()]
    assert across == sorted(set(across))
    rows = {name: at[1] for name, at in places.items()}
    assert rows["base"] == rows["1"] == rows["5"] == rows["6"]
    assert rows["1"] < rows["2"] == rows["3"] == rows["4"]
    expect(page.locator(".lineage .halo")).to_have_count(1)


def test_a_long_lineage_shows_its_end_and_stays_where_somebody_looks(site, school):
    for _ in range(14):
        school.update()
    page = site.open("viewer", "learning", viewport=PHONE)
    expect(page.locator(".lineage")).to_be_visible()
    place = "document.querySelector('.lineage')"
    assert page.evaluate(f"{place}.scrollWidth - {place}.clientWidth - {place}.scrollLeft") <= 1
    page.evaluate(f"{place}.scrollLeft = 50")
    page.wait_for_timeout(200)
    school.update()
    expect(page.locator("#update-15")).to_be_visible()
    # One more update has come at the other end.
    assert page.evaluate(f"{place}.scrollLeft") <= 50 + 44 + 1
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def differ(server, verdicts=("a", "b", "a")):
    """A pair on which people say so."""
    tokens = [server.person(f"voter {server.now} {number}", "annotator") for number in range(3)]
    pair = server.pair("Who <b>knows</b>? " * 40, "first", "second", needs=3)
    for token, verdict in zip(tokens, verdicts, strict=True):
        assert [one["id"] for one in server.next(token=token)] == [pair]
        assert server.vote(pair, verdict, token=token).status_code == 202
    return pair


def test_pairs_on_which_people_differ_and_unusual_votes_are_shown(site):
    server = site.server
    pair = differ(server)
    token = server.person("Hasty <i>", "annotator")
    for number in range(8):
        one = server.pair(f"{number}", "word " * 20, "other " * 20)
        server.next(token=token)
        body = {"pair_id": one, "verdict": "ab"[number % 2], "seen_ms": 3}
        server.ask("POST", "/v1/votes", body, token=token)
    server.now += 100
    server.store.write(ledger.admit, check=fault_of, now=server.now)
    page = site.open("viewer", "people")
    expect(page.locator("main")).to_contain_text(
        "People differ on 1 of 1 pairs that several voted on"
    )
    page.locator("#differ").click()
    card = page.locator("details li", has_text=f"pair {pair},")
    expect(card.locator(".state")).to_have_text(["2 × A is better", "1 × B is better"])
    expect(card).to_contain_text("Who <b>knows</b>?")
    remark = page.locator("section", has_text="Votes worth a look").locator("ul.votes > li")
    expect(remark).to_contain_text("Hasty <i>")
    expect(remark).to_contain_text("8 of 8 votes were sent too soon to have read both answers")
    assert page.get_by_role("button", name=re.compile("link|Disable|Add")).count() == 0
    differ(server)  # What is open stays open when there is more.
    expect(page.locator("main")).to_contain_text("differ on 2 of 2 pairs", timeout=10_000)
    expect(card).to_be_visible()
    with page.expect_download() as downloaded:
        page.get_by_role("button", name="Download").click()
    rows = [json.loads(one) for one in downloaded.value.path().read_text().splitlines()]
    assert len(rows) == 3, "a viewer takes the rows along too"


def test_figures_that_take_long_say_how_old_they_are(site, school):
    figures = site.server.live.figures
    page = site.open("admin", "people")
    expect(page.locator(".tiles dd").first).to_have_text("0")
    figures._next = figures._timer() + 600  # As if counting had taken twelve seconds.
    school.rows("talk")
    expect(page.locator(".figures > .hint")).to_contain_text("there are newer votes")
    expect(page.locator(".tiles dd").first).to_have_text("0")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_pictures_and_lists_are_accessible_in_every_state(site, school, scheme):
    for step in range(4):
        school.update(held_out=(0.6, 0.5), leader="fast" if step % 2 else "slow")
    school.update(failed="answers")
    site.server.store.write(decisions.roll_back, update_id=3, now=site.server.now, by=None)
    school.update("a domain of a very " + 20 * "long" + " name", waits=True)
    differ(site.server)
    for view in ("learning", "people"):
        for shape in ({}, {"viewport": PHONE}):
            page = site.open("admin", view, color_scheme=scheme, **shape)
            expect(page.locator("svg").first).to_be_visible()
            for fold in page.locator("summary:visible").all():
                fold.click()
            found = Axe().run(page).response["violations"]
            bad = [one for one in found if one["impact"] in ("serious", "critical")]
            assert not bad, [(one["id"], one["nodes"][0]["html"]) for one in bad]
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, "nothing hangs over the side"


def test_a_student_of_all_domains_is_asked_for_and_what_becomes_of_it_is_shown(site, school):
    school.update()
    page = site.open("admin", "learning")
    expect(page.locator("#update-1")).to_be_visible()
    expect(page.get_by_role("region", name="One adapter")).to_have_count(0)
    school.update("town")
    region = page.get_by_role("region", name="One adapter for all domains")
    region.get_by_role("button", name="Teach one student of talk, town").click()
    expect(region).to_contain_text("It waits for the learner.")
    expect(region.get_by_role("button")).to_have_count(0)
    own = {"learner": school.learner, "number": 1}
    store = site.server.store
    store.write(consolidating.put_off, why="update 9 of talk is not decided yet", **own)
    expect(region).to_contain_text("update 9 of talk is not decided yet", timeout=AT_ONCE)
    with store.read() as connection:
        rows = {name: planning.learned(connection, name) for name in ("talk", "town")}
    store.write(consolidating.plan, shown=rows, now=site.server.now, **own)
    expect(region.get_by_role("listitem")).to_contain_text(["planned", "planned"], timeout=AT_ONCE)
    assert not Axe().run(page).response["violations"]
    viewer = site.open("viewer", "learning", viewport=PHONE)
    region = viewer.get_by_role("region", name="One adapter for all domains")
    expect(region).to_contain_text("was asked for")
    expect(region.get_by_role("button")).to_have_count(0)
