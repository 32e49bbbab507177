"""What an engine gives to whom: people rate and edit what they were given, and read no more."""

import asyncio
import json
import time

import pytest
from sqlalchemy import select
from test_learning import Engine

from fastslow.errors import StateError
from fastslow.feedback.schema import answers
from fastslow.records import Prompt
from fastslow.serve import answering, background
from fastslow.serve.engine.requests import Piece

ASKED = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def server(make_server):
    return make_server(engine=Engine())


def on(server, answer_id, **who):
    """What comes of a rating and an edit."""
    bodies = {"ratings": {"verdict": "up"}, "edits": {"text": "better"}}
    return [
        server.ask("POST", f"/v1/{path}", {"answer_id": answer_id, **body}, **who).status_code
        for path, body in bodies.items()
    ]


def test_nobody_reads_what_others_were_given_by_rating_or_editing_it(server):
    server.pair("private", "secret one", "secret two")
    (chat,) = server.ask("POST", "/v1/chat/completions", ASKED, role="service").json()["answer_ids"]
    for answer in (1, 2, chat):
        assert on(server, answer) == [403, 403]
    body = {"answer_id": 1, "verdict": "up"}
    said = server.ask("POST", "/v1/ratings", body).json()["error"]["message"]
    assert said == "answer 1 was not given to you"
    assert server.ask("GET", "/v1/votes").json()["votes"] == []


def test_answers_are_rated_and_edited_by_whom_they_were_given_to(server):
    (asked,) = server.ask("POST", "/v1/chat/completions", ASKED).json()["answer_ids"]
    assert on(server, asked) == [202, 202]
    stream = server.ask("POST", "/v1/chat/completions", {**ASKED, "stream": True})
    assert '"answer_ids": [2]' in stream.text and on(server, 2) == [202, 202]
    server.pair("of a service")
    assert on(server, 3) == [403, 403]
    assert len(server.next()) == 1
    assert on(server, 3) == on(server, 4) == [202, 202]
    assert on(server, 5) == [404, 404]
    other = server.person("other", "annotator")
    assert on(server, asked, token=other) == [403, 403]


@pytest.mark.parametrize("role", ["service", "admin"])
def test_who_may_read_everything_rates_and_edits_for_others(server, role):
    (asked,) = server.ask("POST", "/v1/chat/completions", ASKED).json()["answer_ids"]
    assert on(server, asked, role=role) == [202, 202]


def test_several_reviewers_are_for_admins_and_services(server):
    for role, status in (("annotator", 403), ("service", 201), ("admin", 201)):
        reply = server.ask("POST", "/v1/pairs", {"prompt": role, "needs": 2}, role=role)
        assert reply.status_code == status, reply.text
    assert server.ask("POST", "/v1/pairs", {"prompt": "Hi", "needs": 1}).status_code == 201


UNKEPT = (
    [{"role": "user", "content": " "}],
    [*ASKED["messages"], {"role": "assistant", "content": "y"}],
)


@pytest.mark.parametrize("messages", UNKEPT)
@pytest.mark.parametrize(
    ("path", "facts"),
    [("chat/completions", {"stream": True}), ("chat/completions", {}), ("pairs", {})],
)
def test_what_could_not_be_kept_is_refused_before_anything_answers(
    server, monkeypatch, path, facts, messages
):
    monkeypatch.setattr(Engine, "submit", lambda *_: pytest.fail("it was asked"))
    reply = server.ask("POST", f"/v1/{path}", {"messages": messages, **facts})
    assert reply.status_code == 422 and "must end with a non-empty user message" in reply.text


def test_a_stream_whose_answer_cannot_be_kept_ends_with_an_error(server, monkeypatch):
    async def fails(*_, **__):
        raise StateError("the disk is full")

    monkeypatch.setattr(server.live, "write", fails)
    text = server.ask("POST", "/v1/chat/completions", {**ASKED, "stream": True}).text
    last = json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["message"] == "the disk is full"


class Repeating(Engine):
    """Says the same some times."""

    def __init__(self, times):
        super().__init__()
        self.times, self.asked = times, 0

    def submit(self, ask):
        self.asked += 1
        for index in range(ask.count):
            said = "same" if self.asked <= self.times else f"other {index}"
            ask.tell(Piece(index, said, (1,), (-1.0,), finish="stop"))


def test_two_answers_that_are_the_same_are_asked_for_again(server):
    server.live.engine = Repeating(1)
    shown = server.ask("POST", "/v1/pairs", {"prompt": "Hi"}).json()
    assert {shown["a"]["text"], shown["b"]["text"]} == {"other 0", "other 1"}


def test_what_is_always_answered_the_same_is_put_up_for_no_comparison(server, caplog):
    engine = server.live.engine = Repeating(1000)
    reply = server.ask("POST", "/v1/pairs", {"prompt": "Hi"})
    assert reply.status_code == 409 and "the same answer" in reply.text
    assert engine.asked == answering.DRAWS and server.next() == []
    server.live.prompts = [Prompt(prompt="Hi", domain="talk")]
    asyncio.run(background.make_pairs(server.live))
    assert "the same answer" in caplog.text and "Hi" not in caplog.text
    assert server.live.prompts and server.next() == []


class Odd(Engine):
    """An engine that says what no store can hold."""

    def submit(self, ask):
        for index in range(ask.count):
            ask.tell(
                Piece(index, f"half \ud83d, nothing \0, {index}", (1,), (-1.0,), finish="stop")
            )


def test_what_cannot_be_kept_is_not_said_either(make_server):
    server = make_server(engine=Odd())
    said = server.ask("POST", "/v1/chat/completions", ASKED)
    assert said.json()["choices"][0]["message"]["content"] == "half \ufffd, nothing \ufffd, 0"
    stream = server.ask("POST", "/v1/chat/completions", {**ASKED, "stream": True}).text
    assert "[DONE]" in stream and "\\ud83d" not in stream and "\\u0000" not in stream
    with server.store.read() as connection:
        assert {*connection.scalars(select(answers.c.text))} == {"half \ufffd, nothing \ufffd, 0"}


def test_background_work_goes_on_after_any_error(make_server, monkeypatch, caplog):
    server, calls = make_server(admit_every=0.01), []

    async def admit(live):
        calls.append(1)
        if len(calls) == 1:
            raise OSError(24, "Too many open files")

    monkeypatch.setattr(background, "admit", admit)
    with server.client:
        deadline = time.monotonic() + 20
        while len(calls) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(calls) >= 3 and "Too many open files" in caplog.text
