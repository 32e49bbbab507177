"""Two servers with one store and one engine: adapters come and go under answers of both."""

import threading
from collections import Counter

import pytest
from local_processes import until
from sharing import SharingServer
from sqlalchemy import select
from test_learning import Chain

from fastslow.atomic_io import file_hash
from fastslow.feedback import Store, people
from fastslow.feedback.schema import answers
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.serve import background
from fastslow.serve.bodies import DEFAULT_DOMAIN
from fastslow.serve.engine.remote import RemoteEngine
from fastslow.serve.engine.requests import BASE

CLIENTS = 3


@pytest.mark.parametrize("swaps", [10, pytest.param(80, marks=pytest.mark.slow)])
def test_swaps_under_streams_through_two_servers_fail_no_answer(
    shared_store, engine_server, tmp_path, monkeypatch, swaps
):
    monkeypatch.setattr(background, "FOLLOWS_EVERY", 0.01)
    folder, done, got = tmp_path / "live", threading.Event(), []
    with Store(shared_store) as store:
        chain = Chain(folder, store)
        token = store.write(people.add_principal, name="p", role="annotator", now=0.0)[1]
        with (
            SharingServer(shared_store, folder, engine_server, requests="1000000/minute") as one,
            SharingServer(shared_store, folder, engine_server, requests="1000000/minute") as two,
        ):

            def ask(server):
                while not done.is_set():
                    try:
                        got.append(server.chat(token))
                    except BaseException as error:
                        got.append(error)
                        raise

            asking = [
                threading.Thread(target=ask, args=(server,))
                for server in (one, two)
                for _ in range(CLIENTS)
            ]
            [thread.start() for thread in asking]
            made = [chain.promote(DEFAULT_DOMAIN) for _ in range(swaps)]
            done.set()
            [thread.join() for thread in asking]
        with store.read() as connection:
            kept = connection.execute(select(answers).where(answers.c.model.is_not(None))).all()
    assert not [one for one in got if isinstance(one, BaseException)] and engine_server.faults == []
    weights = {one.adapter: one.adapter_sha256 for one in made}
    assert all(said == {BASE: "base", **weights}[model] for model, said in got)
    by_model = Counter(model for model, _ in got)
    assert len(by_model) > swaps / 10, "answers came while adapters came and went"
    hashes = {one.adapter: (one.adapter_sha256, one.id) for one in made} | {BASE: (None, None)}
    assert len(kept) == len(got)
    assert all((row.adapter_sha256, row.update_id) == hashes[row.model] for row in kept)
    assert list(engine_server.models) == ["big"], "the last server leaves none behind"


def test_what_one_server_offers_stays_when_the_other_stops(shared_store, engine_server, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / ADAPTER_WEIGHTS).write_text("mine")
    (folder / "adapter_config.json").write_text('{"r": 8}')
    with Store(shared_store) as store:
        one, two = (RemoteEngine(engine_server.url, holds=store.holds()) for _ in range(2))
        for server in (one, two):
            server.load("mine", folder)
        assert two.models["mine"] == file_hash(folder / ADAPTER_WEIGHTS)
        assert engine_server.loads["mine"] == 1
        one.close()
        assert "mine" in engine_server.models
        two.close()
        assert "mine" not in engine_server.models


def test_what_is_rolled_back_at_one_server_answers_no_more_at_the_other(
    shared_store, engine_server, tmp_path
):
    folder = tmp_path / "live"
    with Store(shared_store) as store:
        chain = Chain(folder, store)
        token = store.write(people.add_principal, name="p", role="admin", now=0.0)[1]
        first, second = chain.promote(DEFAULT_DOMAIN), chain.promote(DEFAULT_DOMAIN)
        with (
            SharingServer(shared_store, folder, engine_server) as one,
            SharingServer(shared_store, folder, engine_server) as two,
        ):
            assert one.chat(token)[0] == two.chat(token)[0] == second.adapter
            one.post(token, f"/v1/updates/{second.id}/rollback", {})
            assert one.chat(token)[0] == first.adapter
            until(lambda: two.chat(token)[0] == first.adapter, seconds=2)
            until(lambda: second.adapter not in engine_server.models, seconds=5)
        assert engine_server.faults == []


def test_an_engine_that_is_started_again_is_given_its_adapters_when_it_is_asked(
    shared_store, engine_server, tmp_path
):
    folder = tmp_path / "live"
    with Store(shared_store) as store:
        chain = Chain(folder, store)
        token = store.write(people.add_principal, name="p", role="annotator", now=0.0)[1]
        made = chain.promote(DEFAULT_DOMAIN)
        with (
            SharingServer(shared_store, folder, engine_server) as one,
            SharingServer(shared_store, folder, engine_server) as two,
        ):
            del engine_server.models[made.adapter]
            for server in (two, one):
                assert server.chat(token) == (made.adapter, made.adapter_sha256)
            assert engine_server.loads[made.adapter] == 2
