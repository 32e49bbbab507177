"""An engine that misbehaves in every way we know, in a run online and in rounds. What is learned
from is what it said to that prompt, or one error ends the run and leaves a checkpoint."""

import json
import threading
from pathlib import Path

import pytest
import tiny
from fuzz.server_modes import (
    BODIES,
    HARMLESS,
    KEY,
    TIMEOUT_S,
    TRANSPORT,
    changed,
    choices,
    content,
    files_with,
    one_clear_error,
    quick_client,  # noqa: F401
    within,
)
from loopback import chat_reply

from fastslow import training
from fastslow.errors import UnreachableError


def finished_by(reason):
    return choices(lambda choice: choice | {"finish_reason": reason})


def number_of_choices(change):
    """A reply with more or fewer completions than were asked for."""

    def mode(handler, right):
        given = change(right["choices"])
        changed(choices=[c | {"index": i} for i, c in enumerate(given)])(handler, right)

    return mode


OF_ENGINES = {
    "a completion too few": number_of_choices(lambda given: given[1:]),
    "a completion too many": number_of_choices(lambda given: [*given, *given]),
    "the base's completions": changed(model="base"),
    "aborted": finished_by("abort"),
    "filtered": finished_by("content_filter"),
    "called a tool": finished_by("tool_calls"),
    "no reason to end": finished_by(None),
    "longer than asked for": content("the river is calm and bright " * 50),
}
ENDS = BODIES | TRANSPORT | OF_ENGINES
ALIKE = {"the same each time": content("calm"), "no text": content(""), "no content": content(None)}
"""Completions that there is nothing to learn from."""
MODES = ENDS | HARMLESS | ALIKE
RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"


pytestmark = pytest.mark.usefixtures("quick_client")


class Misbehaving:
    """An engine that answers by a count of words, and goes wrong in requests of one kind:
    "completions", "trial" (the one that tries a new module) or "load_lora_adapter"."""

    def __init__(self, loopback, mode, kind, goes_wrong):
        self.given, self._mode, self._kind, self._goes_wrong = {}, mode, kind, goes_wrong
        self._lock, self._count = threading.Lock(), 0
        self.section = {
            "url": loopback(self._handle).url, "model": "base", "retries": 1,
            "timeout_s": TIMEOUT_S, "api_key_env": "MODES_KEY",
        }  # fmt: skip

    def _handle(self, path, body):
        kind = path.rsplit("/", 1)[1]
        if kind == "completions" and "n" not in body:
            kind = "trial"
        right = {"completions": self._right, "trial": tried}.get(kind, lambda _: {})(body)
        with self._lock:
            if kind != self._kind:
                return 200, right
            self._count += 1
            wrong = self._goes_wrong(self._count)
        return (lambda handler: self._mode(handler, right)) if wrong else (200, right)

    def _right(self, body):
        prompt = body["messages"][-1]["content"]
        with self._lock:
            known = self.given.setdefault(prompt, [])
            new = [f"e{len(known) + i} {'e' * (i + 1)}" for i in range(body["n"])]
            known += new
        return chat_reply(new) | {"model": body["model"]}


def tried(body):
    """The reply to a request that tries a module."""
    return chat_reply(["Hi"]) | {"model": body["model"]}


@pytest.fixture
def run(recipe, tmp_path):
    """Makes recipes of runs whose completions are an engine's."""
    (tmp_path / "rule.py").write_text(RULE)
    prompts = tiny.write_rows(
        tmp_path / "prompts.jsonl", [{"prompt": f"Say {i}."} for i in range(64)]
    )

    def make(kind, engine, **section):
        sampling = {"prompts": str(prompts), "num_generations": 2, "max_new_tokens": 24}
        return recipe(
            "chase=null", "data.eval=null", "train.batch_size=4", "train.max_steps=6",
            "checkpoint.every=50", judge={"kind": "rule", "file": str(tmp_path / "rule.py")},
            **{kind: sampling | {"engine": engine.section} | section},
        )  # fmt: skip

    return make


def test_there_are_enough_modes():
    assert len(MODES) >= 50


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_an_engine_that_breaks_down_leaves_what_was_learned(loopback, run, mode):
    engine = Misbehaving(loopback, MODES[mode], "completions", lambda number: number > 12)
    made, said = run("online", engine), []
    folder = Path(made.output_dir)
    train = lambda: training.train(made, listener=said.append)  # noqa: E731
    if mode in ENDS:
        with pytest.raises(UnreachableError) as caught:
            within(180, train)
        one_clear_error(caught)
        done = len(tiny.steps(folder))
        assert done == 3 and (folder / "checkpoints" / f"step-{done:08d}").exists()
    else:
        summary = within(180, train)
        alike = mode in ALIKE
        assert summary.steps == (3 if alike else 6)
        assert summary.data["read"] == (64 if alike else 24)
        assert summary.data["alike"] == (64 - 12 if alike else 0)
    assert not files_with(KEY.encode(), folder) and KEY not in json.dumps(said, default=str)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["load_lora_adapter", "trial"])
@pytest.mark.parametrize("mode", TRANSPORT)
def test_an_engine_that_takes_no_module_ends_the_run(loopback, run, mode, kind):
    engine = Misbehaving(loopback, MODES[mode], kind, lambda number: number > 4)
    made = run("online", engine)
    folder = Path(made.output_dir)
    if mode == "a status of 204" and kind != "trial":  # Success, which is all that matters there.
        assert within(180, lambda: training.train(made)).steps == 6
        return
    with pytest.raises(UnreachableError) as caught:
        within(180, lambda: training.train(made))
    one_clear_error(caught)
    done = len(tiny.steps(folder))
    assert 1 <= done < 6 and (folder / "checkpoints" / f"step-{done:08d}").exists()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_rounds_hold_what_the_engine_said_to_each_prompt(loopback, run, mode):
    engine = Misbehaving(loopback, MODES[mode], "completions", lambda number: number % 7 == 0)
    made = run("rounds", engine, count=1, prompts_per_round=24)
    folder = Path(made.output_dir)
    try:
        within(180, lambda: training.train(made))
    except UnreachableError as error:
        assert mode in ENDS and KEY not in str(error)
        assert not list(folder.glob("answers/01/*.jsonl"))
        return
    rows = [
        json.loads(line)
        for path in folder.glob("answers/01/*.jsonl")
        for line in path.read_text().splitlines()
    ]
    for row in rows:
        assert set(row["sampled"]["answers"]) <= set(engine.given[row["prompt"]])
    assert len(rows) == (24 - 24 // 7 if mode in ALIKE else 24)
