"""What stands before a prompt, and what responses repeat of it, stands there once."""

import pytest

from fastslow.records import Message
from fastslow.streams import RowError, example_warnings
from fastslow.streams.formats import read_prompt, read_row

S, OTHER_S = ({"role": "system", "content": text} for text in ("S", "T"))
P, Q = ({"role": "user", "content": text} for text in ("P", "Q"))
R, A, B = ({"role": "assistant", "content": text} for text in ("R", "A", "B"))
TRANSCRIPT = "\n\nHuman: Q\n\nAssistant:"


def turns(*messages):
    return tuple(Message(turn["role"], turn["content"]) for turn in messages)


def example(**row):
    return read_row(row, source="f:1")


COLUMNS = {"system": "S", "history": [["P", "R"]]}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [Q, A]},
        {"messages": [P, R, Q, A]},
        {"messages": [S, P, R, Q, A]},
        {"messages": [S, Q, A], "label": True},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"prompt": "Q", "completion": [A]},
        {"prompt": "Q", "completion": [Q, A]},
        {"prompt": [P, R, Q], "completion": [S, P, R, Q, A]},
        {"prompt": TRANSCRIPT, "completion": " A"},
        {"prompt": TRANSCRIPT, "completion": f"{TRANSCRIPT} A"},
        {"prompt": "Q", "completions": [[S, Q, A], [Q, B]], "ranks": [1, 2]},
        {"prompt": "Q", "chosen": [A], "rejected": [B]},
        {"prompt": "Q", "chosen": [Q, A], "rejected": [B]},
        {"prompt": "Q", "chosen": [S, Q, A], "rejected": [S, Q, B]},
        {"prompt": [S, Q], "chosen": [P, R, Q, A], "rejected": [P, R, Q, B]},
        {"chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": [S, P, R, Q, A], "rejected": [S, P, R, Q, B]},
        {"prompt": TRANSCRIPT, "chosen": " A", "rejected": " B"},
        {"prompt": TRANSCRIPT, "chosen": [Q, A], "rejected": [Q, B]},
        {"chosen": f"{TRANSCRIPT} A", "rejected": f"{TRANSCRIPT} B"},
    ],
)
def test_system_and_history_stand_before_every_form_of_a_prompt_once(row):
    read = example(**row, **COLUMNS)
    assert read.prompt == turns(S, P, R, Q) == read_prompt(row | COLUMNS, source="").prompt
    assert read.responses[0] == turns(A)


def test_the_answers_of_a_transcript_keep_their_turns_behind_a_system_column():
    read = example(
        prompt=TRANSCRIPT, chosen=" R\n\nHuman: P\n\nAssistant: A", rejected=" B", system="S"
    )
    assert read.prompt == turns(S, Q) and read.chosen == turns(R, P, A)


def test_a_system_turn_stays_first_where_only_a_history_is_named():
    assert example(prompt=[S, Q], completion="A", history=[["P", "R"]]).prompt == turns(S, P, R, Q)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [OTHER_S, Q, A]},
        {"prompt": "Q", "chosen": [OTHER_S, Q, A], "rejected": [OTHER_S, Q, B]},
        {"prompt": "Q", "completion": [OTHER_S, Q, A]},
    ],
)
def test_another_system_turn_than_the_column_is_refused(row):
    with pytest.raises(RowError, match="differ"):
        example(**row, system="S")


@pytest.mark.parametrize("more", [[], [S]])
def test_a_question_that_is_not_the_prompt_is_no_second_turn(more):
    with pytest.raises(RowError, match="begin with a user turn that is not the prompt's"):
        example(prompt="Q ", chosen=[*more, Q, A], rejected=[*more, Q, B])


def test_a_transcript_that_texts_repeat_is_cut_and_another_prompt_is_warned_of():
    read = example(prompt=TRANSCRIPT, chosen=f"{TRANSCRIPT} A", rejected=f"{TRANSCRIPT} B")
    assert (read.prompt, read.responses) == (TRANSCRIPT, (" A", " B"))
    assert example_warnings([read]) == []
    code = example(prompt="def f(", chosen="def f(): 1", rejected="def f(): 2")
    assert code.chosen == "def f(): 1"
    (warning,) = example_warnings([code, read])
    assert warning.startswith("answers of 1 of 2 examples begin with the whole prompt")
    # Few answers to a greeting repeat it.
    assert example_warnings([code, *[read] * 30]) == []
