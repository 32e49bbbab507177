"""The score of an instruction: what is asked, and what an answer is worth."""

from collections import Counter

import pytest

from fastslow.errors import DataError
from fastslow.judges import JudgeRequest, compared, scored
from fastslow.prompts.black_box import Answer
from fastslow.prompts.questions import Question, read_questions
from fastslow.prompts.scoring import METRICS, InstructionScorer, contains, exact_match, f1
from fastslow.records import Message

TALK = (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "2 + 2?"))


class Echo:
    """Answers with what it is asked."""

    def __init__(self):
        self.cost, self.asked = Counter(), []

    def answer(self, prompts, **settings):
        self.asked.append((list(prompts), settings))
        self.cost["calls"] += len(prompts)
        return [Answer(p if isinstance(p, str) else p[-1].content) for p in prompts]


class Lengths:
    """Prefers longer answers, by comparison or by a score."""

    name, cost = "lengths", {}

    def __init__(self, form):
        self.form, self.asked, self.cost = form, [], {"requests": 3}

    def judge(self, asked):
        self.asked += asked
        self.cost = {"requests": self.cost["requests"] + len(asked)}
        return [self.form(*map(len, request.answers)) for request in asked]


def scorer(black_box, *, metric="contains", judge=None, template="{instruction}\n\n{input}"):
    return InstructionScorer(
        black_box,
        template=template,
        metric=METRICS.get(metric),
        judge=judge,
        max_new_tokens=8,
        temperature=0.5,
        seed=3,
    )


@pytest.mark.parametrize(
    ("answer", "right", "expected"),
    [
        ("Paris", "Paris", (1, 1, 1)),
        (" the  CITY: Paris!\n", "the city Paris.", (1, 1, 1)),
        ("I say Paris", "Paris", (0, 1, 0.5)),
        ("Parisian", "Paris", (0, 0, 0)),
        ("city of Paris", "Paris city", (0, 0, 0.8)),
        ("no no no", "no", (0, 1, 0.5)),
        ("", "Paris", (0, 0, 0)),
        ("...", "", (0, 1, 0)),
        ("", "+", (0, 0, 0)),
        ("-", "+", (0, 0, 0)),
        (" +\n", "+", (1, 1, 1)),
        ("It is +.", "+", (0, 1, 0)),
        ("😀", "😡", (0, 0, 0)),
        ("-5", "5", (0, 0, 0)),
        ("x = -5.", "\N{MINUS SIGN}5", (0, 1, 2 / 3)),
        ("well-known, 1984-85", "well known 1984 85", (1, 1, 1)),
        ("C", "C++", (0, 0, 0)),
        ("C++", "C#", (0, 0, 0)),
        ("It is C++.", "c++", (0, 1, 0.5)),
        ("C++11", "C", (0, 1, 2 / 3)),
        ("`Paris`", "Paris", (1, 1, 1)),
        ("Straße", "STRASSE", (1, 1, 1)),
        ("答案是北京。", "北京", (0, 1, 4 / 7)),
        ("It is 3.14.", "3.14", (0, 1, 0.5)),
        ("3.14", "3", (0, 0, 0)),
        ("0.5", "-0.5", (0, 0, 0)),
        ("1,000", "1", (0, 0, 0)),
        ("$1,234,567.80", "1234567.80", (1, 1, 1)),
        ("1,2,3", "1, 2, 3", (1, 1, 1)),
        ("in 1984.And", "1984 and", (0, 1, 0.8)),
    ],
)
def test_answers_are_compared_as_words(answer, right, expected):
    assert (exact_match(answer, right), contains(answer, right), f1(answer, right)) == expected


def test_an_instruction_is_joined_with_each_prompt_and_scored_by_the_mean():
    model = Echo()
    tools = {"tools": [{"name": "add"}]}
    questions = [Question("red", "be brief red"), Question(TALK, "2", tools)]
    found = scorer(model, metric="exact_match").score("Be brief.", questions)
    assert found.scores == [1.0, 0.0] and found.mean == 0.5 and found.cost == {"calls": 2}
    ((asked, settings),) = model.asked
    assert asked[0] == "Be brief.\n\nred"
    assert asked[1][:2] == TALK[:2] and asked[1][2] == Message("user", "Be brief.\n\n2 + 2?")
    assert settings == {
        "temperature": 0.5, "max_new_tokens": 8, "seed": 3, "template_kwargs": [{}, tools]
    }  # fmt: skip


def test_a_template_may_turn_them_around_and_texts_with_braces_stay_as_they_are():
    question = Question("{instruction} {x}", "")
    text = question.asked_with("say {input}", "<{input}> -> ({instruction})")
    assert text == "<{instruction} {x}> -> (say {input})"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (lambda a, b: compared([[0.5, float(a > b)], [float(b > a), 0.5]]), [1.0, 0.0]),
        (lambda a, b: scored([float(a), float(b)], sharpness=100.0), [1.0, 0.0]),
        (lambda a, b: scored([0.0, 0.0]), [0.5, 0.5]),
        (lambda a, b: compared([[0.5, 0.75], [0.25, 0.5]]), [0.75, 0.75]),
    ],
)
def test_a_judge_gives_the_probability_to_be_preferred_to_the_right_answer(form, expected):
    judge = Lengths(form)
    questions = [Question("a", "short"), Question("b", "a much longer answer than that")]
    found = scorer(Echo(), metric="judge", judge=judge).score("Speak.", questions)
    assert found.scores == pytest.approx(expected)
    # It sees the prompt without the instruction.
    assert judge.asked[0] == JudgeRequest("a", ("Speak.\n\na", "short"))
    assert found.cost == {"calls": 2, "judge_requests": 2}


def test_questions_are_demonstrations_or_pairs_that_prefer_something(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"prompt": "1+1?", "completion": " 2 "}\n'
        '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'
        '{"prompt": "x", "completion": "y", "label": true}\n'
    )
    found = read_questions([str(file)], {}, key="prompts.test", most=2)
    assert found == [Question("1+1?", "2"), Question("a", "b")]
    with pytest.raises(DataError, match="prompts.test: .*rows.jsonl:3: got a rating without"):
        read_questions([str(file)], {}, key="prompts.test")
    file.write_text('{"asked": "1+1?", "right": "2"}\n')
    columns = {"prompt": "asked", "completion": "right"}
    assert read_questions([str(file)], columns, key="prompts.test") == [Question("1+1?", "2")]
    file.write_text("")
    with pytest.raises(DataError, match="there is no row"):
        read_questions([str(file)], {}, key="prompts.test")
