"""The stream that says when there is something new: to whom, of what, at what cost, and its end."""

import http.client
import json
import logging
import signal
import time

import pytest
from browsing import School, Site, wait
from running import Running

from fastslow.errors import StateError
from fastslow.feedback import people
from fastslow.serve.changes import LOOKS_EVERY, MOST_EACH
from fastslow.serve.routes import events

ALL = {"votes", "updates", "people"}


class Stream:
    """An open stream, read line by line."""

    def __init__(self, address, token):
        self.connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
        self.connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {token}"})
        self.reply = self.connection.getresponse()

    def event(self):
        """What changed; the text of a comment; None at the end."""
        line = self.reply.readline().decode().strip()
        if not line:
            return None
        self.reply.readline()
        return set(json.loads(line[6:])["changed"]) if line.startswith("data: ") else line

    def close(self):
        self.reply.close()
        self.connection.close()


@pytest.fixture
def listen(server):
    site, opened = Site(server), []

    def make(role="viewer", token=None):
        opened.append(Stream(site.address, token or server.tokens[role]))
        return opened[-1]

    yield make
    for one in opened:
        one.close()
    site.close()


@pytest.fixture
def school(server):
    return School(server)


def test_it_is_for_who_reads_the_numbers(server, listen):
    for role, status in (("annotator", 403), ("viewer", 200), ("service", 200), ("admin", 200)):
        assert listen(role).reply.status == status
    assert listen(token="wrong").reply.status == 401
    stream = listen()
    assert stream.reply.headers["content-type"].startswith("text/event-stream")
    assert stream.reply.headers["cache-control"] == "no-store"


def test_it_tells_what_has_changed_and_first_that_everything_may_have(server, school, listen):
    first = listen()
    assert first.event() == ALL
    server.pair("prompt")
    assert first.event() == {"votes"}
    second = listen()
    assert second.event() == ALL, "who comes later hears of everything too, and nobody else does"
    server.person("new", "viewer")  # As a script beside the server does.
    for stream in (first, second):
        assert stream.event() == {"people"}
    school.update()
    heard = set()
    while heard != {"votes", "updates"}:
        heard |= first.event()


def test_a_vote_that_is_taken_back_at_once_is_told(server, listen):
    pair = server.pair()
    server.next()
    number = server.vote(pair).json()["id"]
    stream = listen()
    assert stream.event() == ALL
    server.ask("DELETE", f"/v1/votes/{number}")
    assert stream.event() == {"votes"}


def test_all_who_listen_cost_one_look_and_nobody_none(server, listen):
    changes, looks = server.live.changes, []
    look = changes._look

    async def counted():
        looks.append(time.monotonic())
        return await look()

    changes._look = counted
    time.sleep(3 * LOOKS_EVERY)
    assert looks == []
    tokens = [server.person(f"reader {number}", "viewer") for number in range(3)]
    streams = [listen(token=token) for token in tokens for _ in range(MOST_EACH)]
    assert all(stream.event() == ALL for stream in streams)
    looks.clear()
    time.sleep(2)
    assert 1 <= len(looks) <= 2 / LOOKS_EVERY + 1
    for stream in streams:
        stream.close()
    wait(lambda: not changes._listeners)
    looks.clear()
    time.sleep(3 * LOOKS_EVERY)
    assert looks == [], "who goes away is noticed, and nobody looks for them"


def test_nobody_takes_all_places(server, listen):
    for _ in range(MOST_EACH):
        assert listen("viewer").reply.status == 200
    refused = listen("viewer")
    assert refused.reply.status == 429 and int(refused.reply.headers["retry-after"]) > 0
    assert "8 of your pages are listening already" in refused.reply.read().decode()
    assert listen("admin").reply.status == 200


def test_it_says_that_it_lives_and_ends_for_who_may_ask_no_more(server, listen, monkeypatch):
    monkeypatch.setattr(events, "ALIVE_EVERY", 0.1)
    token = server.person("reader", "viewer")
    stream, other = listen(token=token), listen("admin")
    assert stream.event() == ALL
    assert stream.event() == ": still here"
    with server.store.read() as connection:
        (number,) = [one.id for one in people.all_principals(connection) if one.name == "reader"]
    server.store.write(
        people.set_disabled, principal_id=number, disabled=True, by=None, now=server.now
    )
    server.now += 60  # It is looked up again.
    heard = []
    while (event := stream.event()) is not None:
        heard.append(event)
        assert len(heard) < 50
    assert other.event() is not None


def test_a_store_that_cannot_be_read_ends_it_and_is_logged(server, listen, caplog):
    changes = server.live.changes
    look = changes._look
    stream = listen()
    assert stream.event() == ALL

    async def broken():
        raise StateError("the disk is gone")

    changes._look = broken
    with caplog.at_level(logging.ERROR):
        assert stream.event() is None
    assert caplog.text.count("the disk is gone") == 1
    changes._look = look
    assert listen().event() == ALL


@pytest.mark.processes
def test_a_server_with_open_streams_stops_at_once(tmp_path):
    server = Running(tmp_path / "live")
    streams = [Stream(server.base, server.tokens["admin"]) for _ in range(3)]
    assert all(stream.event() == ALL for stream in streams)
    began = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 3, "requests that have an end get five seconds"
    assert all(stream.event() is None for stream in streams)
