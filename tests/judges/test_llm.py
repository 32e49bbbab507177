"""A language model as the judge, asked over HTTP on this machine."""

import re
import time

import pytest
from loopback import chat_reply

from fastslow.errors import JudgeError
from fastslow.judges import JudgeRequest, LlmJudge
from fastslow.judges.llm import verdict_in
from fastslow.records import Message


@pytest.fixture
def serve(loopback):
    """Starts servers that compare by a function of (first answer, second answer)."""

    def make(decide):
        failures = []

        def handle(path, body):
            if failures:
                failure = failures.pop()
                if failure == "slow":
                    time.sleep(1.0)
                return (500 if failure == "slow" else failure), None
            text = body["messages"][-1]["content"]
            answers = re.findall(r"<answer_.>\n(.*?)\n</answer_.>", text, re.S)
            usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
            return 200, chat_reply([decide(*answers)], **usage)

        server = loopback(handle)
        server.failures = failures
        return server

    return make


def judge_at(server, **changes):
    settings = {
        "url": server.url, "model": "m", "criterion": "brevity", "api_key_env": "JUDGE_KEY",
        "timeout_s": 5.0, "retries": 0, "max_concurrency": 4,
    }  # fmt: skip
    return LlmJudge(**settings | changes)


def longer(first, second):
    if len(first) == len(second):
        return "C"
    return "A" if len(first) > len(second) else "B."


def test_every_two_answers_are_compared_in_both_orders(serve, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret-1")
    server = serve(longer)
    judge = judge_at(server)
    talk = (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "Go on."))
    first, second = judge.judge(
        [JudgeRequest("p", ("ccc", "bb", "aa")), JudgeRequest(talk, ("x", "yy"))]
    )
    assert (
        first.scores == pytest.approx((2.5 / 3, 1 / 3, 1 / 3))
        and first.scores[1] == (first.scores[2])
    )
    assert second.win_rates == (0.25, 0.75)
    usage = judge.usage
    assert (usage.questions, usage.undecided, usage.contradicted) == (8, 0, 0)
    assert (usage.prompt_tokens, usage.reply_tokens) == (800, 8)
    paths, keys, bodies = zip(*server.requests, strict=True)
    assert set(paths) == {"/v1/chat/completions"} and set(keys) == {"Bearer secret-1"}
    assert all(body["temperature"] == 0 and body["model"] == "m" for body in bodies)
    assert any("assistant: Hi.\nuser: Go on." in b["messages"][1]["content"] for b in bodies)
    assert "brevity" in bodies[0]["messages"][0]["content"] and "secret-1" not in judge.name


def test_a_judge_that_favours_a_place_decides_nothing(serve):
    judge = judge_at(serve(lambda first, second: "A"))
    (found,) = judge.judge([JudgeRequest("p", ("one", "two", "three"))])
    assert found.scores == (0.5, 0.5, 0.5) and judge.usage.contradicted == 3


def test_a_judge_that_never_gets_past_the_place_is_given_up(serve):
    judge = judge_at(serve(lambda first, second: "A"))
    asked = [JudgeRequest("p", (f"{i}", f"{i}.")) for i in range(12)]
    for _ in range(3):
        judge.judge(asked)
    with pytest.raises(JudgeError, match="prefers a position.* itself on 48 of the last 48 pairs"):
        judge.judge(asked)


def test_a_judge_that_favours_a_place_but_sees_some_differences_is_kept(serve):
    judge = judge_at(serve(lambda first, second: "B" if "better" in second else "A"))
    plain, clear = JudgeRequest("p", ("one", "two")), JudgeRequest("p", ("so so", "better"))
    judge.judge([plain] * 55 + [clear] * 5)
    assert (judge.usage.contradicted, judge.usage.questions) == (55, 120)


def test_a_judge_that_breaks_down_late_is_given_up_as_soon(serve):
    replies = iter(["C"] * 2000 + ["?"] * 999)
    judge = judge_at(serve(lambda first, second: next(replies)), max_concurrency=1)
    judge.judge([JudgeRequest("p", ("one", "two"))] * 1000)
    judge.judge([JudgeRequest("p", ("one", "two"))] * 16)
    with pytest.raises(JudgeError, match="no verdict on 34 of the last 64 questions"):
        judge.judge([JudgeRequest("p", ("one", "two"))])
    assert judge.usage.undecided == 34


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"), (" b", None), ("**B**", "B"), ("(C)", "C"), ("Answer: B", "B"),
        ("B\nA is too long", "B"), ("A. B is too long", "A"), ("I prefer B over all", "B"),
        ("A is better", "A"), ("A is better than B", None), ("A hard choice", None),
        ("Both A and B", None), ("", None), ("ABC", None),
        ("A < B", "B"), ("A > B", "A"), ("A = B", "C"), ("[[B>>A]]", "B"), ("**A** < **B**", "B"),
        ("(A) > (B), as it is short", "A"), ("A > A", "A"), ("A -> B", None), ("A >= B", None),
        ("(A) vs (B): B", None), ("(A) or (B)?", None), ("A/B", None), ("A, B.", None),
        ("A: fine. B: better", None), ("A: fine\nB: better", None), ("A\nB: too long", "A"),
        ("**A**: it is shorter than B", "A"), ("A, as B is too long", "A"), ("A\n\nB", None),
        ("Neither A", None), ("It is not A", None), ("A is not bad", "A"), ("Not B: A", None),
    ],
)  # fmt: skip
def test_a_verdict_is_one_letter(text, letter):
    assert verdict_in(text) == letter


def test_a_reply_without_a_verdict_is_asked_again_and_then_counts_as_none(serve):
    replies = iter(["Well, both have merits.", "A"] + ["?"] * 3)
    judge = judge_at(serve(lambda first, second: next(replies)), max_concurrency=1)
    (found,) = judge.judge([JudgeRequest("p", ("one", "two"))])
    # A and nothing: three quarters sure that the first wins.
    assert found.win_rates == pytest.approx(((0.5 + 0.75) / 2, (0.5 + 0.25) / 2))
    assert (judge.usage.questions, judge.usage.undecided) == (2, 1)
    assert judge.usage.prompt_tokens == 500


def test_a_judge_that_talks_nonsense_is_given_up(serve):
    judge = judge_at(serve(lambda first, second: "I am a teapot"))
    with pytest.raises(
        JudgeError, match="no verdict on 6 of the last 6 questions.*replied I am a teapot"
    ):
        judge.judge([JudgeRequest("p", ("one", "two", "three"))])


@pytest.mark.parametrize("failure", [500, 429, "slow"])
def test_failures_are_tried_again_and_then_stop_with_a_word(serve, failure):
    server = serve(longer)
    server.failures += [failure]
    patient = judge_at(server, retries=2, timeout_s=0.5, max_concurrency=1)
    (found,) = patient.judge([JudgeRequest("p", ("aa", "b"))])
    assert found.win_rates == (0.75, 0.25) and len(server.requests) == 3
    server.failures += [failure] * 3
    with pytest.raises(JudgeError, match="cannot be reached: .*rerun the command to resume"):
        judge_at(server, retries=0, timeout_s=0.5).judge([JudgeRequest("p", ("aa", "b"))])


def test_a_server_that_is_not_there(serve):
    judge = judge_at(serve(longer), url="http://127.0.0.1:9/v1")
    with pytest.raises(JudgeError, match="llm m at http://127.0.0.1:9/v1 cannot be reached"):
        judge.judge([JudgeRequest("p", ("aa", "b"))])
