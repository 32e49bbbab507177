"""How a server is asked: how long, how often, and what of it comes out."""

import gzip
import json
import time

import pytest
from loopback import chat_reply

from fastslow import openai_client
from fastslow.errors import ReplyError, UnreachableError
from fastslow.openai_client import ChatServer

KEY = "sk-very-secret-1234"


@pytest.fixture
def ask(loopback, monkeypatch):
    """Asks a server that handles requests as given."""
    monkeypatch.setenv("SERVER_KEY", f"{KEY}\n")

    def make(handle, **changes):
        made = loopback(handle)
        settings = {
            "timeout_s": 5.0,
            "retries": 0,
            "api_key_env": "SERVER_KEY",
            "section": "engine",
        }
        server = ChatServer(url=made.url, **settings | changes)
        return lambda: server.chat(model="m", messages=[{"role": "user", "content": "p"}])

    return make


def head(handler, *headers, status=200):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()


def drip_the_body(handler):
    head(handler, ("Content-Type", "application/json"))
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def drip_the_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(200):
        handler.wfile.write(b"a")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize("slowly", [drip_the_body, drip_the_head])
def test_a_reply_has_a_deadline_as_a_whole(ask, slowly):
    asking = ask(lambda path, body: slowly, timeout_s=0.4)
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="no whole reply within 0.4 seconds"):
        asking()
    assert time.monotonic() - began < 2.0


def test_a_huge_reply_is_none(ask, monkeypatch):
    monkeypatch.setattr(openai_client, "LARGEST_REPLY", 100_000)
    whole = chat_reply(["a" * 99_000])
    assert len(ask(lambda path, body: (200, whole))().choices[0].text) == 99_000

    def bomb(handler):
        head(handler, ("Content-Encoding", "gzip"))
        handler.wfile.write(gzip.compress(b" " * 5_000_000))

    for replied in ((200, chat_reply(["a" * 200_000])), bomb):
        with pytest.raises(UnreachableError, match="is longer than 100,000 bytes"):
            ask(lambda path, body, replied=replied: replied, retries=3)()


def test_a_redirect_is_not_followed(ask, loopback):
    elsewhere = loopback(lambda path, body: (200, chat_reply(["a"])))

    def away(handler):
        head(handler, ("Location", elsewhere.url), status=307)

    with pytest.raises(UnreachableError, match=f"redirects to {elsewhere.url}; .* that address"):
        ask(lambda path, body: away, retries=3)()
    assert not elsewhere.requests


def broken_off(handler):
    head(handler, ("Content-Length", "1000"))
    handler.wfile.write(b'{"choices": [')


def no_gzip(handler):
    head(handler, ("Content-Encoding", "gzip"))
    handler.wfile.write(b"{}")


@pytest.mark.parametrize("fault", [500, 503, 408, 409, 429, broken_off, no_gzip])
def test_what_may_pass_is_tried_again(ask, monkeypatch, fault):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    left = [fault, fault]

    def handle(path, body):
        if not left:
            return 200, chat_reply(["a"])
        failure = left.pop()
        return failure if callable(failure) else (failure, None)

    asking = ask(handle, retries=2)
    assert asking().choices[0].text == "a"
    left += [fault] * 3
    with pytest.raises(UnreachableError, match="cannot be reached: .*rerun the command to resume"):
        asking()
    assert not left


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_final(ask, status):
    asked = []

    def refuse(path, body):
        asked.append(path)
        return status, {"error": {"message": "no such field: top_k"}}

    with pytest.raises(UnreachableError, match=f"refuses .* status {status}: .*field: top_k"):
        ask(refuse, retries=3)()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("asked", "paused"),
    [("7", 7.0), ("0", 0.0), ("-3", 0.5), ("nan", 0.5), ("1e9", 0.5), ("soon", 0.5)],
)
def test_a_server_says_when_to_come_again_within_bounds(ask, monkeypatch, asked, paused):
    pauses, left = [], [True]
    monkeypatch.setattr(time, "sleep", pauses.append)

    def handle(path, body):
        if not left:
            return 200, chat_reply(["a"])
        left.pop()
        return lambda handler: head(handler, ("Retry-After", asked), status=429)

    ask(handle, retries=1)()
    assert pauses == [paused]


def echo(status):
    """Sends the key back, as a careless server does."""

    def reply(handler):
        handler.send_response(status)
        handler.send_header("Location", f"http://127.0.0.1:9/?key={KEY}")
        handler.end_headers()
        said = {"error": {"message": f"Incorrect API key {handler.headers['Authorization']}"}}
        handler.wfile.write(json.dumps(said).encode())

    return reply


@pytest.mark.parametrize("status", [200, 302, 400, 401, 429, 500])
def test_no_message_holds_the_key(ask, status):
    with pytest.raises(UnreachableError) as caught:
        ask(lambda path, body: echo(status))()
    error = caught.value
    assert KEY not in str(error) and "[API key]" in str(error) and error.__cause__ is None


def test_a_key_that_is_no_header_is_not_shown(ask, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", f"{KEY}\nschlüssel")
    with pytest.raises(UnreachableError) as caught:
        ask(lambda path, body: (200, chat_reply(["a"])), retries=3)()
    assert KEY not in str(caught.value)


def test_half_a_surrogate_in_a_request_is_one_error(loopback):
    made = loopback(lambda path, body: (200, chat_reply(["a"])))
    server = ChatServer(url=made.url, api_key_env="NONE", timeout_s=5, retries=3, section="engine")
    with pytest.raises(UnreachableError, match="surrogates not allowed"):
        server.chat(model="m", messages=[{"role": "user", "content": "\ud800"}])


def test_a_reply_that_is_none_names_the_server(ask):
    with pytest.raises(ReplyError, match=r"the reply of http://127.* is no JSON: <html>"):
        ask(lambda path, body: (200, b"<html>"))()
