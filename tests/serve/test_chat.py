"""Answers over OpenAI's protocol, with the real client; pairs that the engine makes."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import uvicorn
from local_processes import until
from sqlalchemy import select

from fastslow.config import load_recipe
from fastslow.feedback.schema import answers
from fastslow.records import Prompt
from fastslow.serve.engine import embedded
from fastslow.serve.engine.decoding import Group
from fastslow.serve.engine.embedded import EmbeddedEngine

HI = [{"role": "user", "content": "Hi there"}]


@pytest.fixture(scope="module")
def engine(model_folder):
    recipe = load_recipe({"model": str(model_folder), "data": {"max_length": 128}})
    made = EmbeddedEngine(recipe, slots=1, max_rank=2)
    yield made
    made.close()


@pytest.fixture
def server(make_server, engine):
    return make_server(engine=engine)


@pytest.fixture
def client(server):
    running = uvicorn.Server(uvicorn.Config(server.app, port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield openai.OpenAI(
        base_url=f"http://localhost:{port}/v1", api_key=server.tokens["annotator"], max_retries=0
    )
    running.should_exit = True
    thread.join()


def chat(client, **facts):
    return client.chat.completions.create(model="base", messages=HI, max_tokens=12, **facts)


def test_a_stream_says_what_the_whole_reply_says(client):
    whole = chat(client, seed=3, logprobs=True)
    (choice,) = whole.choices
    events = list(chat(client, seed=3, stream=True, stream_options={"include_usage": True}))
    deltas = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(deltas) == choice.message.content and len(deltas) > 3
    assert events[-1].usage == whole.usage
    assert whole.usage.completion_tokens == len(choice.logprobs.content)
    assert all(one.logprob <= 0 for one in choice.logprobs.content)
    finishes = [one.choices[0].finish_reason for one in events if one.choices]
    assert finishes[-1] == choice.finish_reason and set(finishes[:-1]) == {None}


def test_several_answers_stream_side_by_side(client):
    whole = chat(client, seed=3, n=3)
    said = ["", "", ""]
    for event in chat(client, seed=3, n=3, stream=True):
        for choice in event.choices:
            said[choice.index] += choice.delta.content or ""
    assert said == [choice.message.content for choice in whole.choices]


def test_answers_are_kept_with_how_they_were_made(client, server):
    reply = chat(client, seed=3, temperature=0.5, n=2)
    with server.store.read() as connection:
        rows = connection.execute(select(answers).order_by(answers.c.id)).all()
    assert [row.id for row in rows] == reply.answer_ids
    assert [row.text for row in rows] == [choice.message.content for choice in reply.choices]
    assert [row.seed for row in rows] == [3, 4] and rows[0].params["temperature"] == 0.5
    assert rows[0].model == "base" and rows[0].logp_sum < 0 and rows[0].token_ids
    body = {"answer_id": reply.answer_ids[0], "verdict": "up"}
    assert server.ask("POST", "/v1/ratings", body).status_code == 202


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["base"]


@pytest.mark.parametrize(
    ("facts", "error", "said"),
    [
        ({"model": "other"}, openai.NotFoundError, "no model 'other'"),
        ({"temperature": 3}, openai.UnprocessableEntityError, "temperature"),
        ({"tools": []}, openai.UnprocessableEntityError, "tools: Extra"),
        ({"n": 100}, openai.UnprocessableEntityError, "n: "),
        ({"messages": []}, openai.UnprocessableEntityError, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_answered_is_one_error(client, facts, error, said, stream):
    with pytest.raises(error, match=said):
        client.chat.completions.create(**{"model": "base", "messages": HI, **facts}, stream=stream)


@pytest.fixture
def steps(monkeypatch):
    """When each token was begun; each takes a while."""
    begun, step = [], Group.step

    def slow(group):
        begun.append(time.monotonic())
        time.sleep(0.1)
        step(group)

    monkeypatch.setattr(Group, "step", slow)
    return begun


def ends_within_two_tokens(engine, steps):
    """The engine decodes nothing more, and has begun two tokens since now at most."""
    left = time.monotonic()
    deadline = left + 20
    while engine._rows.total() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine._rows.total() == 0
    assert sum(at > left for at in steps) <= 2


def test_a_client_that_leaves_a_stream_stops_the_answer(client, engine, steps):
    stream = client.chat.completions.create(
        model="base", messages=HI, max_tokens=120, stream=True, n=4, seed=1, temperature=2
    )
    next(iter(stream))
    stream.close()
    ends_within_two_tokens(engine, steps)


@pytest.mark.parametrize("path", ["/chat/completions", "/pairs"])
def test_a_client_that_leaves_a_whole_reply_stops_the_answer(client, server, engine, steps, path):
    """Nothing is kept of it."""
    body = {"messages": HI}
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).post(path, body=body, cast_to=object)
    ends_within_two_tokens(engine, steps)
    with server.store.read() as connection:
        assert connection.execute(select(answers)).all() == []


def test_a_full_queue_answers_429_and_those_in_it_are_answered(client, engine, steps, monkeypatch):
    monkeypatch.setattr(embedded, "MOST_ROWS", 2)
    monkeypatch.setattr(embedded, "MOST_WAITING", 2)
    with ThreadPoolExecutor() as pool:
        streams = [pool.submit(lambda: list(chat(client, stream=True))) for _ in range(4)]
        until(lambda: engine._rows.total() == 4)
        for facts in ({}, {"stream": True}):
            with pytest.raises(openai.RateLimitError, match="too many answers") as refused:
                chat(client, **facts)
            assert refused.value.response.headers["retry-after"] == "2"
    finishes = [stream.result()[-2].choices[0].finish_reason for stream in streams]
    assert set(finishes) <= {"stop", "length"}
    assert chat(client).choices


def test_a_prompt_becomes_a_pair_for_who_asked(server):
    made = server.ask("POST", "/v1/pairs", {"prompt": "Hi", "domain": "talk"})
    assert made.status_code == 201
    shown = made.json()
    assert set(shown) == {"id", "domain", "domain_by", "messages", "a", "b", "until"}
    assert server.vote(shown["id"], "a").status_code == 202
    other = server.person("other", "annotator")
    assert server.next(token=other) == []


@pytest.mark.parametrize("verdict", ["a", "skip"])
def test_the_engine_sees_to_pairs_where_there_are_prompts(make_server, engine, verdict):
    server = make_server(pairs_ahead=3, admit_every=0.05)
    server.live.engine, server.live.prompts = engine, [Prompt(prompt="Hi", domain="talk")]
    with server.client:
        deadline = time.monotonic() + 30
        while len(found := server.next()) < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(5):
            (shown,) = server.next()
            assert shown["domain"] == "talk"
            server.vote(shown["id"], verdict)
            while not server.next() and time.monotonic() < deadline:
                time.sleep(0.05)
    assert found


def test_a_busy_engine_says_when_to_come_again(server, monkeypatch):
    monkeypatch.setattr(embedded, "MOST_ROWS", 0)
    monkeypatch.setattr(embedded, "MOST_WAITING", 0)
    reply = server.ask("POST", "/v1/chat/completions", {"messages": HI})
    assert reply.status_code == 429 and reply.headers["retry-after"] == "2"


def test_neither_prompts_nor_answers_are_logged(client, server, monkeypatch, caplog):
    """Also where the engine fails, and the log has to say so."""
    caplog.set_level(logging.DEBUG)
    secret = "a prompt that nobody else should read"
    asked = {"model": "base", "messages": [{"role": "user", "content": secret}], "max_tokens": 8}
    said = client.chat.completions.create(**asked, seed=1).choices[0].message.content
    list(client.chat.completions.create(**asked, stream=True))
    server.ask("POST", "/v1/pairs", {"prompt": secret})

    def fails(group):
        raise RuntimeError("it broke")

    monkeypatch.setattr(Group, "step", fails)
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(**asked)
    until(lambda: "it broke" in caplog.text)
    clients = ("httpx", "httpcore", "openai", "asyncio")
    ours = [
        logging.Formatter().format(one)
        for one in caplog.records
        if not one.name.startswith(clients)
    ]
    for text in (secret, said, *server.tokens.values()):
        assert not any(text in line for line in [*ours, str(failed.value)])


def test_without_an_engine_it_says_how_to_have_one(make_server):
    server = make_server()
    reply = server.ask("POST", "/v1/chat/completions", {"messages": HI})
    assert reply.status_code == 409 and "model=path" in reply.text
    assert server.ask("GET", "/v1/models").json()["data"] == []
