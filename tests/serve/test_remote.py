"""An engine behind a URL: what it is asked, what is made of its replies, in which order adapters
come and go. `tests/real_vllm` asks a real one."""

import json
import threading

import httpx2
import pytest
from asking import begin, pieces_of

from fastslow.errors import ConfigError, StateError
from fastslow.feedback import Malformed
from fastslow.serve.engine import remote
from fastslow.serve.engine.remote import RemoteEngine
from fastslow.serve.engine.requests import BASE, Busy, TooLong, UnknownModel, whole

URL = "http://engine/v1"


class There:
    """What an engine does: holds models, and streams a reply that a test sets."""

    def __init__(self):
        self.models, self.seen, self.status, self.refused = {"big": None}, [], 200, None
        self.is_late = False
        """Another server has an adapter loaded between a look at the models and the request."""
        self.go_on = threading.Event()
        self.go_on.set()
        self.chunks = [chunk("Sure", 7), chunk(" thing", 8), chunk("", 2, finish="stop"), USAGE]

    def handle(self, request):
        path = request.url.path.removeprefix("/v1")
        body = json.loads(request.content) if request.content else {}
        self.seen.append((path, body))
        if path == "/models":
            listed = [{"id": name, "parent": parent} for name, parent in self.models.items()]
            return httpx2.Response(200, json={"data": listed})
        if path == self.refused:
            return httpx2.Response(500, json={"error": {"message": "LoRA rank 48 is too large"}})
        if path == "/load_lora_adapter":
            if body["lora_name"] in self.models or self.is_late:
                self.models[body["lora_name"]] = "big"
                return httpx2.Response(400, json={"message": "has already been loaded"})
            self.models[body["lora_name"]] = "big"
        if path == "/unload_lora_adapter":
            del self.models[body["lora_name"]]
        if body.get("model", "big") not in self.models:
            return httpx2.Response(404, json={"error": {"message": "there is no such model"}})
        if not body.get("stream"):
            return httpx2.Response(200, json={})
        if self.status != 200:
            return httpx2.Response(self.status, json={"error": {"message": "it says why"}})
        return httpx2.Response(200, content=self.events())

    def events(self):
        for one in self.chunks:
            yield f"data: {json.dumps(one)}\n\n".encode()
            assert self.go_on.wait(30)
        yield b"data: [DONE]\n\n"

    def paths(self):
        return [
            (path.strip("/"), body.get("lora_name") or body.get("model", ""))
            for path, body in self.seen
        ]


def chunk(text, token, *, index=0, finish=None):
    content = [{"token": text or "<end>", "logprob": -0.5, "bytes": [], "top_logprobs": []}]
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return {"choices": [choice | {"logprobs": {"content": content}, "token_ids": [token]}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}


@pytest.fixture
def there():
    return There()


@pytest.fixture
def engine(there):
    made = RemoteEngine(URL, key="secret", transport=httpx2.MockTransport(there.handle))
    yield made
    there.go_on.set()
    made.close()


@pytest.fixture
def adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"r": 48}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_pieces_come_as_the_engine_tells_them_with_tokens_and_log_probs(engine, there):
    _, got = begin(engine, seed=4, temperature=0.5, top_p=0.9, stop=("END",), max_tokens=9)
    pieces = pieces_of(got)
    (answer,) = whole(pieces, 1)
    assert answer == whole(pieces, 1)[0] and answer.text == "Sure thing"
    assert (answer.token_ids, answer.logps, answer.finish) == ((7, 8, 2), (-0.5,) * 3, "stop")
    assert pieces[-1].prompt_tokens == 5
    assert [engine.token_text(token) for token in (7, 2, 999)] == ["Sure", "<end>", ""]
    wanted = {
        "model": "big", "n": 1, "seed": 4, "temperature": 0.5, "top_p": 0.9, "stop": ["END"],
        "max_tokens": 9, "top_k": -1, "repetition_penalty": 1.0, "return_token_ids": True,
    }  # fmt: skip
    assert wanted.items() <= there.seen[-1][1].items()
    begin(engine)[1].get(timeout=30)
    assert not {"seed", "stop", "chat_template_kwargs"} & there.seen[-1][1].keys()


def test_the_template_is_given_what_the_learner_gives_it(there):
    settings = {"enable_thinking": False}
    engine = RemoteEngine(
        URL, template_settings=settings, transport=httpx2.MockTransport(there.handle)
    )
    begin(engine)[1].get(timeout=30)
    assert there.seen[-1][1]["chat_template_kwargs"] == settings
    engine.close()


def test_answers_of_an_engine_that_says_no_tokens_are_text_alone(engine, there):
    for one in there.chunks[:-1]:
        del one["choices"][0]["token_ids"]
    (answer,) = whole(pieces_of(begin(engine)[1]), 1)
    assert (answer.text, answer.token_ids, answer.logps) == ("Sure thing", (), ())


def test_an_adapter_is_offered_once_it_answers_and_unloaded_after_its_last_answer(
    engine, there, adapter
):
    engine.load("a-1", adapter)
    assert engine.models == {BASE: None, "a-1": engine.models["a-1"]}
    assert there.paths()[2:] == [("load_lora_adapter", "a-1"), ("chat/completions", "a-1")]
    there.go_on.clear()
    _, got = begin(engine, model="a-1")
    assert got.get(timeout=30).text == "Sure"
    leaving = threading.Thread(target=engine.unload, args=("a-1",))
    leaving.start()
    while "a-1" in engine.models:
        pass
    with pytest.raises(UnknownModel):
        begin(engine, model="a-1")
    assert ("unload_lora_adapter", "a-1") not in there.paths() and "a-1" in there.models
    there.go_on.set()
    leaving.join(30)
    assert pieces_of(got)[-1].finish == "stop"
    assert there.paths()[-1] == ("unload_lora_adapter", "a-1")


def test_what_the_engine_refuses_or_does_not_answer_with_is_not_offered(engine, there, adapter):
    there.refused = "/load_lora_adapter"
    with pytest.raises(StateError, match="rank 48 is too large.*rank 48: vLLM needs"):
        engine.load("a-1", adapter)
    there.refused = "/chat/completions"
    with pytest.raises(StateError, match="refuses /chat/completions"):
        engine.load("a-1", adapter)
    assert list(engine.models) == [BASE] and list(there.models) == ["big"]


def test_an_adapter_that_is_there_already_is_not_loaded_and_goes_with_the_last_that_offers_it(
    engine, there, adapter
):
    there.models["a-1"] = "big"
    engine.load("a-1", adapter)
    assert ("load_lora_adapter", "a-1") not in there.paths()
    engine.close()
    assert list(there.models) == ["big"]


def test_an_adapter_that_another_server_loads_at_the_same_time_is_taken(
    engine, there, adapter, monkeypatch
):
    monkeypatch.setattr(there, "is_late", True)
    engine.load("a-1", adapter)
    assert ("load_lora_adapter", "a-1") in there.paths() and "a-1" in engine.models


def test_what_an_engine_has_lost_is_loaded_again_when_it_is_asked(engine, there, adapter):
    engine.load("a-1", adapter)
    del there.models["a-1"]
    (answer,) = whole(pieces_of(begin(engine, model="a-1")[1]), 1)
    assert answer.text == "Sure thing" and "a-1" in there.models
    del there.models["a-1"]
    (adapter / "adapter_config.json").write_text('{"r": 64}')
    there.refused = "/load_lora_adapter"
    with pytest.raises(StateError, match="rank 48 is too large"):
        pieces_of(begin(engine, model="a-1")[1])


def test_who_stops_listening_ends_the_answer(engine, there):
    there.go_on.clear()
    request, got = begin(engine, count=2)
    got.get(timeout=30)
    request.cancel()
    there.go_on.set()
    finished = [piece.finish for piece in pieces_of(got, 2) if piece.finish]
    assert finished == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("status", "kind"), [(429, Busy), (404, UnknownModel), (400, Malformed), (502, StateError)]
)
def test_a_refusal_is_told_as_what_it_is(engine, there, status, kind):
    there.status = status
    with pytest.raises(kind, match="it says why"):
        pieces_of(begin(engine)[1])


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([chunk("Sure", 7)], "ended its reply too early"),
        ([{"error": {"message": "out of memory"}}], "out of memory"),
        ([{"odd": 1}], "reply is invalid"),
        ([chunk("x", 7, finish="abort")], "ended an answer by 'abort'"),
        ([{"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}], "tool_calls"),
    ],
)
def test_a_reply_that_is_none_is_an_error(engine, there, chunks, message):
    there.chunks = chunks
    with pytest.raises(StateError, match=message):
        pieces_of(begin(engine)[1])


CONTEXT = 100


class Bounded(There):
    """Refuses a prompt that leaves less than it is asked for, as vLLM does."""

    def __init__(self, prompt):
        super().__init__()
        self.prompt, self.limits = prompt, []

    def handle(self, request):
        body = json.loads(request.content) if request.content else {}
        if body.get("stream"):
            self.limits.append(body.get("max_tokens"))
            if self.prompt + body.get("max_tokens", 1) > CONTEXT:
                why = f"This model's maximum context length is {CONTEXT} tokens"
                return httpx2.Response(400, json={"error": {"message": why}})
        return super().handle(request)


def test_an_answer_takes_what_the_prompt_leaves_and_a_prompt_that_leaves_nothing_is_too_long():
    """Asked without a limit, the engine answers up to its context, which is nearer."""
    for prompt, limits in ((60, [40]), (61, [40, None]), (100, [40, None])):
        there = Bounded(prompt)
        engine = RemoteEngine(URL, transport=httpx2.MockTransport(there.handle))
        _, got = begin(engine, max_tokens=40)
        if prompt < CONTEXT:
            assert whole(pieces_of(got), 1)[0].text == "Sure thing"
        else:
            with pytest.raises(TooLong, match="maximum context length is 100"):
                pieces_of(got)
        assert there.limits == limits
        engine.close()


def test_more_than_it_takes_is_turned_away_at_once(engine, there, monkeypatch):
    monkeypatch.setattr(remote, "MOST_ASKED", 3)
    there.go_on.clear()
    begin(engine, count=2)
    with pytest.raises(Busy):
        begin(engine, count=2)
    _, got = begin(engine)
    there.go_on.set()
    assert pieces_of(got)


def test_an_engine_that_is_not_there_or_has_other_models_is_said():
    def at(handle, **named):
        return RemoteEngine(URL, transport=httpx2.MockTransport(handle), **named)

    def fails(request):
        raise httpx2.ConnectError("connection refused")

    with pytest.raises(ConfigError, match="--engine: .* does not list its models"):
        at(fails)
    with pytest.raises(ConfigError, match="--engine: .* does not list its models"):
        at(lambda _: httpx2.Response(200, text="<html>"))
    two = {"data": [{"id": "one"}, {"id": "two"}]}
    with pytest.raises(ConfigError, match="--engine-model: .* has one, two; name one"):
        at(lambda _: httpx2.Response(200, json=two))
    chosen = at(lambda _: httpx2.Response(200, json=two), model="two")
    assert list(chosen.models) == [BASE]
    chosen.close()
