"""The user's own rule: a function or a class in a Python file that judges answers."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastslow.errors import ConfigError, did_you_mean
from fastslow.judges.base import Judge, Judgement, JudgeRequest
from fastslow.judges.objects import as_judge
from fastslow.plugins import module_in


class RuleJudge(Judge):
    """Judges with a function or class that a Python file defines; the file is run. Its form is one
    of those in `fastslow.judges.objects`.

    The prompt is text; of a conversation, its last turn. Raises ConfigError if nothing has
    that name, JudgeError where it fails or gives no finite number.
    """

    def __init__(self, file: Path, function: str) -> None:
        module = module_in(file, key="judge.file")
        value = getattr(module, function, None)
        if value is None:
            defined = [name for name, value in vars(module).items() if callable(value)]
            raise ConfigError(
                f"judge.function: {file} defines no function or class {function!r}"
                f"{did_you_mean(function, defined)}"
            )
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        self._name = f"rule {function} of {file.name} ({digest})"
        self._judge = as_judge(value, self._name)

    @property
    def name(self) -> str:
        return self._name

    @property
    def cost(self) -> Mapping[str, int]:
        """What the rule counts of its own work, if it does."""
        return self._judge.cost

    def judge(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        return self._judge.judge(asked)
