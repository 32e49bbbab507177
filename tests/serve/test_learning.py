"""What was learned answers in its domain, and is undone at once by whoever may."""

import asyncio
import itertools
import logging
import random
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from local_processes import until
from sqlalchemy import select

from fastslow.atomic_io import file_hash
from fastslow.errors import StateError
from fastslow.feedback import (
    Store,
    consolidating,
    decisions,
    items,
    leases,
    ledger,
    people,
    planning,
    updates,
    voting,
)
from fastslow.feedback.places import adapter_folder, adapter_name, slug
from fastslow.feedback.schema import answers, pairs
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.serve import Live, Settings, background
from fastslow.serve.answering import sampled_pair
from fastslow.serve.engine.requests import BASE, Piece
from fastslow.serve.served import TRIES_EVERY, Served
from fastslow.serve.supervised import REFUSED, Keeper, threads_of_both
from fastslow.streams import fault_of


class Engine:
    """Knows which adapters it was given."""

    def __init__(self):
        self.models, self.done, self.refuses = {BASE: None}, [], set()

    def load(self, name, folder):
        if name in self.refuses:
            raise StateError("the rank is too large")
        self.models[name] = "hash"
        self.done.append(f"+{name[:10]}")

    def submit(self, ask):
        for index in range(ask.count):
            ask.tell(Piece(index, f"{ask.model} {index}", (1,), (-1.0,), finish="stop"))

    def unload(self, name):
        del self.models[name]
        self.done.append(f"-{name[:10]}")


class Chain:
    """A store with updates whose adapters are files."""

    seconds = 0.0

    def __init__(self, folder, store):
        self.folder, self.store, self.made = folder, store, 0
        self.learner = store.write(planning.claim)
        self.voter, _ = store.write(people.add_principal, name="v", role="annotator", now=0.0)

    def votes(self, domain, count=1):
        for _ in range(count):
            self.made += 1
            prompt = self.store.write(
                items.add_prompt, messages=[{"role": "user", "content": f"p {self.made}"}],
                domain=domain, now=0.0,
            )  # fmt: skip
            both = [
                self.store.write(
                    items.add_answer, prompt_id=prompt, answer=items.Answer(text), now=0.0
                )
                for text in ("good", "bad")
            ]
            pair = self.store.write(
                items.add_pair, prompt_id=prompt, first=both[0], second=both[1], now=0.0,
                draw=random.Random(0),
            )  # fmt: skip
            self.store.write(leases.lease, pair_id=pair, voter=self.voter.id, until=0.0)
            self.store.write(
                voting.vote, voter=self.voter.id, pair_id=pair, verdict="a", key=f"k{pair}", now=0.0
            )
        self.store.write(ledger.admit, now=100.0, check=fault_of)

    def write_adapter(self, folder, number):
        (folder / ADAPTER_WEIGHTS).write_text(f"weights of {number}")
        (folder / "adapter_config.json").write_text('{"r": 8}')

    def promote(self, domain, probes=()):
        while True:
            self.votes(domain)
            with self.store.read() as connection:
                rows = [one.seq for one in planning.waiting(connection, domain)]
            if rows:
                break
        own = {"learner": self.learner}
        found = self.store.write(planning.plan, domain=domain, rows=rows, now=0.0, **own)
        draft = self.folder / "draft"
        draft.mkdir(parents=True)
        self.write_adapter(draft, found.id)
        digest = file_hash(draft / ADAPTER_WEIGHTS)
        name = adapter_name(domain, found.id, digest)
        to = adapter_folder(self.folder, name)
        to.parent.mkdir(exist_ok=True)
        draft.rename(to)
        own["update_id"] = found.id
        self.store.write(planning.move, state="learning", **own)
        facts = {"adapter": name, "adapter_sha256": digest, "checkpoint": "c"}
        self.store.write(planning.move, state="candidate", **facts, **own)
        self.store.write(planning.move, state="gating", **own)
        gate = {"verdict": "promoted", "checks": [], "probes": list(probes)}
        self.store.write(decisions.promote, gate=gate, **own)
        with self.store.read() as connection:
            return updates.update_of(connection, found.id)


@pytest.fixture
def chain(tmp_path):
    with Store(tmp_path / "live") as store:
        yield Chain(tmp_path / "live", store)


@pytest.fixture
def served(chain):
    return Served(chain.folder, lambda: chain.seconds, beside=lambda work: work())


def follow(chain, served, engine):
    with chain.store.read() as connection:
        served.follow(engine, updates.served(connection))


def test_what_does_not_say_there_what_it_said_to_the_learner_is_unloaded(chain, served, caplog):
    engine = Engine()
    turn = {"role": "user", "content": "Hi"}
    first = chain.promote("a", [{"messages": [turn], "tokens": [1], "logps": [-1.0]}])
    follow(chain, served, engine)
    assert served.model_for("a") == first.adapter
    chain.promote("a", [{"messages": [turn], "tokens": [1], "logps": [-3.0]}])
    follow(chain, served, engine)
    assert served.model_for("a") == first.adapter and set(engine.models) == {BASE, first.adapter}
    assert "log-probs differ by 2.00 nats per token" in caplog.text


def test_what_was_promoted_answers_in_its_domain_and_the_one_before_stays(chain, served):
    engine = Engine()
    first = chain.promote("a")
    follow(chain, served, engine)
    assert served.model_for("a") == first.adapter and served.model_for("b") is None
    assert served.update_of(first.adapter) == first.id and served.update_of(BASE) is None
    second, other = chain.promote("a"), chain.promote("b")
    follow(chain, served, engine)
    assert served.model_for("a") == second.adapter and served.model_for("b") == other.adapter
    assert set(engine.models) == {BASE, first.adapter, second.adapter, other.adapter}
    assert served.update_of(first.adapter) == first.id
    third = chain.promote("a")
    follow(chain, served, engine)
    assert set(engine.models) == {BASE, second.adapter, third.adapter, other.adapter}
    before = list(engine.done)
    follow(chain, served, engine)
    assert engine.done == before, "nothing is loaded twice"


def test_a_rollback_loads_nothing_for_what_answers(chain, served):
    engine = Engine()
    first, second = chain.promote("a"), chain.promote("a")
    follow(chain, served, engine)
    engine.done.clear()
    chain.store.write(decisions.roll_back, update_id=second.id, now=0.0, by=None)
    follow(chain, served, engine)
    assert served.model_for("a") == first.adapter and engine.done == [f"-{second.adapter[:10]}"]
    chain.store.write(decisions.roll_back, update_id=first.id, now=0.0, by=None)
    follow(chain, served, engine)
    assert served.model_for("a") == BASE and set(engine.models) == {BASE}


def test_what_was_changed_since_it_was_tested_never_answers(chain, served, caplog):
    engine = Engine()
    first, second = chain.promote("a"), None
    follow(chain, served, engine)
    second = chain.promote("a")
    (adapter_folder(chain.folder, second.adapter) / ADAPTER_WEIGHTS).write_text("other weights")
    with caplog.at_level(logging.ERROR):
        follow(chain, served, engine)
    assert served.model_for("a") == first.adapter and second.adapter not in engine.models
    assert "is not what was tested" in caplog.text


def test_what_gives_a_long_last_answer_keeps_no_newer_update_waiting(chain):
    class Slow(Engine):
        answered = threading.Event()

        def unload(self, name):
            assert self.answered.wait(30)
            super().unload(name)

    served, engine = Served(chain.folder), Slow()
    made = []
    for _ in range(4):
        made.append(chain.promote("a"))
        follow(chain, served, engine)
        assert served.model_for("a") == made[-1].adapter
    assert {one.adapter for one in made} < engine.models.keys()
    # Rolled back to one that is leaving: what answers goes on until that one is gone.
    with chain.store.read() as connection:
        (route,) = updates.served(connection)
    back = [replace(route, now=made[0], before=None)]
    served.follow(engine, back)
    assert served.model_for("a") == made[-1].adapter
    engine.answered.set()
    until(lambda: served.follow(engine, back) or served.model_for("a") == made[0].adapter)
    until(lambda: engine.models.keys() == {BASE, made[0].adapter})


@pytest.mark.parametrize("gone", [False, True])
def test_an_adapter_that_the_engine_cannot_take_leaves_the_one_before(chain, served, caplog, gone):
    engine = Engine()
    first = chain.promote("a")
    follow(chain, served, engine)
    second = chain.promote("a")
    if gone:
        (adapter_folder(chain.folder, second.adapter) / ADAPTER_WEIGHTS).unlink()
    else:
        engine.refuses.add(second.adapter)
    for _ in range(3):  # Four looks a second hash nothing and say nothing again.
        follow(chain, served, engine)
    assert served.model_for("a") == first.adapter and caplog.text.count("cannot answer") == 1
    chain.seconds += TRIES_EVERY
    engine.refuses.clear()
    follow(chain, served, engine)
    assert served.model_for("a") == (first if gone else second).adapter
    assert caplog.text.count("cannot answer") == 1 + gone


def test_a_server_answers_by_its_routes_or_with_what_it_was_started_with(chain):
    engine = Engine()
    engine.models["given"] = "hash"
    live = Live(chain.store, Settings(), engine=engine, folder=chain.folder)
    assert live.model_for("a") == "given" and live.update_of("given") is None
    found = chain.promote("a")
    follow(chain, live.served, engine)
    assert live.model_for("a") == found.adapter and live.model_for("b") == "given"
    assert live.update_of(found.adapter) == found.id


@pytest.mark.parametrize(
    ("share", "promoted", "watched"),
    [(1.0, 2, True), (1.0, 1, True), (1.0, 0, False), (0.0, 2, False)],
)
def test_some_pairs_show_what_answers_beside_what_did_before(chain, share, promoted, watched):
    engine = Engine()
    live = Live(chain.store, Settings(watched=share), engine=engine, folder=chain.folder)
    made = [None, *(chain.promote("a") for _ in range(promoted))]
    follow(chain, live.served, engine)
    asked = sampled_pair(live, [{"role": "user", "content": "Hi"}], domain="a")
    number = asyncio.run(asked)
    with chain.store.read() as connection:
        pair = connection.execute(select(pairs).where(pairs.c.id == number)).one()
        both = select(answers.c.update_id, answers.c.adapter_sha256).where(
            answers.c.id.in_((pair.a, pair.b))
        )
        given = {row.update_id: row.adapter_sha256 for row in connection.execute(both)}
    assert pair.purpose == ("watch" if watched else "learn")
    shown = made[-2:] if watched else made[-1:]
    assert set(given) == {one.id if one else None for one in shown}
    assert all((digest is None) == (update is None) for update, digest in given.items())


def test_nothing_is_watched_that_an_engine_cannot_load(chain, served):
    engine = Engine()
    first, second = chain.promote("a"), chain.promote("a")
    engine.refuses.add(first.adapter)
    follow(chain, served, engine)
    assert served.model_for("a") == second.adapter and served.before("a") is None


def test_routes_that_were_read_earlier_are_not_followed_later():
    begun, followed = itertools.count(), []

    async def read(_):
        number = next(begun)
        await asyncio.sleep(0.0 if number else 0.05)
        return number

    async def twice():
        served = SimpleNamespace(follow=lambda _, wanted: followed.append(wanted))
        live = SimpleNamespace(engine=1, served=served, following=asyncio.Lock(), read=read)
        await asyncio.gather(background.follow(live), background.follow(live))

    asyncio.run(twice())
    assert followed == [0, 1]


def test_domains_have_folders_of_their_own():
    names = ["a", "A", "a b", "a-b", "a/b", "..", "ä", "ö", "x" * 300]
    assert slug("reviews") == "reviews" and len({slug(name) for name in names}) == len(names)
    for name in names:
        assert slug(name).isascii() and "/" not in slug(name) and len(slug(name)) < 60
        assert slug(name).strip(".") == slug(name) != ""


def decided(server, path, role="admin", body=None):
    return server.ask("POST", path, body, role=role)


def test_updates_are_shown_and_decided_over_http(server):
    chain = Chain(server.folder, server.store)
    first, second = chain.promote("a"), chain.promote("a")
    shown = server.ask("GET", "/v1/updates?domain=a", role="viewer").json()
    assert [one["id"] for one in shown["updates"]] == [second.id, first.id]
    assert shown["routes"][0]["update_id"] == second.id
    assert server.ask("GET", "/v1/updates", role="annotator").status_code == 403
    with server.store.read() as connection:
        vote = list(ledger.entries(connection))[0].vote_id
    uses = server.ask("GET", f"/v1/votes/{vote}/updates", role="viewer").json()
    assert len(uses["updates"]) <= 1
    stale = decided(server, f"/v1/updates/{first.id}/approve")
    assert stale.status_code == 422 and "does not answer in a" in stale.json()["error"]["message"]
    approved = decided(server, f"/v1/updates/{second.id}/approve").json()
    assert approved["anchor_id"] == second.id
    assert decided(server, f"/v1/updates/{second.id}/rollback", "viewer").status_code == 403
    reply = decided(server, f"/v1/updates/{second.id}/rollback")
    assert reply.status_code == 200 and reply.json()["update_id"] == first.id
    again = decided(server, f"/v1/updates/{second.id}/rollback")
    assert (
        again.status_code == 422
        and "only the update that answers" in again.json()["error"]["message"]
    )
    assert decided(server, f"/v1/updates/{second.id}/release").json()["state"] == "released"
    assert decided(server, f"/v1/updates/{second.id}/discard").status_code == 422
    assert decided(server, "/v1/updates/999/discard").status_code == 404
    assert decided(server, f"/v1/updates/{first.id}/promote").status_code == 422


def test_a_process_that_dies_is_started_again_and_one_that_refuses_is_not(tmp_path, caplog):
    counted = tmp_path / "starts"
    script = f"open({str(counted)!r}, 'a').write('x'); raise SystemExit({{code}})"
    for code, starts in ((1, 2), (2, 1)):
        counted.unlink(missing_ok=True)
        command = [sys.executable, "-c", script.format(code=code)]
        keeper = Keeper("the learner", command, {}, final=REFUSED)
        keeper.start()
        keeper.join(1.6)
        keeper.stop()
        keeper.wait()
        assert len(counted.read_text()) >= starts and (code == 1 or len(counted.read_text()) == 1)
    assert "ended with code 1" in caplog.text and "cannot continue" in caplog.text


def test_answers_and_learning_share_the_cores():
    own, learning = threads_of_both()
    assert own >= 1 and learning >= 1


def test_a_student_is_asked_for_over_http_by_admins(server):
    path = "/v1/consolidations"
    assert decided(server, path, "service").status_code == 403
    refused = decided(server, path)
    assert refused.status_code == 422 and "2 domains" in refused.json()["error"]["message"]
    chain = Chain(server.folder, server.store)
    both = [chain.promote("a"), chain.promote("b")]
    made = decided(server, path)
    assert made.status_code == 202 and made.json()["state"] == "wanted"
    again = decided(server, path)
    assert again.status_code == 422 and "is in progress" in again.json()["error"]["message"]
    with server.store.read() as connection:
        rows = {one.domain: planning.learned(connection, one.domain) for one in both}
    own = {"learner": chain.learner, "number": made.json()["id"], "now": 0.0}
    server.store.write(consolidating.plan, shown=rows, **own)
    (shown,) = server.ask("GET", path, role="viewer").json()["consolidations"]
    assert shown["state"] == "planned" and shown["by"] is not None
    assert [(one["domain"], one["state"]) for one in shown["updates"]] == [
        ("a", "planned"), ("b", "planned"),
    ]  # fmt: skip
    assert server.ask("GET", path, role="annotator").status_code == 403
