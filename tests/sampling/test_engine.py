"""An engine that answers over HTTP: what is sent, what comes back, whose module answers."""

import threading
import time
from pathlib import Path

import pytest
from loopback import chat_reply

from fastslow.config.sampling import NEUTRAL
from fastslow.errors import RefusedError, ReplyError, UnreachableError
from fastslow.records import Message
from fastslow.sampling import Engine, EngineCompletion

TALK = (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "Go on."))


def engine_at(server, **changes):
    settings = {
        "url": server.url, "model": "base-model", "plain": False, "max_concurrency": 4,
        "timeout_s": 5.0, "api_key_env": "ENGINE_KEY", "retries": 0, "extra_body": NEUTRAL,
    }  # fmt: skip
    return Engine(**settings | changes)


def ask(engine, prompts, **changes):
    settings = {"count": 2, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 32, "seed": 5}
    return engine.generate(prompts, **settings | changes)


def test_every_prompt_is_asked_as_a_conversation_and_answered_in_order(loopback, monkeypatch):
    monkeypatch.setenv("ENGINE_KEY", "secret-2")

    def echo(path, body):
        last = body["messages"][-1]["content"]
        finish = "length" if last == "Go on." else "stop"
        return 200, chat_reply([f"{last} {i}" for i in range(body["n"])], finish=finish)

    server = loopback(echo)
    answers = ask(engine_at(server), ["One?", TALK, "Two?"])
    assert answers == [
        [EngineCompletion("One? 0", False), EngineCompletion("One? 1", False)],
        [EngineCompletion("Go on. 0", True), EngineCompletion("Go on. 1", True)],
        [EngineCompletion("Two? 0", False), EngineCompletion("Two? 1", False)],
    ]
    bodies = {body["messages"][-1]["content"]: body for _, _, body in server.requests}
    assert len(bodies["Go on."]["messages"]) == 3
    for path, key, body in server.requests:
        assert (path, key) == ("/v1/chat/completions", "Bearer secret-2")
        wanted = {"model": "base-model", "n": 2, "temperature": 0.7, "top_p": 0.9, "max_tokens": 32}
        assert wanted.items() <= body.items()


def test_no_two_answers_are_drawn_on_one_seed(loopback):
    def counting_on(path, body):  # As vLLM and `fastslow serve` do for several answers.
        return 200, chat_reply([str(body["seed"] + i) for i in range(body["n"])])

    engine = engine_at(loopback(counting_on))
    drawn = [ask(engine, ["Hi"] * 8, count=4, seed=seed) for seed in (5, 6, 7)]
    seeds = [int(one.text) for answers in drawn for given in answers for one in given]
    assert len({*seeds}) == len(seeds) and 0 <= min(seeds) < max(seeds) < 2**53
    assert ask(engine, ["Hi"] * 8, count=4, seed=5) == drawn[0]


def test_plain_text_goes_as_it_stands(loopback):
    def complete(path, body):
        assert path == "/v1/completions" and body["prompt"] == "The river is"
        choices = [{"index": 0, "text": " calm", "finish_reason": "stop", "logprobs": None}]
        head = {"id": "1", "object": "text_completion", "created": 0, "model": "m"}
        return 200, head | {"choices": choices}

    answers = ask(engine_at(loopback(complete), plain=True), ["The river is"], count=1)
    assert answers == [[EngineCompletion(" calm", False)]]


def test_modules_are_loaded_by_name_and_the_one_before_is_unloaded_last(loopback, tmp_path):
    server = loopback(lambda path, body: (200, chat_reply(["a"] * body.get("n", 1))))
    engine = engine_at(server)
    for name in ("first", "second"):
        engine.load(name, tmp_path / name, rank=4)
        ask(engine, ["p"])
    engine.unload()
    ask(engine, ["p"])
    seen = [(path.removeprefix("/v1/"), body.get("lora_name") or body["model"])
            for path, _, body in server.requests]  # fmt: skip
    assert seen == [
        ("load_lora_adapter", "first"), ("chat/completions", "first"),
        ("chat/completions", "first"),
        ("load_lora_adapter", "second"), ("chat/completions", "second"),
        ("unload_lora_adapter", "first"),
        ("chat/completions", "second"), ("unload_lora_adapter", "second"),
        ("chat/completions", "base-model"),
    ]  # fmt: skip
    assert server.requests[0][2]["lora_path"] == str(tmp_path / "first")


def test_a_module_that_is_refused_or_gives_no_answer_leaves_the_one_before(loopback, tmp_path):
    refused = []

    def handle(path, body):
        if path.endswith(("/load_lora_adapter", "/chat/completions")) and (
            body.get("lora_name", body.get("model")) in refused
        ):
            return 400, {"error": {"message": "rank 32 is greater than max_lora_rank 16"}}
        return 200, chat_reply(["a"] * body.get("n", 1))

    server = loopback(handle)
    engine = engine_at(server)
    engine.load("first", tmp_path, rank=24)
    refused.append("second")
    with pytest.raises(RefusedError, match="rank 32 is greater .*--max-lora-rank 32 or more"):
        engine.load("second", tmp_path, rank=24)
    ask(engine, ["p"])
    assert server.requests[-1][2]["model"] == "first"
    assert not any(path.endswith("/unload_lora_adapter") for path, _, _ in server.requests)


def test_a_module_is_unloaded_when_its_last_answer_is_there(loopback, tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def handle(path, body):
        if "n" in body and body["model"] == "first":
            begun.set()
            assert go_on.wait(30)
        return 200, chat_reply(["a"] * body.get("n", 1))

    server = loopback(handle)
    engine = engine_at(server)
    engine.load("first", tmp_path, rank=4)
    asking = threading.Thread(target=ask, args=(engine, ["p"]))
    asking.start()
    assert begun.wait(30)
    loading = threading.Thread(target=engine.load, args=("second", tmp_path), kwargs={"rank": 4})
    loading.start()
    while sum("second" in str(body) for _, _, body in server.requests) < 2:
        time.sleep(0.01)
    assert not any("unload" in path for path, _, _ in server.requests)
    go_on.set()
    loading.join()
    asking.join()
    assert [body for path, _, body in server.requests if "unload" in path] == [
        {"lora_name": "first"}
    ]


TOLD = {
    "token_ids": [5, 6, 2],
    "logprobs": {"content": [{"token": "x", "logprob": -0.5}, {"logprob": -1}, {"logprob": -2.0}]},
}


def test_tokens_and_their_log_probs_are_taken_from_the_reply(loopback):
    def handle(path, body):
        reply = chat_reply(["a"] * body["n"])
        for choice in reply["choices"]:
            choice |= TOLD
        return 200, reply

    server = loopback(handle)
    (pair,) = ask(engine_at(server), ["p"], logps=True)
    assert pair[0] == EngineCompletion("a", False, 0, (5, 6, 2), (-0.5, -1.0, -2.0))
    assert server.requests[0][2]["logprobs"] is True
    assert server.requests[0][2]["return_token_ids"] is True


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("token_ids", "5"), ("token_ids", [1.5]), ("token_ids", [-1]), ("token_ids", [True]),
        ("logprobs", {"content": [{"logprob": "0"}]}), ("logprobs", {"token_logprobs": "x"}),
    ],
)  # fmt: skip
def test_tokens_that_are_none_are_refused(loopback, key, value):
    def handle(path, body):
        reply = chat_reply(["a"] * body["n"])
        reply["choices"][0][key] = value
        return 200, reply

    with pytest.raises(ReplyError, match=f"has {key} that are no"):
        ask(engine_at(loopback(handle)), ["p"])


def test_failures_are_tried_again_and_then_stop_with_a_word(loopback):
    left = [500, 429]

    def shaky(path, body):
        return (left.pop(), None) if left else (200, chat_reply(["a"] * body["n"]))

    server = loopback(shaky)
    assert len(ask(engine_at(server, retries=2), ["p"])[0]) == 2
    left += [500, 500]
    with pytest.raises(UnreachableError, match="cannot be reached: .*rerun the command to resume"):
        ask(engine_at(server), ["p"])
    short = loopback(lambda path, body: (200, chat_reply(["only one"])))
    with pytest.raises(UnreachableError, match="returned 1 completions instead of 2"):
        ask(engine_at(short), ["p"])
    with pytest.raises(UnreachableError, match="127.0.0.1:9"):
        engine_at(server, url="http://127.0.0.1:9/v1").load("a", Path("a"), rank=4)


PINNED = {
    "temperature": 0.7, "top_p": 0.9, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
    "repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip


def test_nothing_of_the_distribution_is_left_to_the_server(loopback):
    server = loopback(lambda path, body: (200, chat_reply(["a"] * body["n"])))
    ask(engine_at(server), ["p"])
    ask(engine_at(server, extra_body={}), ["p"])
    pinned, plain = (body for _, _, body in server.requests)
    assert PINNED.items() <= pinned.items()
    known = {"model", "messages", "n", "temperature", "top_p", "max_tokens", "seed"}
    assert set(plain) == known | {"presence_penalty", "frequency_penalty"}


@pytest.mark.parametrize("finish", ["abort", "content_filter", "tool_calls", None, 7])
def test_a_completion_that_did_not_end_by_itself_is_none(loopback, finish):
    server = loopback(lambda path, body: (200, chat_reply(["a"] * body["n"], finish=finish)))
    with pytest.raises(ReplyError, match="it must end by stop or length"):
        ask(engine_at(server), ["p"])


def test_an_engine_that_answers_with_another_module_is_found(loopback, tmp_path):
    answering = {}

    def handle(path, body):
        return 200, chat_reply(["a"] * body.get("n", 1)) | answering

    engine = engine_at(loopback(handle))
    engine.load("first", tmp_path, rank=4)
    engine.load("second", tmp_path, rank=4)
    for other in ("base-model", "first"):
        answering["model"] = other
        with pytest.raises(ReplyError, match=f"answered with {other} instead of second"):
            ask(engine, ["p"])
    answering["model"] = "second"
    assert len(ask(engine, ["p"])[0]) == 2
