"""The result of optimising an instruction: summary.json."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fastslow.atomic_io import write_text
from fastslow.config.prompts import KIND
from fastslow.errors import StateError
from fastslow.foreign_files import misfit, read_json


@dataclass(frozen=True, slots=True)
class MethodResult:
    """What one method found."""

    instruction: str
    """The best on the validation questions; of several the first."""
    validation: float
    """Its mean score there, 0 to 1."""
    test: float | None
    """Its mean score on the test questions; None without any."""
    evaluations: int
    """Candidates that the method evaluated."""
    found_at: int
    """The evaluation that found it, from 1."""
    candidates: list[int]
    """Places of what it evaluated in the pool, in order."""


@dataclass(frozen=True, slots=True)
class PromptSummary:
    """The result of a run."""

    methods: dict[str, MethodResult]
    pool: int
    """Different candidates."""
    evaluated: int
    """Candidates that were asked; one that several methods evaluate is asked once."""
    cost: dict[str, int]
    """What that cost, with the tests: `calls`, `prompt_tokens`, `completion_tokens`, and what the
    judge counts after `judge_`. Writing the pool is in `pool_cost`."""
    pool_cost: dict[str, int]
    kind: str = KIND

    def write(self, path: Path) -> None:
        """Write the summary in one step."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        write_text(path, text, private=True)

    @classmethod
    def read(cls, path: Path) -> "PromptSummary":
        """The summary that `write` wrote. Raises StateError where it is damaged."""
        given = read_json(path, dict)
        if fault := misfit(given, cls):
            raise StateError(f"{path} is damaged: {fault}; restore it")
        methods = {name: MethodResult(**own) for name, own in given.pop("methods").items()}
        return cls(methods=methods, **given)
