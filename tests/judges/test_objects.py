"""Judges made of Python objects: what may be given, and what is said of what may not."""

import math

import numpy as np
import pytest
import torch

from fastslow.errors import ConfigError, JudgeError
from fastslow.judges.base import Judgement, JudgeRequest
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
