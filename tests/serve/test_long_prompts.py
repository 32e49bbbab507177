"""Prompts and answers of any length: nothing is cut silently, and memory for them is bounded."""

import asyncio
import random
import time
from dataclasses import replace

import families
import pytest
import tiny
from asking import begin, pieces_of
from sqlalchemy import select

from fastslow.adapters import load_tokenizer
from fastslow.config import load_recipe
from fastslow.feedback import items
from fastslow.feedback.schema import answers
from fastslow.records import Message, Prompt
from fastslow.serve import background
from fastslow.serve.engine import embedded
from fastslow.serve.engine.decoding import Group
from fastslow.serve.engine.embedded import EmbeddedEngine
from fastslow.serve.engine.requests import TooLong, whole
from fastslow.serve.engine.wire import error_line, error_of
from fastslow.training.policies.loading import make_encoder

CONTEXT = tiny.SIZES["max_position_embeddings"]
LEARNED = 64
"""Tokens of a row that the learner reads, which are fewer."""


@pytest.fixture(scope="module")
def recipe(model_folder):
    return load_recipe({"model": str(model_folder), "data": {"max_length": LEARNED}})


@pytest.fixture(scope="module")
def long_text(recipe):
    """A text by its number of tokens, as a prompt in the template."""
    encoder = make_encoder(recipe, load_tokenizer(recipe.model))
    frame = encoder.prompt_length(Prompt(prompt=(Message("user", "z"),))) - 1

    def make(tokens):
        text = "z" * (tokens - frame)
        assert encoder.prompt_length(Prompt(prompt=(Message("user", text),))) == tokens
        return text

    return make


@pytest.fixture
def engine(recipe):
    made = EmbeddedEngine(recipe, slots=1, max_rank=2)
    yield made
    made.close()


@pytest.fixture
def server(make_server, engine):
    return make_server(engine=engine)


def tokens_of(engine, text, **facts):
    """What was read, and how many tokens were answered with which end."""
    pieces = pieces_of(begin(engine, text, seed=1, temperature=2.0, **facts)[1])
    (answer,) = whole(pieces, 1)
    return pieces[-1].prompt_tokens, len(answer.token_ids), answer.finish


@pytest.mark.parametrize("tokens", [LEARNED + 30, CONTEXT - 3, CONTEXT - 1])
def test_a_prompt_is_read_whole_and_the_answer_takes_what_it_leaves(engine, long_text, tokens):
    """Also where a client asks for more than the model can read, as many do."""
    for asked in ({"max_tokens": 2048}, {}):
        read, made, finish = tokens_of(engine, long_text(tokens), **asked)
        assert read == tokens
        assert made <= CONTEXT - tokens and (finish == "stop" or made == CONTEXT - tokens)


@pytest.mark.parametrize("tokens", [CONTEXT, CONTEXT + 100])
def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(engine, long_text, tokens):
    said = f"the prompt has {tokens} tokens.*at most {CONTEXT - 1} .*share {CONTEXT};"
    with pytest.raises(TooLong, match=said):
        begin(engine, long_text(tokens), max_tokens=1)
    assert tokens_of(engine, "Hi", max_tokens=2)[1] <= 2


@pytest.mark.parametrize(
    ("path", "facts"),
    [("/v1/chat/completions", {}), ("/v1/chat/completions", {"stream": True}), ("/v1/pairs", {})],
)
def test_a_client_is_told_of_it_as_of_any_bad_request(server, long_text, path, facts):
    turns = [{"role": "user", "content": long_text(CONTEXT)}]
    reply = server.ask("POST", path, {"messages": turns, **facts})
    assert reply.status_code == 400
    assert f"{CONTEXT} tokens" in reply.json()["error"]["message"]
    with server.store.read() as connection:
        assert connection.execute(select(answers)).all() == []


def test_what_is_too_long_is_still_so_from_the_engines_process():
    assert type(error_of(error_line(TooLong("long")))) is TooLong


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_either_name_of_the_limit_is_understood_beyond_any_context(server, name):
    body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 2, "seed": 1}
    reply = server.ask("POST", "/v1/chat/completions", {**body, name: 3})
    assert reply.json()["usage"]["completion_tokens"] <= 3
    reply = server.ask("POST", "/v1/chat/completions", {**body, name: 200_000})
    assert reply.status_code == 200
    assert reply.json()["usage"]["total_tokens"] <= CONTEXT


def test_what_nobody_limits_ends_where_the_server_says_chats_and_pairs_alike(make_server, engine):
    server = make_server(answer_tokens=5)
    server.live.engine = engine
    turns = {"messages": [{"role": "user", "content": "Hi"}]}
    reply = server.ask("POST", "/v1/chat/completions", {**turns, "n": 8, "seed": 1})
    reply = reply.json()
    assert {one["finish_reason"] for one in reply["choices"]} >= {"length"}
    assert reply["usage"]["completion_tokens"] <= 8 * 5
    pairs = [server.ask("POST", "/v1/pairs", turns).json() for _ in range(4)]
    with server.store.read() as connection:
        kept = {row.text: row for row in connection.execute(select(answers))}
    for side in (pair[name] for pair in pairs for name in "ab"):
        row = kept[side["text"]]
        assert side["truncated"] == (row.finish == "length") == (row.token_ids[-1] != 2)
        assert len(row.token_ids) <= 5
    assert any(pair[name]["truncated"] for pair in pairs for name in "ab")


def test_prompts_that_are_too_long_are_left_out_once_and_pairs_are_made_of_the_others(
    make_server, engine, long_text, caplog
):
    server = make_server(pairs_ahead=3)
    server.live.engine = engine
    good, bad = Prompt(prompt="Hi"), Prompt(prompt=long_text(CONTEXT), source="long.jsonl:7")
    server.live.prompts = [bad, good]
    server.live.draw = random.Random(0)
    asyncio.run(background.make_pairs(server.live))
    assert server.live.prompts == [good]
    assert caplog.text.count("long.jsonl:7") == 1 and f"{CONTEXT} tokens" in caplog.text
    with server.store.read() as connection:
        assert items.new_pairs(connection, most=9) == 3
    server.live.prompts = [bad]
    server.live.settings = replace(server.live.settings, pairs_ahead=9)
    asyncio.run(background.make_pairs(server.live))
    assert server.live.prompts == []


def test_what_is_decoded_at_a_time_is_bounded_in_tokens(recipe, long_text, monkeypatch):
    """Rows filled up to the longest, each with its longest answer; one that is alone may begin."""
    begun, step = [], Group.step

    def seen(model, rows, *, pad_id):
        begun.append([len(row.prompt) for row in rows])
        return Group(model, rows, pad_id=pad_id)

    def slow(group):
        time.sleep(0.02)  # So that what is asked for next waits for what is decoded.
        step(group)

    monkeypatch.setattr(embedded, "Group", seen)
    monkeypatch.setattr(Group, "step", slow)
    monkeypatch.setattr(embedded, "MOST_ROWS", 5)  # 320 tokens.
    engine = EmbeddedEngine(recipe, slots=1, max_rank=2)
    try:
        asked = [(long_text(200), 2), ("Hi", 2), (long_text(200), 1), (long_text(210), 1)]
        got = [
            begin(engine, text, count=count, max_tokens=20, seed=1, temperature=2.0)[1]
            for text, count in asked
        ]
        counts = [count for _, count in asked]
        found = [
            whole(pieces_of(one, count), count) for one, count in zip(got, counts, strict=True)
        ]
    finally:
        engine.close()
    assert all(answer.token_ids for own in found for answer in own)
    short = len(begun[1]) == 2 and begun[1][0]
    assert begun == [[200, 200], [short, short], [200], [210]], "440 tokens begin alone only"


def test_a_context_that_stretches_positions_is_used_as_far_as_they_are_the_same(tmp_path):
    """Below the length from which they are stretched such a model answers as it is scored."""
    families.model("phi3").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    recipe = load_recipe({"model": str(tmp_path), "data": {"max_length": 30}})
    engine = EmbeddedEngine(recipe, slots=1, max_rank=2)
    try:
        with pytest.raises(TooLong, match="share 30;"):
            begin(engine, "z" * 40)
    finally:
        engine.close()
