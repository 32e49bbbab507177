"""What a server's reply may look like, and what is made of each."""

import json

import pytest
from loopback import chat_reply

from fastslow.errors import ReplyError
from fastslow.openai_replies import Choice, quoted, read_reply


def body(*choices, **rest):
    return json.dumps({"choices": list(choices), **rest}).encode()


def message(content, **rest):
    return {"message": {"role": "assistant", "content": content}, **rest}


def texts(raw):
    return [choice.text for choice in read_reply(raw).choices]


def test_a_whole_reply():
    counts = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    reply = read_reply(json.dumps(chat_reply(["a", "b"], finish="length", **counts)).encode())
    assert reply.choices == (Choice("a", "length"), Choice("b", "length"))
    assert (reply.model, reply.prompt_tokens, reply.completion_tokens) == ("m", 7, 2)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (body(message("a", index=1), message("b", index=0)), ["b", "a"]),
        (body({"index": 0, "text": "plain"}), ["plain"]),
        (body(message([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])), ["ab"]),
        (body(message(None)), [""]),
        (body({"message": {"content": "no role"}}), ["no role"]),
        (body(message("a"), usage="lots", model=7), ["a"]),
        (body(message("grün"), error=None), ["grün"]),
    ],
)
def test_what_is_read_without_a_fault(raw, wanted):
    assert texts(raw) == wanted


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": "12", "completion_tokens": -3},
        {"prompt_tokens": 1.5, "completion_tokens": True},
        [1, 2],
        None,
    ],
)
def test_counts_that_are_none_count_nothing(usage):
    reply = read_reply(body(message("a"), usage=usage))
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"<html>502</html>", "is no JSON: <html>502</html>"),
        (b'{"choices": [{"mess', "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"9" * 5_000, "is no JSON"),
        ('{"choices": "grün"}'.encode("latin-1"), "is no JSON"),
        (body(message("a")).decode().encode("utf-16"), "is no JSON"),
        (b"null", "no object: null"),
        (b"[]", r"no object: \[\]"),
        (b'{"choices": "A"}', "no list of choices: A"),
        (b"{}", "no list of choices: None"),
        (body(), r"no list of choices: \[\]"),
        (body("A"), "choices that are no objects"),
        (body({"delta": {"content": "a"}}), "a choice without a message"),
        (body({"message": "a"}), "a choice without a message"),
        (body({"message": {"role": "user", "content": "a"}}), "of the role user"),
        (body({"message": {"role": ["x"], "content": "a"}}), "of the role"),
        (body(message(7)), "content is no text"),
        (body(message([{"type": "image_url"}])), "content is no text"),
        (body(message("a", index=0), message("b", index=0)), "2 choices with the indices"),
        (body(message("a", index=1)), "1 choices with the indices"),
        (body(message("a", index=True)), "1 choices with the indices"),
        (body(message("a", index="0")), "1 choices with the indices"),
        (b'{"choices": [{"message": {"content": "\\ud800"}}]}', "is no Unicode text"),
        (b'{"error": {"message": "CUDA out of memory"}, "choices": []}', "CUDA out of memory"),
    ],
)  # fmt: skip
def test_what_is_no_reply(raw, said):
    with pytest.raises(ReplyError, match=said):
        read_reply(raw)


def test_a_quotation_is_short_and_plain():
    assert quoted(b"\x1b[31mred\x07\r\n and\xff") == "?[31mred? and\ufffd"
    assert quoted("a" * 500) == "a" * 120 + "..."
    with pytest.raises(ReplyError) as caught:
        read_reply(b"<" * 10_000_000)
    assert len(str(caught.value)) < 200
