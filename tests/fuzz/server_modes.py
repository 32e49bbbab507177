"""Ways in which a server misbehaves, for the tests of judges and of engines behind a URL.

A mode is called with the handler of a request and the reply that would be right, as JSON.
"""

import gzip
import json
import socket
import struct
import threading
import time

import pytest
from loopback import chat_reply

from fastslow import openai_client

KEY = "sk-never-to-be-shown-4711"
TIMEOUT_S = 3.0
"""How long a reply may take: long enough for a right one on a busy machine."""
SLOW_S = 2 * TIMEOUT_S
"""How long a slow mode takes."""


@pytest.fixture
def quick_client(monkeypatch):
    """A client of servers that gives up soon, with a key."""
    monkeypatch.setenv("MODES_KEY", KEY)
    monkeypatch.setattr(openai_client, "LONGEST_OWN_PAUSE_S", 0.01)
    monkeypatch.setattr(openai_client, "LARGEST_REPLY", 3_000_000)


def one_clear_error(caught):
    said = str(caught.value)
    assert len(said) < 2_000 and said.isprintable() and KEY not in said
    return said


def send(handler, body, *, status=200, headers=()):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())


def raw(body, **rest):
    """The same bytes or JSON whatever was asked."""
    return lambda handler, right: send(handler, body, **rest)


def encoded(write):
    """The right reply in other bytes."""
    return lambda handler, right: send(handler, write(json.dumps(right, ensure_ascii=False)))


def changed(**fields):
    """The right reply with other fields."""
    return lambda handler, right: send(handler, right | fields)


def choices(change):
    """The right reply with its choices changed one by one."""
    return lambda handler, right: send(
        handler, right | {"choices": [change(dict(choice)) for choice in right["choices"]]}
    )


def content(value):
    """The right reply with another content of its messages."""
    return choices(lambda choice: choice | {"message": choice["message"] | {"content": value}})


def texts(*values):
    """A right reply that says something else."""
    return raw(chat_reply(list(values)))


def error(status, headers=()):
    said = {"error": {"message": f"status {status}"}}
    return raw(said, status=status, headers=headers)


def reset(handler, right):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def break_off(handler, right):
    body = json.dumps(right).encode()
    send(handler, body[: len(body) // 2], headers=[("Content-Length", str(len(body)))])


def hang(handler, right):
    time.sleep(SLOW_S)


def drip(*, head):
    def slowly(handler, right):
        if not head:
            send(handler, b"")
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " if head else b"")
        for _ in range(int(SLOW_S / 0.05)):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    return slowly


def endless(handler, right):
    send(handler, b"")
    until = time.monotonic() + SLOW_S
    while time.monotonic() < until:
        handler.wfile.write(b" " * 65_536)


def send_the_key_back(handler, right):
    send(handler, {"error": {"message": handler.headers["Authorization"]}}, status=401)


BODIES = {
    "a page": raw(b"<html>502 Bad Gateway</html>"),
    "half of the JSON": encoded(lambda text: text[: len(text) // 2].encode()),
    "nothing": raw(b""),
    "blanks": raw(b" \r\n "),
    "null": raw(b"null"),
    "a number": raw(b"7"),
    "a list": raw(b"[1, 2]"),
    "a deep list": raw(b"[" * 100_000),
    "a long number": raw(b'{"choices": ' + b"9" * 5_000 + b"}"),
    "an event stream": raw(b'data: {"choices": [{"delta": {"content": "A"}}]}\n\n'),
    "UTF-16": encoded(lambda text: text.encode("utf-16")),
    "no UTF-8": encoded(lambda text: text.encode() + b"\xff\xfe"),
    "no gzip": raw(b"{}", headers=[("Content-Encoding", "gzip")]),
    "a gzip bomb": raw(gzip.compress(b" " * 10_000_000), headers=[("Content-Encoding", "gzip")]),
    "choices that are text": changed(choices="A"),
    "choices that are null": changed(choices=None),
    "no choice": changed(choices=[]),
    "a choice that is text": changed(choices=["A"]),
    "no message": choices(lambda choice: {"index": choice["index"]}),
    "a message that is text": choices(lambda choice: choice | {"message": "A"}),
    "a content that is a number": content(7),
    "a content that is a picture": content([{"type": "image_url", "image_url": "x"}]),
    "half a surrogate": content("\ud800"),
    "another role": choices(lambda c: c | {"message": {"role": "user", "content": "A"}}),
    "one index for all": choices(lambda choice: choice | {"index": 3}),
    "an error in a right reply": changed(error={"message": "out of memory"}),
}
"""Replies with status 200 that are none."""

TRANSPORT = {
    "a redirect": raw(b"", status=302, headers=[("Location", "http://127.0.0.1:9/")]),
    "a redirect that keeps the request": raw(
        b"", status=307, headers=[("Location", "http://127.0.0.1:9/")]
    ),
    "a status of 204": raw(b"", status=204),
    "a status of 400": error(400),
    "a status of 404": error(404),
    "a status of 422": error(422),
    "a status of 429": error(429, [("Retry-After", "0")]),
    "a status of 429 for years": error(429, [("Retry-After", "1e12")]),
    "a status of 500": error(500),
    "a status of 503 with a page": raw(b"<html>", status=503),
    "the key in a refusal": send_the_key_back,
    "a reset": reset,
    "half a reply": break_off,
    "silence": hang,
    "a body byte by byte": drip(head=False),
    "a head byte by byte": drip(head=True),
    "an endless body": endless,
}
"""Replies that never come, or come with another status."""

HARMLESS = {
    "counts that are null": changed(usage={"prompt_tokens": None, "completion_tokens": None}),
    "counts that are text": changed(usage="many"),
    "counts below zero": changed(usage={"prompt_tokens": -5, "completion_tokens": 1e300}),
    "no counts, id or model": lambda handler, right: send(handler, {"choices": right["choices"]}),
    "a model that is a number": changed(model=7),
    "parts of text": choices(
        lambda c: c
        | {"message": {"content": [{"type": "text", "text": c["message"]["content"]}]}}
    ),
    "the choices turned round": lambda handler, right: send(
        handler, right | {"choices": right["choices"][::-1]}
    ),
}  # fmt: skip
"""Odd replies that still say what they have to."""


class Unfinished(AssertionError):
    """Something took longer than it may."""


def within(seconds, work):
    """What `work` returns or raises, unless it takes too long."""
    outcome = []

    def run():
        try:
            outcome.append((work(), None))
        except BaseException as failure:
            outcome.append((None, failure))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise Unfinished(f"not finished after {seconds} seconds")
    (result, failure) = outcome[0]
    if failure is not None:
        raise failure
    return result


def files_with(text, folder):
    """Files under a folder that hold a text."""
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]
