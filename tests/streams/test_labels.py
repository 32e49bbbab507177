"""Rows of every kind of label, and what each becomes for an objective that learns from another."""

import pytest

from fastslow.records import Demonstration, Message, Pair, Rating
from fastslow.streams import RowError, examples_of_row, row_of
from fastslow.streams.formats import read_row

PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}
LIST = {"prompt": "p", "completions": ["mid", "best", "low", "also mid"], "scores": [2, 3, 1, 2]}
LIKED = {"prompt": "p", "completion": "a", "label": True}
SHOWN = {"prompt": "p", "completion": "a"}
ASKED, ANSWERED = ({"role": role, "content": "hi"} for role in ("user", "assistant"))


def kinds(row, kind):
    return examples_of_row(row, source="f:1", kind=kind)


def test_a_list_is_read_best_first_with_equal_ranks_for_equal_scores():
    ranking = read_row(LIST, source="f:1")
    assert ranking.responses == ("best", "mid", "also mid", "low")
    assert ranking.ranks == (0, 1, 1, 2) and ranking.scores == (3.0, 2.0, 2.0, 1.0)
    ranked = {"prompt": "p", "completions": ["x", "y"], "ranks": [7, 2]}
    assert read_row(ranked, source="").responses == ("y", "x")
    assert read_row(ranked, source="").scores is None


def test_thumbs_and_demonstrations():
    assert read_row(LIKED, source="s") == Rating("p", "a", True, source="s")
    assert read_row(SHOWN, source="s") == Demonstration("p", "a", source="s")
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Again"},
        {"role": "assistant", "content": "Hello again"},
    ]
    shown = read_row({"messages": turns, "weight": 2}, source="")
    assert shown.prompt[-1] == Message("user", "Again") and shown.weight == 2.0
    assert shown.response == (Message("assistant", "Hello again"),)


def test_a_pair_as_every_kind():
    assert kinds(PAIR, "pairs") == [Pair("p", "a", "b", source="f:1")]
    (ranking,) = kinds(PAIR, "rankings")
    assert (ranking.responses, ranking.ranks, ranking.scores) == (("a", "b"), (0, 1), None)
    (scored,) = kinds(PAIR | {"score_chosen": 2, "score_rejected": 0.5}, "rankings")
    assert scored.scores == (2.0, 0.5)
    assert [(r.response, r.desirable) for r in kinds(PAIR, "ratings")] == [
        ("a", True), ("b", False),
    ]  # fmt: skip
    assert [d.response for d in kinds(PAIR, "demonstrations")] == ["a"]


@pytest.mark.parametrize(("verdict", "liked"), [("tie", True), ("both_bad", False)])
def test_pairs_without_a_preference(verdict, liked):
    row = PAIR | {"verdict": verdict}
    (pair,) = kinds(row, "pairs")
    assert pair.is_tie and pair.verdict == verdict
    assert kinds(row, "rankings")[0].ranks == (0, 0)
    assert [r.desirable for r in kinds(row, "ratings")] == [liked, liked]
    assert kinds(row, "demonstrations") == []


def test_a_list_as_pairs_and_as_a_demonstration():
    pairs = kinds(LIST | {"weight": 0.5}, "pairs")
    assert len(pairs) == 6 and {pair.weight for pair in pairs} == {0.5}
    assert [(p.chosen, p.rejected) for p in pairs if p.is_tie] == [("mid", "also mid")]
    assert (pairs[2].chosen, pairs[2].score_chosen, pairs[2].score_rejected) == ("best", 3.0, 1.0)
    assert [d.response for d in kinds(LIST, "demonstrations")] == ["best"]


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        (LIKED, "pairs", r"a rating \(completion, label\) cannot be used as a pair"),
        (LIKED, "rankings", "cannot be used as a ranked list"),
        (SHOWN, "pairs", r"a demonstration \(completion without label\) cannot be used as a pair"),
        (SHOWN, "ratings", "cannot be used as ratings"),
        (LIST, "ratings", r"a ranked list \(completions\) cannot be used as ratings"),
        (
            PAIR | {"confidence": 0.9},
            "ratings",
            "need an objective that takes pairs; weight works with all",
        ),
        (PAIR | {"confidence": 1.5}, "pairs", "confidence must be from 0 to 1, not 1.5"),
        (PAIR | {"win_rate_chosen": -0.1}, "pairs", "win_rate_chosen must be from 0 to 1"),
        (PAIR | {"weight": -1}, "pairs", "weight must be 0 or above, not -1.0"),
        (PAIR | {"verdict": "draw"}, "pairs", "verdict is 'draw'; allowed are 'chosen', 'tie'"),
        (LIKED | {"label": 2}, "ratings", "label must be true or false, or 1 or 0, not 2"),
        ({"completion": "a"}, "demonstrations", "completion without a prompt"),
        ({"messages": "hi"}, "demonstrations", "messages must be a list"),
        ({"messages": []}, "demonstrations", "messages must end with the assistant's turn"),
        ({"messages": [ASKED]}, "demonstrations", "messages must end with the assistant's turn"),
        ({"messages": [ANSWERED]}, "demonstrations", "the prompt is empty"),
        (SHOWN | {"completion": " "}, "demonstrations", "the answer is empty"),
    ],
)
def test_what_cannot_be_learned_from_says_why(row, kind, reason):
    with pytest.raises(RowError, match=reason):
        kinds(row, kind)


def test_what_was_cut_off_stays_known_whatever_it_is_learned_as():
    pair = PAIR | {"truncated": [True, False]}
    assert kinds(pair, "pairs")[0].truncated == (True, False)
    assert kinds(pair, "rankings")[0].truncated == (True, False)
    assert [r.truncated for r in kinds(pair, "ratings")] == [(True,), (False,)]
    assert kinds(pair, "demonstrations")[0].truncated == (True,)
    turned = PAIR | {"truncated": [True, False], "verdicts": ["rejected"]}
    assert kinds(turned, "pairs")[0].truncated == (False, True)
    row = {"prompt": "p", "completions": ["x", "y", "z"], "scores": [1, 3, 2],
           "truncated": [True, False, False]}  # fmt: skip
    (ranking,) = kinds(row, "rankings")
    assert ranking.responses == ("y", "z", "x") and ranking.truncated == (False, False, True)
    assert [p.truncated for p in kinds(row, "pairs")] == [
        (False, False), (False, True), (False, True),
    ]  # fmt: skip
    assert kinds(PAIR | {"truncated": [False, False]}, "pairs")[0].truncated == ()
    for given in ("no", [True], [0, 1]):
        with pytest.raises(RowError, match="truncated must be a list of 2 times true or false"):
            kinds(PAIR | {"truncated": given}, "pairs")


def test_an_unliked_response_is_no_demonstration_and_no_fault():
    assert kinds(LIKED | {"label": False}, "demonstrations") == []
    assert len(kinds(LIKED, "demonstrations")) == 1


@pytest.mark.parametrize(("row", "kind"), [(PAIR, "pairs"), (LIST, "rankings"), (LIKED, "ratings")])
def test_what_has_no_weight_is_passed_over(row, kind):
    assert kinds(row | {"weight": 0}, kind) == [] != kinds(row | {"weight": 0.1}, kind)


@pytest.mark.parametrize(
    "row",
    [
        PAIR | {"weight": 3, "confidence": 0.75, "win_rate_chosen": 0.9, "score_chosen": 1},
        PAIR | {"verdict": "both_bad", "domain": "d"},
        LIST,
        {"prompt": "p", "completions": ["x", "y"], "ranks": [1, 1]},
        LIKED | {"label": False},
        SHOWN,
        SHOWN | {"truncated": [True]},
        LIST | {"truncated": [False, True, False, False]},
    ],
)
def test_the_row_of_an_example_reads_back_as_that_example(row):
    example = read_row(row, source="f:1")
    assert read_row(row_of(example) | {"source": "x"}, source="f:1").responses == example.responses
    again = read_row({k: v for k, v in row_of(example).items() if k != "source"}, source="f:1")
    assert again == example
