"""Judges made of Python objects: what may be given, and what is said of what may not."""

import itertools
import math

import numpy as np
import pytest
import torch

from fastslow.errors import ConfigError, JudgeError
from fastslow.judges.base import Judge, Judgement, JudgeRequest
from fastslow.judges.objects import as_judge

ASKED = [JudgeRequest("p", ("a", "bbb", "cc"))]


def judged(value):
    return as_judge(value).judge(ASKED)[0]


class InBatches:
    def __init__(self, given):
        self.given = given

    def judge(self, requests):
        return [self.given for _ in requests]


@pytest.mark.parametrize("number", [np.float32, np.float64, torch.tensor, int, float])
def test_any_real_number_is_a_score(number):
    assert judged(lambda prompt, answer: number(len(answer))).scores == (1.0, 3.0, 2.0)


@pytest.mark.parametrize("many", [list, tuple, np.array, torch.tensor])
def test_scores_of_all_answers_come_in_any_sequence(many):
    assert judged(lambda prompt, answers: many([1.0, 3.0, 2.0])).scores == (1.0, 3.0, 2.0)
    assert judged(InBatches(many([1.0, 3.0, 2.0]))).scores == (1.0, 3.0, 2.0)


@pytest.mark.parametrize("value", ["good", "0.5", None, math.nan, math.inf, torch.ones(2), 1j])
def test_anything_else_is_no_score(value):
    with pytest.raises(JudgeError, match="it must give a finite number"):
        judged(lambda prompt, answer: value)


def test_a_list_for_one_answer_says_how_to_score_all():
    with pytest.raises(JudgeError, match="name the second parameter answers"):
        judged(lambda prompt, responses: [0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("scores", "rates", "message"),
    [
        ((1.0, math.nan, 0.0), (0.5, 0.5, 0.5), "gave nan; it must give a finite number"),
        ((1.0, 2.0, 0.0), (0.5, 0.5), "gave 2 scores for 3 answers"),
        ((1.0, 2.0), (0.5, 0.5, 0.5), "gave 2 scores for 3 answers"),
        ((1.0, 2.0, 0.0), (0.5, 1.5, 0.5), "they must be from 0 to 1"),
    ],
)
def test_a_judgement_is_checked(scores, rates, message):
    with pytest.raises(JudgeError, match=message):
        judged(InBatches(Judgement(scores, rates)))


def test_a_right_judgement_is_taken_as_it_is():
    given = Judgement((1.0, 3.0, 2.0), (0.2, 0.8, 0.5))
    assert judged(InBatches(given)) == given


class WrongJudge:
    def judge(self, prompt, answers):
        return [0.0]


class WrongCompare:
    def compare(self, a, b):
        return 0.5


class Places:
    """Likes what stands first, and a little less so where it is shorter."""

    def __init__(self):
        self.asked = []

    def compare(self, prompt, a, b):
        self.asked.append((a, b))
        return 0.9 if len(a) > len(b) else 0.7


def test_two_answers_are_compared_in_both_orders():
    value = Places()
    found = judged(value)
    assert value.asked[:2] == [("a", "bbb"), ("bbb", "a")] and len(value.asked) == 6
    assert found.scores == pytest.approx((1.3 / 3, 1.7 / 3, 0.5))


class Neither:
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (WrongJudge, r"judge WrongJudge.judge must take \(requests\)"),
        (WrongCompare, r"judge WrongCompare.compare must take \(prompt, a, b\)"),
        (lambda answer: 0.0, r"must take \(prompt, answer\)"),
        (Neither, "Neither cannot judge; give a function"),
        (3, "int cannot judge; give a function"),
    ],
)
def test_a_wrong_form_is_refused_before_anything_is_judged(value, message):
    with pytest.raises(ConfigError, match=message):
        as_judge(value)


class Odd:
    """Fails wherever it is looked at."""

    def __repr__(self):
        raise ValueError("no text")

    def __float__(self):
        raise ZeroDivisionError


def half(values):
    yield from values[:1]
    raise OSError("gone")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda prompt, answer: Odd(), "gave an object of Odd; it must give a finite number"),
        (lambda prompt, answer: 10**400, "it must give a finite number"),
        (lambda prompt, answer: "a" * 10_000, "it must give a finite number"),
        (lambda prompt, answers: half([1.0, 2.0]), "failed on an answer: OSError: gone"),
        (lambda prompt, answers: itertools.repeat(1.0), "gave more than 3 scores for 3 answers"),
        (lambda prompt, answers: (float(i) for i in range(2)), "gave 2 scores for 3 answers"),
        (lambda prompt, answers: {0: 1.0, 1: 2.0, 2: 0.0}, "gave 1 scores for 3 answers"),
        (lambda prompt, answers: {1.0, 2.0, 3.0}, "gave 1 scores for 3 answers"),
        (lambda prompt, answers: None, "gave 1 scores for 3 answers"),
        (InBatches(None), "gave 1 scores for 3 answers"),
        (lambda prompt, answer: 1 / 0, "failed on an answer: ZeroDivisionError: division by zero"),
        (lambda prompt, answer: [].x, "failed on an answer: AttributeError"),
    ],
)
def test_whatever_an_object_does_is_one_short_error(value, said):
    with pytest.raises(JudgeError, match=said) as caught:
        judged(value)
    assert len(str(caught.value)) < 1000


def test_an_object_may_change_what_it_is_given():
    def spoils(prompt, answers):
        scores = [float(len(answer)) for answer in answers]
        answers.clear()
        return scores

    class Spoils:
        def judge(self, requests):
            return [[1.0, 3.0, 2.0] for _ in range(len(requests)) if requests.pop()]

    for value in (spoils, Spoils):
        assert judged(value).scores == (1.0, 3.0, 2.0)
    assert len(ASKED) == 1


def test_what_derives_from_judge_is_checked_as_any_object():
    class Mine(Judge):
        name = "mine"

        def judge(self, asked):
            return [Judgement((math.nan, 0.0, 1.0), (0.5, 0.5, 0.5))]

    judge = as_judge(Mine())
    assert judge.name == "mine" and dict(judge.cost) == {}
    with pytest.raises(JudgeError, match="mine gave nan; it must give a finite number"):
        judge.judge(ASKED)


@pytest.mark.parametrize("cost", [{"calls": "many"}, 3, None])
def test_a_cost_is_whole_numbers(cost):
    judge = as_judge(InBatches([1.0, 2.0, 3.0]))
    assert dict(judge.cost) == {}
    judge._value.cost = cost
    with pytest.raises(JudgeError, match="as cost; it must be whole numbers"):
        _ = judge.cost
