"""Every route: for whom it is, what it takes and what it gives."""

import time

import pytest

from fastslow.streams.formats import read_row

OPEN = {"/", "/healthz"}
"""The page itself, which holds nothing, and whether the server lives."""
BODIES = {
    "/v1/pairs": {"prompt": "Hi", "answers": [{"text": "a"}, {"text": "b"}]},
    "/v1/pairs/next": {},
    "/v1/votes": {"pair_id": 1, "verdict": "a"},
    "/v1/ratings": {"answer_id": 1, "verdict": "up"},
    "/v1/edits": {"answer_id": 1, "text": "better"},
    "/v1/people": {"name": "new", "role": "viewer"},
    "/v1/people/{person_id}/enabled": {"enabled": True},
}


def routes(app):
    paths = app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_every_route_is_closed_without_a_token(make_server):
    server = make_server(failures="1000/minute")
    found = routes(server.app)
    assert len(found) >= 27 and {path for _, path in found} >= {*BODIES, *OPEN}
    for method, path in found:
        if path in OPEN:
            continue
        at = path.replace("{vote_id}", "1").replace("{person_id}", "1")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            reply = server.client.request(method, at, json=BODIES.get(path), headers=headers)
            assert reply.status_code == 401, (method, path, reply.text)
            assert reply.headers["www-authenticate"] == "Bearer"


def test_a_schema_of_the_api_is_not_given_away(server):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert server.ask("GET", path, role="admin").status_code == 404


ROLES = {
    ("GET", "/v1/me"): "admin annotator viewer service",
    ("POST", "/v1/pairs"): "admin service",
    ("POST", "/v1/pairs/next"): "admin annotator service",
    ("GET", "/v1/votes"): "admin annotator service",
    ("GET", "/v1/export"): "admin viewer service",
    ("GET", "/v1/statistics"): "admin viewer service",
    ("GET", "/metrics"): "admin viewer service",
    ("POST", "/v1/people"): "admin",
    ("POST", "/v1/people/1/token"): "admin",
    ("PUT", "/v1/people/{person_id}/enabled"): "admin",
    ("POST", "/v1/people/{person_id}/forget"): "admin",
    ("POST", "/v1/people/{person_id}/let-through"): "admin",
}


@pytest.mark.parametrize(("route", "roles"), ROLES.items())
def test_each_route_is_for_its_roles(server, route, roles):
    method, path = route
    for role in ("viewer", "annotator", "service", "admin"):
        body = BODIES.get(path)
        if path == "/v1/people":
            body = {"name": f"made by {role}", "role": "viewer"}
        reply = server.ask(method, path.replace("{person_id}", "3"), body, role=role)
        assert (reply.status_code < 400) == (role in roles.split()), (role, reply.text)
        assert reply.status_code < 400 or reply.status_code == 403


def test_from_a_pair_to_a_row_that_can_be_trained_on(server):
    pair = server.pair("What is rain?", "Water.", "Sand.", domain="talk")
    (shown,) = server.next()
    assert shown["id"] == pair and shown["messages"][-1]["content"] == "What is rain?"
    assert {shown["a"]["text"], shown["b"]["text"]} == {"Water.", "Sand."}
    verdict = "a" if shown["a"]["text"] == "Water." else "b"
    receipt = server.vote(pair, verdict, key="mine")
    assert receipt.status_code == 202
    again = server.vote(pair, verdict, key="mine").json()
    assert again == {**receipt.json(), "repeated": True}
    pending = server.ask("GET", "/v1/export?include=pending", role="viewer").json()
    assert len(pending["rows"]) == 1 and pending["cursor"] == 0
    assert server.ask("GET", "/v1/export", role="viewer").json()["rows"] == []
    server.now += 61
    with server.client:  # Starts what runs beside the requests.
        wait(lambda: server.ask("GET", "/v1/export", role="viewer").json()["rows"])
    page = server.ask("GET", "/v1/export", role="viewer").json()
    example = read_row(page["rows"][0], source="here")
    assert (example.chosen[0].content, example.domain) == ("Water.", "talk")
    assert page["cursor"] == 1 and page["more"] is False
    assert server.ask("GET", "/v1/export?after=1", role="viewer").json()["rows"] == []
    (own,) = server.ask("GET", "/v1/votes").json()["votes"]
    assert own["state"] in ("kept", "held_out") and own["prompt"] == "What is rain?"


def wait(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_nothing_of_a_pair_tells_where_its_answers_come_from(server):
    body = {"prompt": "Hi", "answers": [{"text": "x", "model": "m1"}, {"text": "y", "model": "m2"}]}
    server.ask("POST", "/v1/pairs", body, role="service")
    reply = server.ask("POST", "/v1/pairs/next", {})
    assert "m1" not in reply.text and "m2" not in reply.text
    assert set(reply.json()["pairs"][0]) == {"id", "domain", "messages", "a", "b", "until"}
    assert set(reply.json()["pairs"][0]["a"]) == {"text", "html", "truncated"}


def test_a_vote_is_taken_back_and_given_again(server):
    pair = server.pair()
    server.next()
    number = server.vote(pair, "a").json()["id"]
    assert server.vote(pair, "b").status_code == 409
    gone = server.ask("DELETE", f"/v1/votes/{number}")
    assert gone.json()["retracted"] and gone.json()["retractable_until"] is None
    assert [one["id"] for one in server.next()] == [pair]
    assert server.vote(pair, "b").status_code == 202
    states = [one["state"] for one in server.ask("GET", "/v1/votes").json()["votes"]]
    assert states == ["waiting", "retracted"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/votes", {"pair_id": 99, "verdict": "a"}, 404, "no pair 99"),
        ("/v1/votes", {"pair_id": 1, "verdict": "left"}, 422, "verdict"),
        ("/v1/votes", {"pair_id": 1, "verdict": "a"}, 403, "not given to you"),
        ("/v1/votes", {"pair_id": 1, "verdict": "a", "why": "x"}, 422, "why: Extra"),
        ("/v1/ratings", {"answer_id": 99, "verdict": "up"}, 404, "no answer 99"),
        ("/v1/edits", {"answer_id": 1, "text": " "}, 422, "empty"),
        ("/v1/pairs", {"prompt": "Hi"}, 409, "no engine"),
        ("/v1/pairs", {"prompt": "Hi", "messages": []}, 422, "either prompt or messages"),
        ("/v1/pairs", {"prompt": " ", "answers": [{"text": "a"}, {"text": "b"}]}, 422, "user"),
        ("/v1/pairs/next", {"count": 0}, 422, "count"),
    ],
)
def test_what_cannot_be_done_is_one_error_that_repeats_nothing(server, path, body, status, said):
    server.pair(first="a", second="b")
    role = "service" if path in ("/v1/pairs", "/v1/edits") else "annotator"
    reply = server.ask("POST", path, body, role=role)
    assert reply.status_code == status, reply.text
    assert said in reply.json()["error"]["message"]
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_a_key_is_needed_and_is_for_one_thing(server):
    pair = server.pair()
    server.next()
    headers = {"Authorization": f"Bearer {server.tokens['annotator']}"}
    body = {"pair_id": pair, "verdict": "a"}
    reply = server.client.post("/v1/votes", json=body, headers=headers)
    assert reply.status_code == 422 and "Idempotency-Key" in reply.text
    server.vote(pair, "a", key="k")
    assert server.vote(pair, "b", key="k").status_code == 422


def test_several_people_and_gold_questions_show_how_well_they_agree(server):
    tokens = [server.tokens["annotator"], server.person("second", "annotator")]
    pair = server.pair(needs=2)
    for token, verdict in zip(tokens, "ab", strict=True):
        assert [one["id"] for one in server.next(token=token)] == [pair]
        server.vote(pair, verdict, token=token)
    found = server.ask("GET", "/v1/statistics", role="admin").json()
    people = {one["name"]: one for one in found["people"]}
    assert (people["annotator"]["shared"], people["annotator"]["agreed"]) == (1, 0)
    assert found["counts"]["sent"] == {"a": 1, "b": 1} and found["counts"]["open_pairs"] == 0
    assert sum(found["hourly"]) == 2 and found["hourly"][-1] == 2


def test_people_come_and_go(server):
    made = server.ask("POST", "/v1/people", {"name": "eve", "role": "annotator"}, role="admin")
    eve = made.json()
    assert server.ask("GET", "/v1/me", token=eve["token"]).json()["name"] == "eve"
    other = server.ask("POST", f"/v1/people/{eve['id']}/token", role="admin").json()["token"]
    assert server.ask("GET", "/v1/me", token=eve["token"]).status_code == 401
    assert server.ask("GET", "/v1/me", token=other).status_code == 200
    off = {"enabled": False}
    server.ask("PUT", f"/v1/people/{eve['id']}/enabled", off, role="admin")
    assert server.ask("GET", "/v1/me", token=other).status_code == 401
    taken = server.ask("POST", "/v1/people", {"name": "eve", "role": "viewer"}, role="admin")
    assert taken.status_code == 422 and "taken" in taken.text
    own = server.ask("GET", "/v1/me", role="admin").json()["id"]
    oneself = server.ask("PUT", f"/v1/people/{own}/enabled", off, role="admin")
    assert oneself.status_code == 422 and "disable yourself" in oneself.json()["error"]["message"]
    nobody = server.ask("PUT", "/v1/people/99/enabled", off, role="admin")
    assert nobody.status_code == 404


def test_prometheus_reads_the_numbers(server):
    server.pair()
    (shown,) = server.next()
    server.vote(shown["id"], "tie")
    text = server.ask("GET", "/metrics", role="service").text
    assert 'fastslow_votes{verdict="tie"} 1.0' in text and "fastslow_waiting 1.0" in text
    assert "annotator" not in text


def test_healthz_says_whether_the_store_answers(server):
    assert server.client.get("/healthz").text == "ok"
    server.store._engine.dispose()
    server.store.close()
