"""Rows of every accepted form, and the reason given for every row that cannot be used."""

import datetime
import json
from dataclasses import asdict

import pytest

from fastslow.records import Message, Pair
from fastslow.streams import RowError, examples_of_row, row_of
from fastslow.streams.formats import read_prompt, read_row, unused_columns
from fastslow.streams.shapes import renamed
from fastslow.training.data.serialization import example_from_json


def read(**row):
    return examples_of_row(row, source="f:1")


USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
OTHER = {"role": "assistant", "content": "Go"}
PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}


def test_text_pairs_keep_scores_domain_and_unknown_columns():
    (pair,) = read(
        prompt="p",
        chosen="a",
        rejected="b",
        domain="d",
        score_chosen=2,
        score_rejected=1.5,
        who="x",
    )
    assert (pair.prompt, pair.chosen, pair.rejected, pair.domain) == ("p", "a", "b", "d")
    assert (pair.score_chosen, pair.score_rejected) == (2.0, 1.5)
    assert pair.provenance == {"who": "x"} and pair.source == "f:1" and pair.verdict == "chosen"


def test_the_recipe_names_a_domain_where_the_row_does_not():
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}
    assert examples_of_row(row, source="")[0].domain == "default"
    row["domain"] = "own"
    assert examples_of_row(row, source="", domain="given")[0].domain == "own"
    del row["domain"]
    assert examples_of_row(row, source="", domain="given")[0].domain == "given"


def test_chat_pairs_with_text_or_turns_as_answers():
    (pair,) = read(prompt=[USER], chosen=[ANSWER], rejected="Go")
    assert pair.prompt == (Message("user", "Hi"),)
    assert pair.chosen == (Message("assistant", "Hello"),) and pair.rejected == "Go"


def test_implicit_chat_prompt_is_the_shared_beginning():
    (pair,) = read(chosen=[USER, ANSWER], rejected=[USER, OTHER])
    assert pair.prompt == (Message("user", "Hi"),)
    assert pair.chosen == (Message("assistant", "Hello"),)


def test_answers_that_repeat_the_prompt_are_cut():
    (pair,) = read(prompt="Hi", chosen=[USER, ANSWER], rejected=[USER, OTHER])
    assert pair.chosen == (Message("assistant", "Hello"),)


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        ("Human: 2+2?\n\nAssistant:", " I say four", " I say five"),
        (
            "\n\nHuman: Hi\n\nAssistant:",
            " Yes?\n\nHuman: Go\n\nAssistant: a",
            " Yes?\n\nHuman: Stop\n\nAssistant: a",
        ),
        ("<s>[INST] Hi [/INST]", " So a", " So b"),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "So a", "So b"),
    ],
)
def test_texts_without_a_prompt_part_where_the_assistant_begins(prompt, first, second):
    (pair,) = read(chosen=prompt + first, rejected=prompt + second)
    assert (pair.prompt, pair.chosen, pair.rejected) == (prompt, first, second)


def test_completions_with_scores_make_every_ordered_pair():
    pairs = read(prompt="p", completions=["low", "high", "also low"], scores=[1, 3, 1])
    assert [(p.chosen, p.rejected, p.verdict) for p in pairs] == [
        ("high", "low", "chosen"),
        ("high", "also low", "chosen"),
        ("low", "also low", "tie"),
    ]
    assert (pairs[0].score_chosen, pairs[0].score_rejected) == (3.0, 1.0)


def test_completions_with_ranks_prefer_the_lower():
    pairs = read(prompt="p", completions=["second", "first"], ranks=[2, 1])
    assert [(p.chosen, p.rejected) for p in pairs] == [("first", "second")]
    assert pairs[0].score_chosen is None


def test_an_answer_given_twice_is_as_good_as_itself():
    pairs = read(prompt="p", completions=["a", "a", "b"], ranks=[1, 2, 3])
    assert [(p.chosen, p.rejected, p.verdict) for p in pairs] == [
        ("a", "a", "tie"),
        ("a", "b", "chosen"),
        ("a", "b", "chosen"),
    ]


@pytest.mark.parametrize(
    ("verdicts", "chosen", "verdict", "confidence"),
    [
        (["chosen", "chosen"], "a", "chosen", 1.0),
        (["rejected"], "b", "chosen", 1.0),
        (["chosen", "rejected", "rejected"], "b", "chosen", 2 / 3),
        (["chosen", "tie"], "a", "chosen", 0.75),
        (["chosen", "rejected"], "a", "tie", 1.0),  # Both orders, and they contradict each other.
        (["tie", "both_bad"], "a", "tie", 1.0),
        (["both_bad", "both_bad"], "a", "both_bad", 1.0),
    ],
)
def test_several_verdicts_on_one_pair(verdicts, chosen, verdict, confidence):
    (pair,) = read(
        prompt="p", chosen="a", rejected="b", verdicts=verdicts, score_chosen=1, score_rejected=2,
        win_rate_chosen=0.3,
    )  # fmt: skip
    assert (pair.chosen, pair.verdict) == (chosen, verdict)
    assert pair.confidence == pytest.approx(confidence)
    swapped = chosen == "b"
    assert (pair.score_chosen, pair.score_rejected) == ((2, 1) if swapped else (1, 2))
    assert (pair.win_rate_chosen, pair.win_rate_rejected) == (
        (None, 0.3) if swapped else (0.3, None)
    )


def test_a_tie_is_not_a_preference():
    (pair,) = read(prompt="p", chosen="a", rejected="b", verdict="tie")
    assert pair.verdict == "tie"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "p", "chosen": "a"}, "no rejected"),
        ({"prompt": "p"}, "no chosen and no rejected"),
        ({"prompt": "p", "chosen": None, "rejected": "b"}, "no chosen"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "prompt is empty"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "prompt is empty"),
        ({"prompt": "p", "chosen": " \n", "rejected": "b"}, "chosen is empty"),
        ({"prompt": "p", "chosen": "a", "rejected": ""}, "rejected is empty"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "identical"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt must be text or a list"),
        ({"prompt": "p", "chosen": 1.5, "rejected": "b"}, "chosen must be text"),
        ({"prompt": ["x"], "chosen": "a", "rejected": "b"}, "prompt has str"),
        ({"prompt": [{"role": "cat", "content": "x"}], "chosen": "a", "rejected": "b"}, "'cat'"),
        ({"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}, "content is NoneType"),
        ({"prompt": [USER, ANSWER], "chosen": "a", "rejected": "b"}, "ends with an assistant"),
        ({"prompt": [USER], "chosen": [USER], "rejected": "b"}, "chosen is empty"),
        ({"prompt": "Hi ", "chosen": [USER, ANSWER], "rejected": "b"}, "not the prompt's"),
        ({"prompt": "a \ud83d", "chosen": "a", "rejected": "b"}, "half a character"),
        (
            {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2], "verdict": "tie"},
            "verdict: for rows with chosen and rejected only",
        ),
        (
            {"prompt": "p", "completion": "a", "label": True, "confidence": 0.9, "score_chosen": 1},
            "confidence, score_chosen: for rows with chosen and rejected only",
        ),
        (
            {"prompt": "p", "chosn": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 1},
            r"^no chosen \(columns: .*data\.columns: {chosen: chosn}",
        ),
        ({"prompt": "p", "completions": ["a"], "scores": [1]}, "at least 2 responses, not 1"),
        (
            {"prompt": "p", "completions": ["a", "b"], "scores": [1, "x"]},
            r"scores\[1\] must be a finite number, not 'x'",
        ),
        (
            PAIR | {"verdict": "rejected"},
            "allowed are 'chosen', 'tie', 'both_bad'; or swap chosen and rejected",
        ),
        ({"prompt": "p", "chosen": [ANSWER, USER], "rejected": "b"}, "ends with a user turn"),
        ({"chosen": "abc", "rejected": "xyz"}, "are no transcripts that share one"),
        ({"chosen": "Say yes", "rejected": "Say no"}, "are no transcripts that share one"),
        ({"prompt": None, "chosen": "The a", "rejected": "The b"}, "no prompt"),
        ({"promt": "Hi", "chosen": "The a", "rejected": "The b"}, "data.columns: {prompt: promt}"),
        (
            {"Prompts": "Hi", "chosen": [USER, ANSWER], "rejected": [USER, OTHER]},
            "no prompt; rename",
        ),
        ({"chosen": [ANSWER], "rejected": [OTHER]}, "have no common beginning"),
        (
            {"prompt": "p", "preferred": "a", "dispreferred": "b"},
            "chosen: preferred, rejected: dispreferred",
        ),
        (PAIR | {"images": ["x.png"]}, "it has images"),
        (
            {
                "prompt": [{"role": "user", "content": [{"type": "image"}]}],
                "chosen": "a",
                "rejected": "b",
            },
            "a part of type 'image'",
        ),
        (
            PAIR | {"tools": "{"},
            "tools is text that is not JSON",
        ),
        (
            {
                "prompt": "p",
                "chosen": "a",
                "rejected": "b",
                "tools": {},
                "chat_template_kwargs": [1],
            },
            "chat_template_kwargs must be an object",
        ),
        (
            PAIR | {"history": "before"},
            "history must be a list",
        ),
        (PAIR | {"history": [["x"]]}, "history must hold"),
        (PAIR | {"system": 3}, "system must be text"),
        (
            {
                "prompt": [{"role": "system", "content": "A"}, USER],
                "system": "B",
                "chosen": "a",
                "rejected": "b",
            },
            "the column system and the system turn of the prompt or responses differ",
        ),
        (
            {"prompt": "p", "completions": ["a", "b"], "scores": [2, 1], "ranks": [2, 1]},
            "scores and ranks contradict each other",
        ),
        (
            PAIR | {"weight": 10**400},
            "a finite number, not 1000",
        ),
        (PAIR | {"domain": "d\ud800"}, "domain has half"),
        ({"prompt": "p", "completion": "a", "label": 2}, "true or false, or 1 or 0, not 2"),
        ({"prompt": "p", "completion": "a", "label": "1"}, "true or false, or 1 or 0"),
        ({"chosen": [ANSWER], "rejected": "x"}, "both be text or both be messages"),
        (PAIR | {"verdict": "maybe"}, "'maybe'"),
        (PAIR | {"verdicts": ["x"]}, "'x'; allowed are"),
        (PAIR | {"verdicts": []}, "at least one"),
        (
            PAIR | {"score_chosen": float("inf")},
            "score_chosen must be a finite number, not inf",
        ),
        (
            PAIR | {"verdicts": ["tie"], "confidence": 1},
            "one or the other",
        ),
        (PAIR | {"domain": 7}, "domain must be a name"),
        (PAIR | {"score_chosen": "5"}, "a finite number"),
        ({"prompt": "p", "completions": ["a", "b"]}, "without scores or ranks"),
        ({"prompt": "p", "completions": ["a"], "scores": [1]}, "at least 2"),
        ({"prompt": "p", "completions": "ab", "scores": [1, 2]}, "must be a list"),
        ({"prompt": "p", "completions": ["a", "b"], "scores": [1]}, "each of the 2"),
        ({"prompt": "p", "completions": ["a", "b"], "ranks": [1, None]}, "empty entry"),
        ({"completions": ["a", "b"], "ranks": [1, 2]}, "without a prompt"),
        (
            {"prompt": [{**USER, "tool_calls": [1]}], "chosen": "a", "rejected": "b"},
            "no list of named calls",
        ),
        (
            {"prompt": [{**USER, "thinking": [1]}], "chosen": "a", "rejected": "b"},
            "thinking is not text",
        ),
    ],
)
def test_unusable_rows_say_why(row, reason):
    with pytest.raises(RowError, match=reason):
        examples_of_row(row, source="")


def test_a_prompt_keeps_the_other_columns_of_its_row():
    row = {"prompt": "Why?", "chosen": "a", "rejected": "b", "domain": "d", "id": 7, "tags": ["x"]}
    read = read_prompt(row, source="f:1")
    assert read.provenance == {"id": 7, "tags": ["x"]} and read.domain == "d"


def test_what_json_has_no_word_for_is_kept_as_text():
    day = datetime.date(2024, 5, 1)
    row = {"prompt": "Why?", "completion": "So.", "day": day, "raw": b"x", "deep": {"days": [day]},
           "odd": [float("nan"), float("inf"), "half \ud800"]}  # fmt: skip
    for example in (read_row(row, source=""), read_prompt(row, source="")):
        assert example.provenance == {
            "day": "2024-05-01", "raw": "b'x'", "deep": {"days": ["2024-05-01"]},
            "odd": ["nan", "inf", "half ?"],
        }  # fmt: skip
        json.dumps(example.provenance, allow_nan=False)


def test_turns_that_both_answers_share_belong_to_the_prompt():
    asked = [{"role": "user", "content": "Go on"}]
    before, whole = [USER, OTHER, *asked], Message("user", "Hi")
    for prompt in ("Hi", [USER], None):
        (pair,) = read(prompt=prompt, chosen=[*before, ANSWER], rejected=[*before, OTHER])
        assert pair.prompt == (whole, Message("assistant", "Go"), Message("user", "Go on"))
        assert pair.chosen == (Message("assistant", "Hello"),)
    # Answers that go apart later keep their turns: a prompt does not end with the assistant.
    (pair,) = read(chosen=[USER, ANSWER, *asked, ANSWER], rejected=[USER, ANSWER, USER, ANSWER])
    assert pair.prompt == (whole,) and len(pair.chosen) == 3
    system = {"role": "system", "content": "Be brief."}
    (pair,) = read(prompt="Hi", chosen=[system, USER, ANSWER], rejected=[system, USER, OTHER])
    assert pair.prompt == (Message("system", "Be brief."), whole)


def test_columns_are_found_under_the_names_that_a_recipe_gives():
    names = {"prompt": "asked", "chosen": "a", "rejected": "b"}
    row = {"asked": "Hi", "a": "x", "b": "y", "other": 1}
    assert renamed(row, names) == {"prompt": "Hi", "chosen": "x", "rejected": "y", "other": 1}
    # Rows that have the columns already, as those of a run's own answers, stay as they are.
    own = {"prompt": "Hi", "chosen": "x", "rejected": "y"}
    assert renamed(own, names) == own
    assert renamed(own, names | {"system": "of_all", "weight": "w"}) == own
    # Of a prompt alone, responses need not be there.
    asked = read_prompt({"asked": "Hi"}, source="", columns=names | {"domain": "topic"})
    assert asked.prompt == "Hi"
    with pytest.raises(RowError, match="no column 'asked', 'a', 'b', which data.columns names"):
        renamed({"question": "Hi"}, names)


def test_columns_that_are_not_used_are_named_once():
    (pair,) = read(
        prompt="p", chosen="a", rejected="b", labeler="x", id=3, wieght=2, score_chossen=1
    )
    assert unused_columns([pair, pair]) == [
        "columns that are not used: 'wieght', 'score_chossen' (did you mean 'score_chosen'?)"
    ]
    (pair,) = read(prompt="p", chosen="a", rejected="b", labeler="x", source="s")
    assert unused_columns([pair]) == []
    (pair,) = read(prompt="p", chosen="a", rejected="b", **{f"c{i}": i for i in range(30)})
    assert unused_columns([pair])[0].endswith("and 18 more")
    for row in (PAIR, {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2]}):
        assert unused_columns(read(**row, label=0)) == ["columns that are not used: 'label'"]
        assert unused_columns(read(**row, label=None)) == []
    assert (
        unused_columns([read_row({"prompt": "p", "completion": "a", "label": 0}, source="")]) == []
    )


@pytest.mark.parametrize(
    "row",
    [
        {
            "prompt": [{**USER, "name": "Ann"}],
            "chosen": "a",
            "rejected": "b",
            "tools": [{"name": "look"}],
            "chat_template_kwargs": {"mood": "calm"},
        },
        {"prompt": "Hi", "chosen": [{**ANSWER, "reasoning_content": "hm"}], "rejected": "b"},
    ],
)
def test_what_a_template_is_given_survives_being_written_and_read(row):
    (pair,) = read(**row)
    again = read_row(row_of(pair), source="f:1")
    assert (again.prompt, again.chosen, again.template_kwargs) == (
        pair.prompt,
        pair.chosen,
        pair.template_kwargs,
    )
    stored = json.loads(json.dumps(asdict(pair)))
    assert example_from_json(Pair, stored) == pair
