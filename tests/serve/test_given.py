"""What an engine gives to whom: people rate and edit what they were given, and read no more."""

import pytest
from test_learning import Engine

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
