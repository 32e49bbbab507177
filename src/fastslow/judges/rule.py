"""A rule of the user's own: a function in a Python file that scores an answer."""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from fastslow.errors import ConfigError, JudgeError
from fastslow.judges.base import Judge, Judgement, JudgeRequest, scored
from fastslow.plugins import module_in
from fastslow.records import plain_text

Rule = Callable[[str, str], float]


class RuleJudge(Judge):
    """Scores by `function(prompt, answer) -> float` of a Python file, which is run.

    The prompt is text; of a conversation, its last turn. Raises ConfigError where there is no such
    function, JudgeError where it fails or gives no finite number.
    """

    def __init__(self, file: Path, function: str) -> None:
        module = module_in(file, key="judge.file")
        self._rule = getattr(module, function, None)
        if not callable(self._rule):
            raise ConfigError(f"judge.function: {file} defines no function {function!r}")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        self._name = f"rule {function} of {file.name} ({digest})"

    @property
    def name(self) -> str:
        return self._name

    def judge(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        """A judgement of each."""
        return [
            scored([self._score(plain_text(one.prompt), answer) for answer in one.answers])
            for one in asked
        ]

    def _score(self, prompt: str, answer: str) -> float:
        assert self._rule is not None
        try:
            score = self._rule(prompt, answer)
        except Exception as error:
            raise JudgeError(
                f"{self.name} failed on an answer: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            raise JudgeError(f"{self.name} gave {score!r}; it must return a finite number")
        return float(score)
