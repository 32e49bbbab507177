"""Judges made from the user's Python objects: functions and classes.

    def judge(prompt, answer) -> float            one answer at a time, higher is better
    def judge(prompt, answers) -> list[float]     all answers to a prompt; must be named `answers`
    class with judge(requests)                    a batch: scores or a Judgement of each request
    class with compare(prompt, a, b) -> float     two at a time, in both orders: probability that a
                                                  wins, 0 to 1

Prompts come as text; of a conversation, its last turn. A batch judge gets JudgeRequest objects,
whose prompt is as the data has it: text or messages. Scores may be any real numbers, also those of
a tensor or an array.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from fastslow.errors import ConfigError, JudgeError
from fastslow.judges.base import Judge, Judgement, JudgeRequest, compared, scored
from fastslow.plugins import own_code
from fastslow.records import plain_text

ALL_ANSWERS = ("answers", "completions")
"""Names of a second parameter that takes all answers to a prompt."""
ALLOWED = (
    "give a function f(prompt, answer), a function f(prompt, answers), or a class with "
    "judge(requests) or compare(prompt, a, b)"
)

FORMS = {
    "judge": ("requests",),
    "compare": ("prompt", "a", "b"),
    "function": ("prompt", "answer"),
}
"""What each form is called with."""

SHOWN = 300
"""Characters of an object's output that a message quotes."""

_Judging = Callable[[Sequence[JudgeRequest]], list[Judgement]]

_HELD: dict[Path, Any] = {}
"""Objects that judge in this process, by the file that stands for each."""


class ObjectJudge(Judge):
    """Judges with a function or an object.

    Args:
        value: an object of one of the four forms; a class is instantiated without arguments.
        name: its name in messages and in provenance.

    Raises ConfigError for an object of another form. Judging raises JudgeError where the object
    fails or gives something else than finite numbers.
    """

    def __init__(self, value: Any, name: str) -> None:
        if isinstance(value, type):
            value = _made(value, name)
        self._name = name
        self._value = value
        self._judging = self._form_of(value)

    @property
    def name(self) -> str:
        return self._name

    @property
    def cost(self) -> Mapping[str, int]:
        """What the object counts of its own work, if it has a `cost`."""
        cost = self._called(getattr, self._value, "cost", {})
        if not isinstance(cost, Mapping) or any(type(count) is not int for count in cost.values()):
            raise JudgeError(f"{self._name} gave {_shown(cost)} as cost; it must be whole numbers")
        return cost

    def judge(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        return self._judging(asked)

    def _form_of(self, value: Any) -> _Judging:
        for method, form in (("judge", self._in_batches), ("compare", self._in_pairs)):
            if callable(getattr(value, method, None)):
                _check_takes(getattr(value, method), FORMS[method], f"{self._name}.{method}")
                return form
        if not callable(value):
            raise ConfigError(f"judge: {type(value).__name__} cannot judge; {ALLOWED}")
        _check_takes(value, FORMS["function"], self._name)
        return self._by_prompt if _takes_all(value) else self._by_answer

    def _in_batches(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        # A copy, so that the object may change it.
        judged = self._several(
            self._called(self._value.judge, list(asked)), len(asked), "judgements", "prompts"
        )
        return [
            self._judgement(result, len(request.answers))
            for result, request in zip(judged, asked, strict=True)
        ]

    def _judgement(self, found: Any, count: int) -> Judgement:
        if not isinstance(found, Judgement):
            return scored(self._scores(found, count))
        rates = self._scores(found.win_rates, count)
        if any(not 0 <= rate <= 1 for rate in rates):
            raise JudgeError(
                f"{self._name} gave win rates {_shown(rates)}; they must be from 0 to 1"
            )
        return Judgement(tuple(self._scores(found.scores, count)), tuple(rates))

    def _in_pairs(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        return [compared(self._wins(request)) for request in asked]

    def _wins(self, request: JudgeRequest) -> list[list[float]]:
        """Probability that each answer beats each other one. Pairs are compared in both orders, so
        that a position bias favours no answer."""
        prompt, answers = plain_text(request.prompt), request.answers
        wins = [[0.5] * len(answers) for _ in answers]
        for i, j in combinations(range(len(answers)), 2):
            straight = self._share(prompt, answers[i], answers[j])
            turned = self._share(prompt, answers[j], answers[i])
            wins[i][j] = (straight + 1 - turned) / 2
            wins[j][i] = 1 - wins[i][j]
        return wins

    def _share(self, prompt: str, first: str, second: str) -> float:
        share = self._number(self._called(self._value.compare, prompt, first, second))
        if not 0 <= share <= 1:
            raise JudgeError(
                f"{self._name} gave {share:g}; compare must give the probability that the first "
                "answer wins, 0 to 1"
            )
        return share

    def _by_prompt(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        return [
            scored(
                self._scores(
                    self._called(self._value, plain_text(request.prompt), list(request.answers)),
                    len(request.answers),
                )
            )
            for request in asked
        ]

    def _by_answer(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        return [
            scored(
                [
                    self._number(self._called(self._value, plain_text(request.prompt), answer))
                    for answer in request.answers
                ]
            )
            for request in asked
        ]

    def _called(self, function: Callable[..., Any], *given: Any) -> Any:
        with own_code(f"{self._name} failed on an answer", JudgeError):
            return function(*given)

    def _scores(self, found: Any, count: int) -> list[float]:
        scores = self._several(found, count, "scores", "answers")
        return [self._number(score) for score in scores]

    def _several(self, found: Any, count: int, what: str, of: str) -> list[Any]:
        """The values of `found` as a list. Raises JudgeError unless there are `count` of them."""
        values: list[Any] = self._called(_listed, found, count + 1)
        if len(values) != count:
            got = len(values) if len(values) < count else f"more than {count}"
            raise JudgeError(
                f"{self._name} gave {got} {what} for {count} {of}; it must give one for each"
            )
        return values

    def _number(self, value: Any) -> float:
        try:
            number = math.nan if isinstance(value, (str, bytes)) else float(value)
        except Exception:  # An array of several numbers raises an error of its own library.
            number = math.nan
        if not math.isfinite(number):
            hint = ""
            if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
                hint = "; to score all answers at once, name the second parameter answers"
            raise JudgeError(
                f"{self._name} gave {_shown(value)}; it must give a finite number{hint}"
            )
        return number


@dataclass(frozen=True, slots=True)
class Held:
    """What a file defines that stands for an object of this process."""

    file: Path

    def value(self) -> Any:
        """The object. Raises ConfigError in a process that does not have it."""
        if self.file not in _HELD:
            raise ConfigError(
                f"judge: {self.file} stands for a Python object, which this process does not have; "
                "call fastslow.train or evaluate with judge="
            )
        return _HELD[self.file]


def hold(file: Path, value: Any) -> None:
    """Have a file stand for an object in this process."""
    _HELD[file.resolve()] = value


def held(file: str) -> Held:
    """The placeholder that such a file defines."""
    return Held(Path(file).resolve())


def as_judge(value: Any, name: str | None = None) -> Judge:
    """The judge that an object is or makes. Raises ConfigError if it has none of the forms."""
    if isinstance(value, Held):
        value = value.value()
    if name is None:
        is_judge = Judge in type(value).__mro__
        name = str(value.name) if is_judge else f"judge {title_of(value)}"
    return ObjectJudge(value, name)


def title_of(value: Any) -> str:
    """What an object is called: its own name, or its type's."""
    return str(getattr(value, "__name__", type(value).__name__))


def _listed(found: Any, most: int) -> list[Any]:
    """At most `most` values of an iterable; what is unordered or not iterable counts as one."""
    if isinstance(found, (str, bytes, Mapping, Set)):
        return [found]
    try:
        values = iter(found)
    except TypeError:
        return [found]
    return list(islice(values, most))


def _shown(value: Any, written: Callable[[Any], str] = repr) -> str:
    """The beginning of an object's output as text."""
    try:
        text = written(value)
    except Exception:
        text = f"an object of {type(value).__name__}"
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _made(kind: type, name: str) -> Any:
    fails = f"judge: {name} cannot be made without arguments; give an object in place of the class"
    with own_code(fails, ConfigError):
        return kind()


def _check_takes(function: Callable[..., Any], given: Sequence[str], name: str) -> None:
    """Raise ConfigError if a function cannot be called with these arguments."""
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        raise ConfigError(f"judge: {name} must take ({', '.join(given)}); {ALLOWED}") from None
    except ValueError:
        return  # A builtin without a signature.


def _takes_all(function: Callable[..., Any]) -> bool:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False
    return len(names) > 1 and names[1] in ALL_ANSWERS
