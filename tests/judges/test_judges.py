"""Judges that need no network: worlds, rules, classifiers, several at once."""

import math

import pytest
import tiny

from fastslow.errors import ConfigError, DataError, JudgeError
from fastslow.judges import (
    ClassifierJudge,
    EnsembleJudge,
    JudgeRequest,
    RuleJudge,
    WorldJudge,
    compared,
    scored,
)
from fastslow.records import Message
from fastslow.streams.worlds import World

RULE = "def score(prompt, answer):\n    return len(answer) - len(prompt)\n"


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_scores_as_win_rates():
    judgement = scored([2.0, 0.0, 0.0])
    assert judgement.scores == (2.0, 0.0, 0.0)
    first = (0.5 + 2 * sigmoid(2)) / 3
    other = (sigmoid(-2) + 0.5 + 0.5) / 3
    assert judgement.win_rates == pytest.approx((first, other, other))
    # However judged, the mean answer wins half the time, and the scale's end is no trouble.
    assert sum(judgement.win_rates) == pytest.approx(1.5)
    assert scored([1e4, -1e4]).win_rates == pytest.approx((0.75, 0.25))


def test_comparisons_as_win_rates():
    judgement = compared([[0.5, 1.0, 0.5], [0.0, 0.5, 1.0], [0.5, 0.0, 0.5]])
    assert judgement.scores == judgement.win_rates == pytest.approx((2 / 3, 0.5, 1 / 3))


def rule(tmp_path, text=RULE, function="score"):
    path = tmp_path / "rule.py"
    path.write_text(text)
    return RuleJudge(path, function)


def test_a_rule_scores_the_last_turn_and_the_answer(tmp_path):
    judge = rule(tmp_path)
    talk = (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "Go on."))
    first, second = judge.judge(
        [JudgeRequest("ab", ("abc", "a")), JudgeRequest(talk, ("12345678", ""))]
    )
    assert first.scores == (1.0, -1.0) and second.scores == (2.0, -6.0)
    assert judge.name.startswith("rule score of rule.py (")
    assert rule(tmp_path, RULE + "# Changed.\n").name != judge.name


@pytest.mark.parametrize(
    ("text", "function", "error", "message"),
    [
        (
            RULE,
            "rate",
            ConfigError,
            "judge.function: .*rule.py defines no function or class 'rate'",
        ),
        ("1 / 0", "score", ConfigError, "judge.file: .* cannot be run: ZeroDivisionError"),
        (
            "def score(p, a):\n    return None",
            "score",
            JudgeError,
            "gave None; it must give a finite",
        ),
        ("def score(p, a):\n    return float('nan')", "score", JudgeError, "gave nan"),
        ("def score(p, a):\n    return {}[a]", "score", JudgeError, "failed on an .* KeyError"),
    ],
)
def test_rules_that_cannot_be_used_say_why(tmp_path, text, function, error, message):
    with pytest.raises(error, match=message):
        rule(tmp_path, text, function).judge([JudgeRequest("p", ("a", "b"))])


def test_a_world_judges_as_its_people_would_without_their_noise(tmp_path):
    world = World(seed=3, sharpness=1.5)
    world.save(tmp_path / "world.json")
    judge = WorldJudge(tmp_path / "world.json")
    row = next(world.pairs("guests", seed=0))
    answers = (row["chosen"], row["rejected"])
    (found,) = judge.judge([JudgeRequest(row["prompt"], answers)])
    rewards = [world.reward(row["prompt"], answer) for answer in answers]
    assert found.scores == pytest.approx(rewards)
    # Of two, an answer's win rate is half its probability of being preferred and half a half.
    assert found.win_rates[0] == pytest.approx((row["probability"] + 0.5) / 2)
    with pytest.raises(ConfigError, match="not a prompt of this world"):
        judge.judge([JudgeRequest("What?", answers)])


def texts(count):
    good = [{"text": f"The {t} is {g}.", "label": 1} for t in tiny.THINGS for g in tiny.GOOD]
    bad = [{"text": f"The {t} is {b}.", "label": 0} for t in tiny.THINGS for b in tiny.BAD]
    return [row for pair in zip(good, bad, strict=True) for row in pair][:count]


def test_a_classifier_prefers_what_it_was_shown_as_good_and_is_the_same_each_time(tmp_path):
    path = tiny.write_rows(tmp_path / "texts.jsonl.gz", texts(80))
    asked = [JudgeRequest("Describe the sea.", ("It is warm and kind.", "It is cold.", "It is."))]
    judges = [ClassifierJudge([str(path)], positive=1) for _ in range(2)]
    first, second = (judge.judge(asked)[0] for judge in judges)
    assert first == second and first.scores[0] > first.scores[2] > first.scores[1]
    turned = ClassifierJudge([str(path)], positive=0).judge(asked)[0]
    assert turned.scores == pytest.approx([-score for score in first.scores], abs=1e-3)
    assert "80 texts" in judges[0].name


def test_texts_that_teach_a_classifier_nothing_are_refused(tmp_path):
    path = tiny.write_rows(tmp_path / "texts.jsonl", texts(10))
    with pytest.raises(ConfigError, match="0 of 10 texts have the label 'good'"):
        ClassifierJudge([str(path)], positive="good")
    other = tiny.write_rows(tmp_path / "pairs.jsonl", tiny.rows(3))
    with pytest.raises(DataError, match="pairs.jsonl:1: a row of a classifier needs a text"):
        ClassifierJudge([str(other)], positive=1)


class Fixed:
    def __init__(self, *scores):
        self.name, self._scores = f"fixed {scores}", scores

    def judge(self, asked):
        return [scored(self._scores) for _ in asked]


def test_several_judges_average_how_sure_they_are_not_their_scales():
    judge = EnsembleJudge([Fixed(1000.0, 0.0), Fixed(0.0, 1.0)])
    (found,) = judge.judge([JudgeRequest("p", ("a", "b"))])
    first, second = (0.75 + (0.5 + sigmoid(-1)) / 2) / 2, (0.25 + (0.5 + sigmoid(1)) / 2) / 2
    assert found.scores == found.win_rates == pytest.approx((first, second))
    assert judge.name == "ensemble of fixed (1000.0, 0.0); fixed (0.0, 1.0)"


class Comparing:
    """Prefers answers in one order, for sure or by a share."""

    def __init__(self, order, share=1.0):
        self.name, self._order, self._share = f"order {order}", order, share

    def judge(self, asked):
        place = {answer: number for number, answer in enumerate(self._order)}
        return [
            compared([[self._win(place[a], place[b]) for b in one.answers] for a in one.answers])
            for one in asked
        ]

    def _win(self, own, other):
        return 0.5 if own == other else self._share if own < other else 1 - self._share


@pytest.mark.parametrize("share", [1.0, 0.9, 0.7])
@pytest.mark.parametrize(
    "orders", [("abc", "cba"), ("abc", "bca", "cab"), ("abcde", "edcba"), ("abcdef", "fedcba")]
)
def test_judges_that_contradict_each_other_prefer_nothing(orders, share):
    judge = EnsembleJudge([Comparing(order, share) for order in orders])
    (found,) = judge.judge([JudgeRequest("p", tuple(sorted(orders[0])))])
    assert set(found.scores) == {0.5}
