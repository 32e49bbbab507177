"""A judge behind a URL that misbehaves in every way we know: asked by `fastslow judge`, in the
middle of a run online, and now and then in rounds. Each question becomes a verdict, is counted as
undecided, or ends the run with one error, and nothing of the run is lost."""

import json
import re
import threading
from collections import Counter
from pathlib import Path
from zlib import crc32

import pytest
import tiny
from fuzz.server_modes import (
    BODIES,
    HARMLESS,
    KEY,
    TIMEOUT_S,
    TRANSPORT,
    content,
    files_with,
    one_clear_error,
    quick_client,  # noqa: F401
    texts,
    within,
)
from loopback import chat_reply

from fastslow import check_judge, training
from fastslow.errors import JudgeError

TALK = {
    "no verdict": texts("Both have their merits."),
    "no text": texts(""),
    "no content": content(None),
    "two verdicts": texts("A or B"),
    "a small letter": texts("a"),
    "an article": texts("A hard question"),
    "a megabyte": texts("so " * 300_000),
    "control characters": texts("\x1b[2J\x07" * 50),
}
ENDS = BODIES | TRANSPORT | TALK
"""Ways to say nothing."""
PLACES = {"always A": texts("A"), "always B": texts("**B**")}
"""Ways to prefer a place."""
MODES = ENDS | PLACES | HARMLESS


FINAL = {
    "a status of 400", "a status of 404", "a status of 422", "the key in a refusal", "a redirect",
    "a redirect that keeps the request", "an endless body", "a gzip bomb",
}  # fmt: skip
"""Ways that would be the same if they were tried again."""


def right(body):
    """Prefers the answer with more e's."""
    text = body["messages"][-1]["content"]
    first, second = re.findall(r"<answer_.>\n(.*?)\n</answer_.>", text, re.S)
    counts = first.count("e"), second.count("e")
    letter = "C" if counts[0] == counts[1] else "A" if counts[0] > counts[1] else "B"
    return chat_reply([letter], prompt_tokens=9, completion_tokens=1, total_tokens=10)


pytestmark = pytest.mark.usefixtures("quick_client")


class Misbehaving:
    """A judge's server; `goes_wrong(number, question, times)` says when: at which request, for
    which question, put how many times before."""

    def __init__(self, loopback, mode, goes_wrong):
        self.questions, self._lock = Counter(), threading.Lock()

        def handle(path, body):
            question = body["messages"][-1]["content"]
            with self._lock:
                number, times = self.questions.total(), self.questions[question]
                self.questions[question] += 1
            if goes_wrong(number, question, times):
                return lambda handler: mode(handler, right(body))
            return 200, right(body)

        self._server = loopback(handle)
        self.section = {
            "kind": "llm", "url": self._server.url, "model": "m", "retries": 1,
            "timeout_s": TIMEOUT_S, "api_key_env": "MODES_KEY",
        }  # fmt: skip


def first_time_for_a_fifth(number, question, times):
    return times == 0 and crc32(question.encode()) % 5 == 0


def test_there_are_enough_modes():
    assert len(MODES) >= 50


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_probe_says_what_the_judge_is_worth(loopback, mode):
    server = Misbehaving(loopback, MODES[mode], lambda *when: True)
    pairs = [
        {"prompt": f"Say {i}.", "chosen": "e" * (i % 7 + 1), "rejected": f"no {i}"}
        for i in range(24)
    ]

    def ask():
        return check_judge(server.section, pairs)

    if mode in HARMLESS:
        found = within(120, ask)
        assert (found.agreement, found.consistent, found.cost["undecided"]) == (1.0, 1.0, 0)
        assert found.cost["questions"] == 3 * 2 * len(pairs)
        return
    with pytest.raises(JudgeError) as caught:
        within(120, ask)
    said = one_clear_error(caught)
    assert server.section["url"] in said
    assert ("prefers a position" in said) == (mode in PLACES)


@pytest.fixture
def run(recipe, tmp_path):
    """Makes recipes of runs that are judged."""
    prompts = tiny.write_rows(
        tmp_path / "prompts.jsonl", [{"prompt": f"Say {i}."} for i in range(96)]
    )

    def make(kind, judge, **section):
        sampling = {"prompts": str(prompts), "num_generations": 2, "max_new_tokens": 6}
        return recipe(
            "chase=null", "data.eval=null", "train.batch_size=4", "train.max_steps=22",
            "checkpoint.every=50", "objective.name=davidson", judge=judge,
            **{kind: sampling | {"temperature": 1.5} | section},
        )  # fmt: skip

    return make


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_judge_that_breaks_down_in_a_run_leaves_what_was_learned(loopback, run, mode):
    server = Misbehaving(loopback, MODES[mode], lambda number, *_: number >= 24)
    made, said = run("online", server.section), []
    folder = Path(made.output_dir)
    train = lambda: training.train(made, listener=said.append)  # noqa: E731
    if mode in HARMLESS:
        summary = within(180, train)
        assert summary.steps == 22 and summary.data["judge_undecided"] == 0
        assert summary.data["judge_questions"] == len(server.questions)
    else:
        with pytest.raises(JudgeError) as caught:
            within(180, train)
        one_clear_error(caught)
        done = len(tiny.steps(folder))
        assert 1 <= done < 22
        assert (folder / "checkpoints" / f"step-{done:08d}").exists()
    assert not files_with(KEY.encode(), folder) and KEY not in json.dumps(said, default=str)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_judge_that_fails_now_and_then_costs_no_question(loopback, run, mode):
    server = Misbehaving(loopback, MODES[mode], first_time_for_a_fifth)
    made = run("rounds", server.section, count=1, prompts_per_round=20)
    folder = Path(made.output_dir)
    if mode in FINAL:
        with pytest.raises(JudgeError) as caught:
            within(180, lambda: training.train(made))
        one_clear_error(caught)
        assert not list(folder.glob("answers/01/*.jsonl"))
        return
    within(180, lambda: training.train(made))
    counts = json.loads((folder / "answers" / "01" / "counts.json").read_text())
    assert counts["judge_questions"] == len(server.questions) == 2 * counts["rows"]
    assert counts["judge_undecided"] == 0  # What went wrong once was asked again.
    assert not files_with(KEY.encode(), folder)
