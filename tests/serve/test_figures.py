"""Statistics read all that is kept, so they are found seldom; old ones say that they are old."""

import asyncio

import pytest

from fastslow.feedback.statistics import statistics
from fastslow.serve.figures import MINUTE, PAUSE, KnownFigures


class Store:
    """Figures of a store that takes two seconds to be counted."""

    def __init__(self):
        self.marks = {"votes": 0, "people": 0, "updates": 0}
        self.at = self.seconds = self.finds = 0
        self.known = KnownFigures(self.find, self.look, lambda: self.at, lambda: self.seconds)

    async def find(self, now):
        self.finds += 1
        self.seconds += 2
        return f"found {self.finds}"

    async def look(self):
        return dict(self.marks)

    def now(self):
        found = asyncio.run(self.known.now())
        return found.statistics, found.again_in_s


@pytest.fixture
def counted():
    return Store()


def test_nothing_is_counted_again_while_nothing_changes(counted):
    assert [counted.now() for _ in range(5)] == [("found 1", None)] * 5
    counted.marks["updates"] += 1
    counted.seconds += 1000
    assert counted.now() == ("found 1", None), "of updates nothing is in it"
    counted.at += MINUTE
    assert counted.now() == ("found 2", None), "an hour's votes become fewer by themselves"


def test_after_a_change_it_waits_as_long_as_counting_deserves_and_says_so(counted):
    counted.now()
    counted.marks["votes"] += 1
    assert counted.now() == ("found 1", PAUSE * 2)
    counted.seconds += PAUSE * 2 - 1
    assert counted.now() == ("found 1", 1)
    counted.seconds += 1
    assert counted.now() == ("found 2", None)


def test_what_an_admin_does_to_people_shows_at_once(counted):
    counted.now()
    counted.marks["people"] += 1
    assert counted.now() == ("found 2", None)


def test_many_who_ask_at_once_wait_for_one_count(counted):
    async def all_at_once():
        return await asyncio.gather(*(counted.known.now() for _ in range(20)))

    found = asyncio.run(all_at_once())
    assert counted.finds == 1 and {one.statistics for one in found} == {"found 1"}


def test_pages_and_prometheus_share_one_count(server, monkeypatch):
    counts = []

    def counted(connection, **named):
        counts.append(named)
        return statistics(connection, **named)

    monkeypatch.setattr("fastslow.serve.live.statistics", counted)
    server.pair()
    first = server.ask("GET", "/v1/statistics", role="viewer").json()
    assert first["at"] == server.now and first["again_in_s"] is None
    for _ in range(5):
        assert server.ask("GET", "/v1/statistics", role="admin").json() == first
        assert "fastslow_open_pairs 1.0" in server.ask("GET", "/metrics", role="service").text
    assert len(counts) == 1
