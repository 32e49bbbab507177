"""The score of an instruction: how well a black box answers questions with it."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fastslow.judges import Judge, JudgeRequest
from fastslow.prompts.black_box import BlackBox
from fastslow.prompts.questions import Question
from fastslow.words import WORD


@dataclass(frozen=True, slots=True)
class InstructionScore:
    """What came out of asking all questions with one instruction."""

    scores: list[float]
    """Of each answer, 0 to 1."""
    answers: list[str]
    cost: dict[str, int]
    """As of the black box, and what the judge counts, after `judge_`."""

    @property
    def mean(self) -> float:
        """The instruction's score."""
        return fmean(self.scores)


_NUMBER = r"\d+(?:,\d{3}(?!\d))*(?:\.\d+)?(?!\w)"
_WORD = re.compile(rf"(?:(?<!\w)-(?=\d))?(?:{_NUMBER}|(?:{WORD.pattern}))(?:[+#]+(?![\w+#]))?")
"""A whole number or a decimal one, or a word; with the minus of a number, and with the signs that
tell C from C++ and C#."""


def _words(text: str) -> list[str]:
    """Words in small letters without punctuation; the whole text where it has no other."""
    small = text.casefold().replace("\N{MINUS SIGN}", "-").strip()
    return [word.replace(",", "") for word in _WORD.findall(small)] or [small]


def exact_match(answer: str, right: str) -> float:
    """Whether two texts are equal but for case, punctuation and spaces, or without words as they
    are.

    >>> exact_match("Paris.", "paris"), exact_match("It is Paris", "Paris")
    (1.0, 0.0)
    """
    return float(_words(answer) == _words(right))


def contains(answer: str, right: str) -> float:
    """Whether the right answer's words stand in the answer, one after the other; without words, its
    signs.

    >>> contains("It is Paris!", "paris"), contains("A comparison", "Paris")
    (1.0, 0.0)
    """
    if not WORD.search(right):
        return float(right.strip() in answer)
    return float(f" {' '.join(_words(right))} " in f" {' '.join(_words(answer))} ")


def f1(answer: str, right: str) -> float:
    """Harmonic mean of the shares of words that two texts have in common.

    >>> f1("the city of Paris", "Paris")
    0.4
    """
    given, wanted = _words(answer), _words(right)
    common = (Counter(given) & Counter(wanted)).total()
    return 2 * common / (len(given) + len(wanted))


METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "contains": contains,
    "f1": f1,
}


class InstructionScorer:
    """Asks a black box questions with an instruction.

    Args:
        black_box: is asked.
        template: joins an instruction and a prompt.
        metric: scores an answer; None has the judge compare it with the right one.
        judge: who does that, without having seen the instruction.
        max_new_tokens, temperature: of the answers.
        seed: of the answers, the same for every instruction.
    """

    def __init__(
        self,
        black_box: BlackBox,
        *,
        template: str,
        metric: Callable[[str, str], float] | None,
        judge: Judge | None,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ) -> None:
        self._black_box, self._template = black_box, template
        self._metric, self._judge = metric, judge
        self._max_new_tokens, self._temperature, self._seed = max_new_tokens, temperature, seed

    def score(self, instruction: str, questions: Sequence[Question]) -> InstructionScore:
        """The answers to all questions and their scores.

        Raises UnreachableError where a server does not answer, JudgeError where the judge fails.
        """
        before = self._cost()
        given = self._black_box.answer(
            [question.asked_with(instruction, self._template) for question in questions],
            template_kwargs=[question.template_kwargs for question in questions],
            temperature=self._temperature,
            max_new_tokens=self._max_new_tokens,
            seed=self._seed,
        )
        answers = [answer.text for answer in given]
        scores = self._scores(answers, questions)
        return InstructionScore(scores, answers, dict(self._cost() - before))

    def _scores(self, answers: list[str], questions: Sequence[Question]) -> list[float]:
        pairs = list(zip(answers, questions, strict=True))
        if self._metric is not None:
            return [self._metric(answer, question.answer) for answer, question in pairs]
        assert self._judge is not None
        asked = [JudgeRequest(question.prompt, (text, question.answer)) for text, question in pairs]
        # Of two, a win rate is the mean of 1/2, against itself, and of that against the other.
        rates = [judgement.win_rates[0] for judgement in self._judge.judge(asked)]
        return [min(1.0, max(0.0, 2 * rate - 0.5)) for rate in rates]

    def _cost(self) -> Counter[str]:
        judged = {} if self._judge is None else self._judge.cost
        return self._black_box.cost + Counter({f"judge_{key}": n for key, n in judged.items()})
