"""What a page sends later: it is taken back wherever it is, and sent as nobody else's."""

from browsing import vote_by
from playwright.sync_api import expect

VOTES = "**/v1/votes"


class Losing:
    """A connection on which the server gets everything, and the page no reply for a while."""

    over = False

    def __call__(self, route):
        if self.over:
            return route.continue_()
        route.fetch()
        return route.abort()


def sign_in(page, token):
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def wait(page, condition):
    """As browsing.wait, while routes of the page are answered."""
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come")


def verdicts(site):
    return [one.verdict for one in site.votes()]


def test_a_vote_that_was_sent_later_is_taken_back(site):
    site.server.pair("prompt")
    page = site.open()
    expect(page.locator(".prompt")).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    vote_by(page, "1")
    expect(page.locator("#banner")).to_contain_text("1 vote waits")
    page.context.set_offline(False)
    wait(page, lambda: verdicts(site) == ["a"])
    expect(page.locator("#banner")).to_be_empty()
    page.keyboard.press("u")
    expect(page.locator("#toast")).to_contain_text("Taken back.")
    assert site.votes() == []
    vote_by(page, "2")
    wait(page, lambda: verdicts(site) == ["b"])


def test_a_vote_of_which_no_reply_came_is_taken_back_when_the_server_is_reached(site):
    site.server.pair("prompt")
    page, losing = site.open(), Losing()
    page.route(VOTES, losing)
    vote_by(page, "1")
    wait(page, lambda: verdicts(site) == ["a"])
    page.keyboard.press("u")
    expect(page.locator("#toast")).to_contain_text("as soon as the server can be reached")
    expect(page.locator("#banner")).to_be_empty()
    vote_by(page, "2")
    losing.over = True
    wait(page, lambda: verdicts(site) == ["b"])
    assert site.complaints and all("ERR_FAILED" in one for one in site.complaints)
    site.complaints.clear()


def test_what_waits_is_sent_as_nobody_elses_and_nothing_of_theirs_is_shown(site):
    site.server.pair("first")
    site.server.pair("second", needs=2)
    tokens = {"ann": site.server.tokens["annotator"], "bob": site.server.person("bob", "annotator")}
    page = site.open()
    page.route(VOTES, lambda route: route.abort())
    vote_by(page, "1")
    expect(page.locator("#banner")).to_contain_text("1 vote waits")
    expect(page.locator(".prompt")).to_contain_text("second")
    site.server.pair("third")
    sign_in(page, tokens["bob"])
    page.unroute(VOTES)
    expect(page.locator(".prompt")).to_contain_text("second")
    expect(page.locator("#banner")).to_be_empty()
    vote_by(page, "x")
    wait(page, lambda: verdicts(site) == ["both_bad"])
    page.evaluate("dispatchEvent(new Event('online'))")
    sign_in(page, tokens["ann"])
    wait(page, lambda: verdicts(site) == ["both_bad", "a"])
    bob, ann = (one.voter for one in site.votes())
    assert ann != bob
    site.complaints.clear()


def test_who_signs_out_is_signed_out_in_every_tab(site):
    site.server.pair("prompt")
    page = site.open()
    other = page.context.new_page()
    other.goto(site.address)
    expect(other.locator(".prompt")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(other.get_by_label("Token")).to_be_visible()
    expect(other.locator(".prompt")).to_have_count(0)
