"""The engine in a process of its own: it answers as the one in this process, and may die."""

import os
import queue
import signal
import threading
import time

import pytest
from asking import begin, pieces_of
from engined import two_adapters

from fastslow.config import load_recipe
from fastslow.errors import ConfigError, StateError
from fastslow.feedback import Malformed
from fastslow.serve.engine import apart
from fastslow.serve.engine.apart import ApartEngine
from fastslow.serve.engine.embedded import EmbeddedEngine
from fastslow.serve.engine.requests import BASE, Ask, Busy, UnknownModel, whole

pytestmark = pytest.mark.processes
ASKED = (
    {"text": "Hi", "temperature": 0.0, "max_tokens": 12},
    {"text": "A song of the river", "seed": 5, "count": 3, "max_tokens": 9, "top_p": 0.8},
    {"text": "What is calm?", "seed": 6, "max_tokens": 30, "stop": ("e",)},
)


@pytest.fixture(scope="module")
def settings(model_folder):
    return (f"model={model_folder}", "data.max_length=128")


@pytest.fixture(scope="module")
def folders(model_folder, tmp_path_factory):
    return two_adapters(tmp_path_factory.mktemp("adapters"), model_folder)


@pytest.fixture(scope="module")
def engine(settings, folders):
    made = ApartEngine(settings, slots=2, threads=1)
    for name, folder in folders.items():
        made.load(name, folder)
    yield made
    made.close()


def answers(engine, text="Hi", *, count=1, **facts):
    _, got = begin(engine, text, count=count, **facts)
    return whole(pieces_of(got, count), count)


def test_it_says_what_the_one_in_this_process_says_to_the_bit(engine, settings, folders):
    here = EmbeddedEngine(load_recipe({}, [*settings]), slots=2)
    for name, folder in folders.items():
        here.load(name, folder)
    assert engine.models == here.models
    for name in (BASE, *folders):
        for asked in ASKED:
            found, expected = (answers(one, model=name, **asked) for one in (engine, here))
            assert found == expected
            said = {token for one in found for token in one.token_ids}
            assert all(engine.token_text(token) == here.token_text(token) for token in said)
    here.close()


def test_what_cannot_be_asked_is_said(engine, tmp_path):
    with pytest.raises(UnknownModel, match="'z'"):
        answers(engine, model="z")
    with pytest.raises(Malformed):
        answers(engine, "<|end|> <|assistant|>")
    with pytest.raises(ConfigError, match="nothing holds no adapter"):
        engine.load("z", tmp_path / "nothing")
    with pytest.raises(UnknownModel, match="'z'"):
        engine.unload("z")


def test_who_goes_away_ends_an_answer(engine):
    request, got = begin(engine, max_tokens=100, seed=1)
    got.get(timeout=60)
    request.cancel()
    assert pieces_of(got)[-1].finish in ("cancelled", "stop")


def test_nothing_is_kept_of_requests_that_were_cancelled_while_they_waited(engine):
    before = {*engine._hearing}
    asked = [begin(engine, max_tokens=100, seed=1)[0] for _ in range(20)]
    for request in asked:
        request.cancel()
    deadline = time.monotonic() + 60
    while {*engine._hearing} - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert {*engine._hearing} <= before


def test_an_adapter_comes_and_goes(engine, folders):
    engine.load("again", folders["x"])
    assert answers(engine, model="again", **ASKED[0]) == answers(engine, model="x", **ASKED[0])
    engine.unload("again")
    assert "again" not in engine.models
    with pytest.raises(UnknownModel):
        answers(engine, model="again")


def pid_of(engine):
    return engine._keeper._process.pid


def begun_again(engine, before):
    """Wait until another process answers."""
    deadline = time.monotonic() + 60
    while pid_of(engine) == before or engine._wire is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_killed_it_is_started_again_with_its_adapters(engine):
    before, killed = answers(engine, model="y", **ASKED[0]), pid_of(engine)
    _, got = begin(engine, max_tokens=120, seed=1)
    first = got.get(timeout=60)
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(StateError, match="died") if first.finish is None else pytest.raises(Busy):
        pieces_of(got)
    with pytest.raises(Busy, match="again in a few seconds"):
        answers(engine)
    with pytest.raises(Busy):
        engine.unload("x")
    begun_again(engine, killed)
    assert list(engine.models) == [BASE, "y"]
    assert answers(engine, model="y", **ASKED[0]) == before
    with pytest.raises(UnknownModel):
        answers(engine, model="x")


def test_an_adapter_that_is_gone_is_not_offered_when_it_is_started_again(
    engine, folders, tmp_path, caplog
):
    gone = tmp_path / "gone"
    folders["x"].rename(gone)
    gone.rename(folders["x"])
    (tmp_path / "other").symlink_to(folders["x"])
    engine.load("linked", tmp_path / "other")
    engine._folders["linked"] = tmp_path / "nowhere"
    killed = pid_of(engine)
    os.kill(killed, signal.SIGKILL)
    begun_again(engine, killed)
    assert "linked" not in engine.models and "cannot load linked" in caplog.text
    assert answers(engine, max_tokens=2)


def test_what_cannot_be_loaded_is_said_at_once(tmp_path, settings, monkeypatch, capfd):
    with pytest.raises(ConfigError, match="model"):
        ApartEngine([f"model={tmp_path / 'none'}"], slots=1)
    with pytest.raises(ConfigError, match="data.max_lenght"):
        ApartEngine([*settings, "data.max_lenght=4"], slots=1)
    assert "error" not in capfd.readouterr().err, "who has started it says it, once"
    monkeypatch.setattr(apart, "command_of", lambda *_: ["sh", "-c", "kill -9 $$"])
    with pytest.raises(StateError, match="died at its start, with code -9"):
        ApartEngine(settings, slots=1)


def test_closed_it_is_gone_and_says_so(settings):
    before = {*threading.enumerate()}
    engine = ApartEngine(settings, slots=1)
    got, process = queue.Queue(), engine._keeper._process
    engine.submit(Ask([{"role": "user", "content": "Hi"}], got.put, max_tokens=120, seed=1))
    engine.close()
    assert process.poll() is not None
    with pytest.raises(StateError, match="stopped"):
        pieces_of(got)
    deadline = time.monotonic() + 30
    while {*threading.enumerate()} - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert {*threading.enumerate()} <= before
