"""Before a vote nothing tells which of two adapters gave which answer: not the side, the order in
which the store has them, what is sent, or when."""

import random
import threading
import time

import pytest
from sqlalchemy import select
from test_learning import Chain, Engine

from fastslow.feedback.schema import answers, pairs
from fastslow.serve.bodies import DEFAULT_DOMAIN
from fastslow.serve.engine.requests import Piece

COUNT = 120
LEAST, MOST = 33, 87
"""Of these by even chance: outside in less than one of a million runs."""
SLOW = 0.03
"""Seconds that one of them takes to answer."""


class Unequal(Engine):
    """An engine of which one adapter takes longer than another."""

    def __init__(self):
        super().__init__()
        self.slow, self.draw = "", random.Random(0)

    def submit(self, ask):
        threading.Thread(target=self.answer, args=(ask,)).start()

    def answer(self, ask):
        time.sleep(SLOW if ask.model == self.slow else 0.0)
        for index in range(ask.count):
            ask.tell(Piece(index, f"{self.draw.random():.18f}", (1,), (-1.0,), finish="stop"))


@pytest.fixture(params=["now", "before"])
def watched(request, make_server):
    """A server whose every pair is of what answers and of what did before, one of them slow; the
    update that answers."""
    engine = Unequal()
    server = make_server(engine=engine, watched=1.0, requests="1000000/second")
    chain = Chain(server.folder, server.store)
    made = {"before": chain.promote(DEFAULT_DOMAIN), "now": chain.promote(DEFAULT_DOMAIN)}
    engine.slow = made[request.param].adapter
    with server.client:
        yield server, made["now"]


def test_neither_sides_nor_numbers_nor_replies_tell_which_adapter_answered(watched):
    server, newest = watched
    replies, took = [], []
    for number in range(COUNT):
        began = time.perf_counter()
        body = {"prompt": f"prompt {number}", "domain": DEFAULT_DOMAIN}
        replies.append(server.ask("POST", "/v1/pairs", body))
        took.append(time.perf_counter() - began)
    assert min(took) >= SLOW, "both come in one reply, when both are there"
    shown = [reply.json() for reply in replies]
    of_pair = ("id", "domain", "messages", "a", "b", "until", "domain_by")
    of_side = ("text", "html", "truncated")
    assert {tuple(one) for one in shown} == {of_pair}
    assert {tuple(one[side]) for one in shown for side in "ab"} == {of_side}
    names = ({*reply.headers} for reply in replies)
    assert all(one == {*replies[0].headers} for one in names)
    assert not [one for one in replies if newest.adapter in one.text + str(one.headers)]
    on_the_left, stored_first = 0, 0
    with server.store.read() as connection:
        by = dict(connection.execute(select(answers.c.id, answers.c.update_id)).all())
        found = {row.id: row for row in connection.execute(select(pairs))}
    for one in shown:
        pair = found[one["id"]]
        assert {by[pair.a], by[pair.b]} == {newest.id, newest.parent}
        on_the_left += by[pair.a] == newest.id
        stored_first += by[min(pair.a, pair.b)] == newest.id
    assert LEAST < on_the_left < MOST
    assert LEAST < stored_first < MOST
