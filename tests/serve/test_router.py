"""A prompt without a domain is given the one that it looks like, or none, and the reply says so."""

import asyncio
import json
import random

import pytest
from sqlalchemy import select
from test_learning import Chain, Engine

from fastslow.feedback import Store, items, updates
from fastslow.feedback.labelled import Labelled, labelled_since, newest_labelled
from fastslow.feedback.schema import prompts
from fastslow.serve import router as router_module
from fastslow.serve.background import know_prompts
from fastslow.serve.engine.requests import BASE
from fastslow.serve.router import ENOUGH, Assigned, Router
from fastslow.serve.served import Served
from fastslow.streams.worlds import World

WORLD = World(0, num_domains=3)
REVIEWS, GUESTS, NOTES = WORLD.domains


def said(text):
    return [{"role": "user", "content": text}]


def labelled(*domains, first=1, count=None):
    texts = [(domain, text) for domain in domains for text in WORLD.prompts(domain)[:count]]
    return [Labelled(first + n, domain, said(text)) for n, (domain, text) in enumerate(texts)]


def knowing(*domains, **named):
    made = Router()
    made.learn(labelled(*domains, **named))
    return made


def test_new_prompts_are_given_the_domain_that_they_look_like():
    router = knowing(*WORLD.domains)
    for domain in WORLD.domains:
        for text in WORLD.prompts(domain, held_out=True):
            assert router.choose(said(text)) == domain, text


def test_prompts_like_none_are_given_none():
    router = knowing(REVIEWS, GUESTS)
    asked = [
        *WORLD.prompts(NOTES, held_out=True),
        "Solve 3x + 4 = 19.",
        "写一首关于春天的诗。",
        "?",
    ]
    assert [text for text in asked if router.choose(said(text)) is not None] == []


def test_a_label_holds_whatever_a_prompt_looks_like():
    router = knowing(REVIEWS, GUESTS)
    text = said(WORLD.prompts(REVIEWS, held_out=True)[0])
    assert router.assign(text, GUESTS) == Assigned(GUESTS, "label")
    assert router.assign(text, "default") == Assigned("default", "label")
    assert router.assign(text, None) == Assigned(REVIEWS, "router")
    assert router.assign(said("Solve 3x + 4 = 19."), None) == Assigned("default", "default")


@pytest.mark.parametrize(("domains", "count"), [((REVIEWS,), None), (WORLD.domains, ENOUGH - 1)])
def test_nothing_is_told_apart_before_two_domains_are_known(domains, count):
    router = knowing(*domains, count=count)
    text = said(WORLD.prompts(REVIEWS, held_out=True)[0])
    assert router.assign(text, None) == Assigned("default", "default")


def test_the_default_domain_looks_like_nothing():
    router = knowing(REVIEWS, GUESTS)
    notes = WORLD.prompts(NOTES)
    router.learn([Labelled(900 + n, "default", said(text)) for n, text in enumerate(notes)])
    assert router.assign(said(notes[0]), None) == Assigned("default", "default")


def test_the_newest_prompts_are_known_in_whatever_steps_they_came(monkeypatch):
    monkeypatch.setattr(router_module, "MOST", 40)
    some = [*labelled(REVIEWS, GUESTS), *labelled(NOTES, first=500)]
    some += [Labelled(700 + n, REVIEWS, one.messages) for n, one in enumerate(labelled(NOTES))]
    at_once, in_steps = Router(), Router()
    at_once.learn(some[::-1])
    for place in range(0, len(some), 7):
        in_steps.learn(some[max(0, place - 3) : place + 7])  # Some are told of again.
    for name in WORLD.domains:
        one, other = at_once._domains[name], in_steps._domains[name]
        assert one.prompts == other.prompts and len(one.prompts) == 40
        assert (one.counts, one.total) == (other.counts, other.total)
        assert one.total == sum(one.counts.values()) == sum(map(len, one.prompts.values()))
        assert one.usually_in_common() == other.usually_in_common()


def put(store, domain, text, routed=False):
    store.write(items.add_prompt, messages=said(text), domain=domain, now=0.0, routed=routed)


def test_a_store_tells_of_prompts_whose_domain_was_named(tmp_path):
    with Store(tmp_path) as store:
        for text in ("a", "b", "c"):
            put(store, "x", text)
        put(store, "y", "a")
        put(store, "y", "b", routed=True)
        with store.read() as connection:
            newest = newest_labelled(connection, most=2)
            assert [(one.domain, one.messages[0]["content"]) for one in newest] == [
                ("x", "c"), ("x", "b"), ("y", "a"),
            ]  # fmt: skip
            later = labelled_since(connection, number=4, limit=9)
            assert [one.number for one in later] == [1, 2, 3, 4]  # Some before it, in order.
            plan = connection.exec_driver_sql(
                "EXPLAIN QUERY PLAN SELECT min(domain) FROM prompts WHERE routed = 0"
            )
            assert "ix_prompts_labelled" in str(plan.all())


@pytest.fixture
def server(make_server):
    made = make_server()
    made.live.engine = Engine()
    draw = random.Random(0)
    texts = [(domain, text) for domain in (REVIEWS, GUESTS) for text in WORLD.prompts(domain)]
    for domain, text in draw.sample(texts, len(texts)):
        made.pair(text, domain=domain)
    asyncio.run(know_prompts(made.live))
    return made


def records(server):
    with server.store.read() as connection:
        query = select(prompts.c.messages, prompts.c.domain, prompts.c.routed)
        return {row.messages[-1]["content"]: row[1:] for row in connection.execute(query)}


ASKED = WORLD.prompts(GUESTS, held_out=True)[0]


@pytest.mark.parametrize(
    ("text", "named", "domain", "by"),
    [
        (ASKED, None, GUESTS, "router"), (ASKED, REVIEWS, REVIEWS, "label"),
        (ASKED, "a new one", "a new one", "label"), ("Solve 3x = 9.", None, "default", "default"),
    ],
)  # fmt: skip
def test_replies_and_records_say_which_domain_it_was(server, text, named, domain, by):
    body = {"messages": said(text)} | ({"domain": named} if named else {})
    reply = server.ask("POST", "/v1/chat/completions", body).json()
    assert (reply["domain"], reply["domain_by"]) == (domain, by)
    assert records(server)[text] == (domain, by != "label")
    stream = server.ask("POST", "/v1/chat/completions", {**body, "stream": True}).text
    first = json.loads(stream.splitlines()[0].removeprefix("data: "))
    assert (first["domain"], first["domain_by"]) == (domain, by)
    body = {"prompt": f"{text} Please."} | ({"domain": named} if named else {})
    pair = server.ask("POST", "/v1/pairs", body).json()
    assert (pair["domain"], pair["domain_by"]) == (domain, by)
    assert records(server)[f"{text} Please."] == (domain, by != "label")


def test_what_the_router_decides_teaches_it_nothing(server):
    before = len(server.live.router._domains[GUESTS].prompts)
    for text in WORLD.prompts(GUESTS, held_out=True):
        server.ask("POST", "/v1/chat/completions", {"messages": said(text)})
    asyncio.run(know_prompts(server.live))
    assert len(server.live.router._domains[GUESTS].prompts) == before
    server.pair("How late does the kitchen close?", domain=GUESTS)
    asyncio.run(know_prompts(server.live))
    assert len(server.live.router._domains[GUESTS].prompts) == before + 1


def test_two_answers_of_ones_own_without_a_domain_are_of_the_default_one(server):
    server.pair(ASKED)
    assert records(server)[ASKED] == ("default", False)


@pytest.mark.parametrize(
    ("text", "named"), [(ASKED, None), (ASKED, "new"), ("Solve 3x = 9.", None)]
)
def test_what_answers_is_what_answers_in_the_domain(server, text, named):
    chain = Chain(server.folder, server.store)
    found, live = chain.promote(GUESTS), server.live
    live.served = Served(server.folder)
    with server.store.read() as connection:
        live.served.follow(live.engine, updates.served(connection))
    body = {"messages": said(text), "model": ""} | ({"domain": named} if named else {})
    reply = server.ask("POST", "/v1/chat/completions", body).json()
    answers = found.adapter if reply["domain"] == GUESTS else BASE
    assert reply["model"] == answers and (answers == BASE) == (text != ASKED or named == "new")
    assert reply["choices"][0]["message"]["content"] == f"{answers} 0"


def test_many_prompts_that_are_like_none_are_offered_as_a_new_domain(server):
    def shown(role="viewer"):
        return server.ask("GET", "/v1/domains", role=role)

    notes = [f"Solve {n}x + {n + 4} = {7 * n}." for n in range(ENOUGH)]
    for text in (*notes[1:], ASKED):
        server.ask("POST", "/v1/chat/completions", {"messages": said(text)})
    before = shown().json()
    assert before["domains"] == [{"domain": name, "prompts": 60} for name in (GUESTS, REVIEWS)]
    assert before["unnamed"] == {"default": ENOUGH - 1, GUESTS: 1}
    assert not before["new_domain_suggested"] and before["examples"] == []
    server.ask("POST", "/v1/chat/completions", {"messages": said(notes[0])})
    server.ask("POST", "/v1/chat/completions", {"messages": said("Hi!"), "domain": "default"})
    after = shown().json()
    assert after["new_domain_suggested"] and len(after["examples"]) == 5
    assert {one["messages"][0]["content"] for one in after["examples"]} < {*notes}
    assert after["unnamed"]["default"] == ENOUGH, "what is named default is not like none"
    assert shown("annotator").status_code == 403


def test_nothing_is_offered_before_domains_can_be_told_apart(make_server):
    server = make_server()
    server.live.engine = Engine()
    for number in range(ENOUGH):
        server.ask("POST", "/v1/chat/completions", {"messages": said(f"Solve {number}x = 3.")})
    found = server.ask("GET", "/v1/domains", role="viewer").json()
    assert not found["told_apart"] and not found["new_domain_suggested"]
