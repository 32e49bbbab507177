"""Completions that are mostly cut off: said once, wherever a judge compares them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from fastslow import training
from fastslow.training.on_policy.truncation import LEAST, TruncationWatch, truncation_warning

RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
SHORT = ("data.eval=null", "chase=null", "train.batch_size=8", "train.max_steps=4")


@pytest.mark.parametrize(
    ("cut", "of", "expected"),
    [(17, 32, True), (16, 32, False), (LEAST, LEAST, True), (LEAST - 1, LEAST - 1, False)],
)
def test_more_than_half_of_enough_completions_bring_a_warning(cut, of, expected):
    told = truncation_warning("online", cut=cut, of=of, longest=64, room=1024)
    assert (told is not None) == expected
    if told:
        assert told.startswith(f"{cut} of {of} completions were cut off at online.max_new_tokens")
        assert "= 64" in told and "data.max_length = 1024" in told and "\n" not in told


def test_a_watch_says_it_once_also_when_its_run_is_resumed():
    watch, counts = TruncationWatch("filter", 64, 1024), Counter()
    watch.see([False] * 20 + [True] * 10, counts)
    assert watch.take() == []
    for _ in range(3):
        watch.see([True] * 20, counts)
    (told,) = watch.take()
    assert told.startswith("20 of 20 completions were cut off at filter.max_new_tokens = 64")
    resumed = TruncationWatch("filter", 64, 1024)
    resumed.see([True] * 20, Counter(dict(counts)))
    assert watch.take() == resumed.take() == []


def test_a_watch_adds_up_completions_that_come_a_few_at_a_time():
    watch, counts = TruncationWatch("online", 64, 1024), Counter()
    told = []
    for cut in ([False] * 4, [True] * 4, [False] * 4, [False] * 4, *([True] * 4,) * 4):
        watch.see(cut, counts)
        told.append(watch.take())
    assert told[:-1] == [[]] * 7 and told[-1][0].startswith("16 of 16 completions")


@pytest.fixture
def sampled(recipe, train_file, tmp_path):
    """Trains on completions of so many tokens; returns the folder and the warnings heard of it."""
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)

    def run(kind, longest, *overrides):
        section = {"max_new_tokens": longest, "temperature": 1.5}
        if kind == "rounds":
            section |= {"count": 2, "prompts_per_round": 12}
        if kind != "filter":
            section |= {"prompts": str(train_file)}
        made = recipe(*SHORT, *overrides, judge={"kind": "rule", "file": str(rule)},
                      **{kind: section})  # fmt: skip
        seen = []
        training.train(made, listener=seen.append)
        warnings = [event["message"] for event in seen if event["event"] == "warning"]
        return Path(made.output_dir), [text for text in warnings if "cut off" in text]

    return run


@pytest.mark.parametrize("kind", ["online", "rounds", "filter"])
def test_a_run_whose_completions_are_stubs_says_so_once(sampled, kind):
    folder, (told,) = sampled(kind, 2)
    assert f"cut off at {kind}.max_new_tokens = 2" in told and "data.max_length = 96" in told
    if kind == "rounds":
        counts = json.loads((folder / "answers" / "01" / "counts.json").read_text())
        assert told.startswith(f"{counts['truncated']} of {counts['answers']} completions")
    else:
        lines = (folder / "events.jsonl").read_text().splitlines()
        warned = [event for event in map(json.loads, lines) if event["event"] == "warning"]
        assert [event["message"] for event in warned] == [told]
