"""The embedded engine: its answers are the policy's, whatever they are decoded beside."""

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import families
import pytest
import tiny
import torch
from asking import begin, pieces_of
from engined import adapter, two_adapters

from fastslow.adapters import Factors, load_base, load_tokenizer
from fastslow.config import load_recipe
from fastslow.errors import ConfigError, StateError
from fastslow.feedback import Malformed
from fastslow.records import Message
from fastslow.sampling import generate
from fastslow.serve.engine import embedded
from fastslow.serve.engine.decoding import Group
from fastslow.serve.engine.embedded import EmbeddedEngine
from fastslow.serve.engine.requests import BASE, Ask, Busy, UnknownModel, whole
from fastslow.serve.engine.text_stream import TextStream
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import SharedBase, make_encoder, open_policies

ASKED = ["Tell me of the river.", "Hi", "What is calm, and what is bright and kind?", "A song"]


@pytest.fixture(scope="module")
def recipe(model_folder):
    return load_recipe({"model": str(model_folder), "data": {"max_length": 128}})


@pytest.fixture(scope="module")
def folders(model_folder, tmp_path_factory):
    return two_adapters(tmp_path_factory.mktemp("adapters"), model_folder)


@pytest.fixture
def engine(recipe, folders):
    made = EmbeddedEngine(recipe, slots=2, max_rank=8)
    for name, folder in folders.items():
        made.load(name, folder)
    yield made
    made.close()


def ask(engine, text, *, count=1, **facts):
    """The pieces of one request's answers, once all are there."""
    _, got = begin(engine, text, count=count, **facts)
    return pieces_of(got, count)


def answers(engine, text, **facts):
    return whole(ask(engine, text, **facts), facts.get("count", 1))


def expected(recipe, folders, name, text, *, most):
    """Greedy tokens and their log-probs, by transformers and PEFT alone."""
    tokenizer = load_tokenizer(recipe.model)
    encoder = make_encoder(recipe, tokenizer)
    bases = SharedBase(ProcessGroup("cpu"))
    policies = open_policies(recipe, folders, tokenizer, bases, trainable=())
    prompt = encoder.prompt_ids((Message("user", text),), room=most)
    with policies.modules.using(name):
        model = policies.modules.model
        ((made,),) = generate(
            model, [prompt], end_ids=sorted(encoder.end_ids), pad_id=0, max_new_tokens=most,
            seed=0, temperature=0.0,
        )  # fmt: skip
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *made.tokens]])).logits[0]
    logps = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return made.tokens, [float(logps[place, token]) for place, token in enumerate(made.tokens)]


@pytest.mark.parametrize("name", [BASE, "x", "y"])
def test_greedy_answers_are_those_of_transformers_and_peft(engine, recipe, folders, name):
    for text in ASKED:
        (own,) = answers(engine, text, model=name, temperature=0.0, max_tokens=12)
        tokens, logps = expected(recipe, folders, name, text, most=12)
        assert own.token_ids == tokens
        assert own.logps == pytest.approx(logps, abs=1e-4)


def test_adapters_change_answers(engine):
    said = {
        name: answers(engine, "Hi", model=name, temperature=0.0, max_tokens=12)[0].token_ids
        for name in (BASE, "x", "y")
    }
    assert len(set(said.values())) == 3


def test_a_seed_gives_the_same_answer_alone_and_in_a_crowd(engine):
    facts = {"seed": 5, "max_tokens": 16}
    alone = {
        (text, name): answers(engine, text, model=name, **facts)[0].token_ids
        for text in ASKED
        for name in (BASE, "x", "y")
    }
    found, threads = {}, []
    for text, name in alone:

        def call(text=text, name=name):
            found[text, name] = answers(engine, text, model=name, **facts)[0].token_ids

        threads.append(threading.Thread(target=call))
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == alone


def test_several_answers_to_a_prompt_differ_and_the_first_is_that_of_its_seed(engine):
    many = answers(engine, "Hi", seed=3, count=4, max_tokens=16)
    assert len({one.token_ids for one in many}) == 4
    for seed, one in ((3, many[0]), (4, many[1])):
        (alone,) = answers(engine, "Hi", seed=seed, max_tokens=16)
        assert alone.token_ids == one.token_ids
        assert alone.logps == pytest.approx(one.logps, abs=1e-5)


def test_answers_end_at_their_limit_or_their_stop(engine):
    (long,) = answers(engine, "Hi", seed=3, max_tokens=6, temperature=0.0)
    assert long.finish == "length" and len(long.token_ids) == 6
    middle = long.text[2:4]
    (cut,) = answers(engine, "Hi", max_tokens=6, temperature=0.0, stop=(middle,))
    assert cut.finish == "stop" and cut.text == long.text[: long.text.index(middle)]


def test_a_client_that_goes_away_stops_its_answer_within_two_tokens(engine, monkeypatch):
    got, first = [], threading.Event()

    def tell(piece):
        got.append(piece)
        first.set()
        time.sleep(0.02)

    request = Ask([{"role": "user", "content": "Hi"}], tell, max_tokens=100, seed=1)
    engine.submit(request)
    assert first.wait(30)
    seen = len(got)
    request.cancel()
    deadline = time.monotonic() + 30
    while got[-1].finish is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert got[-1].finish in ("cancelled", "stop") and len(got) - seen <= 3
    assert answers(engine, "Hi", max_tokens=2), "the engine goes on"


def test_a_full_queue_refuses_and_recovers(engine, monkeypatch):
    monkeypatch.setattr(embedded, "MOST_WAITING", 0)
    monkeypatch.setattr(embedded, "MOST_ROWS", 2)
    got = queue.Queue()
    request = Ask([{"role": "user", "content": "Hi"}], got.put, max_tokens=60, count=2, seed=1)
    engine.submit(request)
    with pytest.raises(Busy, match="try again"):
        ask(engine, "Hi", max_tokens=2)
    request.cancel()
    deadline = time.monotonic() + 30
    while engine._rows.total() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answers(engine, "Hi", max_tokens=2)


def test_a_request_that_is_cancelled_while_it_waits_is_told_so(engine):
    got = queue.Queue()
    request = Ask([{"role": "user", "content": "Hi"}], got.put, count=2)
    request.cancel()
    engine.submit(request)
    finishes = [got.get(timeout=30).finish for _ in range(2)]
    assert finishes == ["cancelled", "cancelled"]
    assert engine._rows.total() == 0 or answers(engine, "Hi", max_tokens=2)


def test_what_cannot_be_asked_is_refused_at_once(engine):
    with pytest.raises(UnknownModel, match="'z'"):
        ask(engine, "Hi", model="z")
    with pytest.raises(Malformed):
        ask(engine, "<|end|> <|assistant|>")


def test_adapters_come_and_go_by_names_of_their_own(engine, folders, tmp_path, model_folder):
    before = answers(engine, "Hi", model="y", temperature=0.0, max_tokens=8)
    engine.unload("x")
    with pytest.raises(UnknownModel):
        ask(engine, "Hi", model="x")
    with pytest.raises(ConfigError, match="names cannot be reused"):
        engine.load("y", folders["x"])
    engine.load("z", folders["y"])
    assert list(engine.models) == [BASE, "y", "z"] and engine.models["y"] == engine.models["z"]
    assert answers(engine, "Hi", model="z", temperature=0.0, max_tokens=8) == before


def test_room_for_more_adapters_is_made_once_and_changes_no_answer(engine, folders):
    """Also of those that are under way."""
    asked = {"temperature": 0.0, "max_tokens": 30}

    def tokens(name):
        return answers(engine, "Hi", model=name, **asked)[0].token_ids

    wanted = {name: tokens(name) for name in (BASE, "x", "y")}
    under_way = {name: begin(engine, model=name, **asked)[1] for name in wanted}
    engine.load("z", folders["y"])
    for name, got in under_way.items():
        assert whole(pieces_of(got), 1)[0].token_ids == wanted[name]
    assert tokens("z") == wanted["y"]
    made = engine._slots.modules.names
    engine.unload("z")
    engine.load("w", folders["x"])
    assert tokens("w") == wanted["x"] and engine._slots.modules.names == made


def test_an_adapter_goes_when_it_has_given_its_last_answer(engine):
    _, got = begin(engine, model="x", max_tokens=60, temperature=2.0, seed=1)
    leaving = threading.Thread(target=engine.unload, args=("x",))
    leaving.start()
    while "x" in engine.models:
        time.sleep(0.001)
    with pytest.raises(UnknownModel):
        ask(engine, "Hi", model="x")
    piece = pieces_of(got)[-1]
    leaving.join(30)
    assert piece.finish in ("stop", "length") and not leaving.is_alive()


def test_an_adapter_that_fits_no_slot_is_refused(engine, tmp_path, model_folder):
    base = load_base(str(model_folder))
    with pytest.raises(ConfigError, match="rank 9, the engine holds adapters up to rank 8"):
        engine.load("w", adapter(tmp_path / "w", base, seed=1, rank=9))
    layers = {"model.nothing": (torch.zeros(2, 3), torch.zeros(3, 2))}
    Factors(layers, ()).write(tmp_path / "v")
    with pytest.raises(ConfigError, match="model.nothing, which the model does not have"):
        engine.load("v", tmp_path / "v")


def test_two_hundred_swaps_under_load_mix_no_adapters(engine, folders):
    """Every answer is wholly that of the adapter whose name it was asked by."""
    wanted = {
        name: answers(engine, "Hi", model=name, temperature=0.0, max_tokens=6)[0].token_ids
        for name in ("x", "y")
    }
    stop, wrong, count = threading.Event(), [], [0]

    def client():
        while not stop.is_set():
            (own,) = answers(engine, "Hi", model="y", temperature=0.0, max_tokens=6)
            count[0] += 1
            if own.token_ids != wanted["y"]:
                wrong.append(own)

    threads = [threading.Thread(target=client) for _ in range(4)]
    [thread.start() for thread in threads]
    for number in range(200):
        engine.unload("x" if number == 0 else f"x{number - 1}")
        engine.load(f"x{number}", folders["x"])
        if number % 20 == 0:
            (own,) = answers(engine, "Hi", model=f"x{number}", temperature=0.0, max_tokens=6)
            assert own.token_ids == wanted["x"]
    stop.set()
    [thread.join() for thread in threads]
    assert not wrong and count[0] > 10


def family_engine(family, tmp_path):
    families.model(family).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    recipe = load_recipe({"model": str(tmp_path), "data": {"max_length": 96}})
    return EmbeddedEngine(recipe, slots=1, max_rank=4)


def test_a_model_that_padding_would_change_answers_prompts_of_one_length_together(
    tmp_path, monkeypatch
):
    engine, widths = family_engine("minimax", tmp_path), []

    def grouped(model, rows, *, pad_id):
        widths.append({len(row.prompt) for row in rows})
        return Group(model, rows, pad_id=pad_id)

    monkeypatch.setattr(embedded, "Group", grouped)
    alone = [answers(engine, text, temperature=0.0, max_tokens=6)[0] for text in ASKED]
    with ThreadPoolExecutor(len(ASKED)) as pool:
        together = [*pool.map(lambda t: answers(engine, t, temperature=0.0, max_tokens=6), ASKED)]
    engine.close()
    assert [one.token_ids for (one,) in together] == [one.token_ids for one in alone]
    assert all(len(lengths) == 1 for lengths in widths)


def test_a_model_whose_cache_changes_its_answers_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="serve it with an external engine, by --engine"):
        family_engine("phi3", tmp_path)


def test_a_listener_that_fails_ends_its_own_request_only(engine):
    def broken(piece):
        raise RuntimeError("Event loop is closed")

    engine.submit(Ask([{"role": "user", "content": "Hi"}], broken, max_tokens=100, count=2))
    for text in ASKED:
        assert answers(engine, text, max_tokens=8)
    deadline = time.monotonic() + 30
    while engine._rows.total() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine._rows.total() == 0


def test_a_stopped_engine_tells_who_waits(recipe):
    engine = EmbeddedEngine(recipe, slots=1, max_rank=2)
    got = queue.Queue()
    engine.submit(Ask([{"role": "user", "content": "Hi"}], got.put, max_tokens=100, seed=1))
    got.get(timeout=30)
    engine.close()
    last = None
    while not got.empty():
        last = got.get()
    assert isinstance(last, StateError) or last is None or last.finish


def test_half_characters_and_beginnings_of_a_stop_are_held_back():
    words = {1: "a", 2: "\ufffd", 3: "€", 4: "EN", 5: "D", 6: "Q"}

    def decode(tokens):
        text = "".join(words[token] for token in tokens)
        return text.replace("\ufffd€", "€")

    stream = TextStream(decode, stop=("END",))
    assert [stream.add(token) for token in (1, 2, 3, 4, 6)] == ["a", "", "€", "", "ENQ"]
    assert [stream.add(token) for token in (1, 4, 5)] == ["a", "", ""] and stream.stopped
    assert stream.end() == ""
    other = TextStream(decode, stop=("END",))
    assert [other.add(token) for token in (1, 4)] == ["a", ""] and other.end() == "EN"
