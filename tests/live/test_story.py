"""The live demo's story, told against a server that is made up: who acts when, and what is said."""

import itertools
import math
import random
import socket
from collections import Counter

import pytest

from fastslow.errors import StateError
from fastslow.live.demo import person as person_module
from fastslow.live.demo import story as story_module
from fastslow.live.demo.person import Gone, Person
from fastslow.live.demo.story import LEARNED, MOST_SPOILT, MOST_UPDATES, PEOPLE, SPOILERS, Story
from fastslow.streams.worlds import World

PER_UPDATE = 60
"""So many that rounds of all people, and of those who spoil, end with it."""
UPDATES = math.ceil(LEARNED / PER_UPDATE)
"""Until enough votes are learned."""


class Server:
    """Hands out pairs, `scarce` of them between two looks at its updates, and makes an update of
    every PER_UPDATE things that people sent; after `slow` of these its answers are better."""

    def __init__(self, world, verdicts, slow, scarce):
        self.world, self.verdicts, self.slow = world, iter(verdicts), slow
        self.scarce = self.left = scarce
        self.numbers = itertools.count(1)
        self.sent, self.made, self.undone = [], [], []

    def pair(self):
        (prompt, *_) = self.world.prompts("reviews")
        said = [self.world.answer(prompt, random.Random(seed)) for seed in range(40)]
        said.sort(key=lambda text: self.world.reward(prompt, text))
        second, first = (said[30], said[-1]) if len(self.made) >= self.slow else (said[0], said[10])
        return {
            "id": next(self.numbers),
            "messages": [{"role": "user", "content": prompt}],
            **{side: {"text": text} for side, text in zip("ab", (first, second), strict=True)},
        }

    def take(self, *what):
        self.sent.append(what)
        if len(self.sent) % PER_UPDATE:
            return
        state = next(self.verdicts)
        checks = [{"name": "phrases", "passed": state == "promoted", "said": "too often"}]
        gate = {"checks": checks, "learned": {"rows": PER_UPDATE}}
        self.made.insert(0, {"id": len(self.made) + 1, "state": state, "gate": gate})


class Someone:
    def __init__(self, server, name="admin"):
        self.server, self.name = server, name

    def newcomer(self, name):
        return Someone(self.server, name)

    def close(self):
        self.server = None

    def pairs(self, count):
        count = min(count, self.server.left)
        self.server.left -= count
        return [self.server.pair() for _ in range(count)]

    def vote(self, pair, verdict):
        self.server.take(self.name, verdict)

    def updates(self):
        self.server.left = self.server.scarce
        return self.server.made

    def discard(self, number):
        self.server.discarded = number

    def roll_back(self, number):
        self.server.undone.append(number)
        return {"update_id": number - 1 or None}


def told(verdicts, monkeypatch, slow=1, scarce=1000):
    world, lines = World(0, num_domains=1), []
    server = Server(world, verdicts, slow, scarce)
    monkeypatch.setattr(story_module, "LOOKS_EVERY", 0.0)
    Story(Someone(server), world, "reviews", 0, lines.append).run()
    return server, lines


def test_honest_votes_then_spoilt_ones_which_are_set_aside_and_a_rollback(monkeypatch):
    server, lines = told(["promoted"] * UPDATES + ["waiting"], monkeypatch)
    votes, spoilt = server.sent[:-PER_UPDATE], server.sent[-PER_UPDATE:]
    assert len(votes) == UPDATES * PER_UPDATE
    liked = sum(verdict == "a" for _, verdict in votes)
    assert 0.6 * len(votes) < liked < len(votes), "by taste, and with noise"
    assert {verdict for _, verdict in spoilt} == {"b"}
    assert len({name for name, _ in spoilt}) == SPOILERS
    assert server.undone == [UPDATES] and server.discarded == UPDATES + 1
    assert f"update {UPDATES + 1} waits for the admin: phrases: too often" in lines[-3]
    assert f"rolls back update {UPDATES}: update {UPDATES - 1} answers" in lines[-1]


@pytest.mark.parametrize(("slow", "updates"), [(7, 8), (math.inf, MOST_UPDATES)])
def test_people_turn_when_the_answers_are_better_or_never_will_be(monkeypatch, slow, updates):
    server, lines = told(["promoted"] * updates + ["waiting"], monkeypatch, slow)
    assert server.undone == [updates] and server.discarded == updates + 1
    assert sum("now answers" in line for line in lines) == updates


def test_scarce_pairs_are_voted_on_by_everybody(monkeypatch):
    """Nobody has more than twice an equal share of an update."""
    server, _ = told(["promoted"] * UPDATES + ["waiting"], monkeypatch, scarce=3)
    for part, people in (
        (server.sent[:-PER_UPDATE], PEOPLE),
        (server.sent[-PER_UPDATE:], SPOILERS),
    ):
        counts = Counter(name for name, _ in part)
        assert len(counts) == people and max(counts.values()) <= 1.5 * len(part) / people


def test_updates_that_are_not_promoted_teach_nothing(monkeypatch):
    server, _ = told(
        ["promoted", "quarantined"] + ["promoted"] * (UPDATES - 1) + ["waiting"], monkeypatch
    )
    assert server.discarded == UPDATES + 2


def test_what_spoilers_got_through_is_what_is_rolled_back(monkeypatch):
    server, _ = told(["promoted"] * (UPDATES + 2) + ["quarantined"], monkeypatch)
    assert server.undone == [UPDATES + 1]


def test_where_nothing_stops_them_the_admin_does(monkeypatch):
    server, lines = told(["promoted"] * (UPDATES + MOST_SPOILT), monkeypatch)
    back = f"rolls back updates {UPDATES + 1} to {UPDATES + MOST_SPOILT}:"
    assert server.undone == [UPDATES + 1] and back in lines[-1]


def test_where_nothing_is_learned_it_ends(monkeypatch):
    monkeypatch.setattr(story_module, "PATIENCE", 0.0)
    with pytest.raises(StateError, match="nothing was learned for 0 seconds"):
        told(["promoted"], monkeypatch)


def test_a_server_that_has_been_stopped_is_told_from_one_that_fails(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Gone, match="/v1/updates: the server does not answer"):
        Person(f"http://127.0.0.1:{port}", "token").updates()
    monkeypatch.setattr(person_module, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        asks = Person(f"http://127.0.0.1:{mute.getsockname()[1]}", "token")
        with pytest.raises(StateError, match="within 0.2 s") as caught:
            asks.updates()
    assert not isinstance(caught.value, Gone)
