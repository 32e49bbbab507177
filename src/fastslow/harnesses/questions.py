"""Reads a benchmark's questions from its own file, and samples a policy's answers to them."""

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.config import read_file
from fastslow.errors import ConfigError, DataError
from fastslow.foreign_files import misfit
from fastslow.harnesses.base import EvaluatedRun, EvaluationRequest

MOST_BYTES = 256 << 20
"""Largest file of questions, in bytes: unlike recipes, benchmarks may have tens of megabytes."""


def questions_of(
    request: EvaluationRequest, *, tool: str, columns: dict[str, Any], where: str
) -> list[dict[str, Any]]:
    """The rows of the one file that a request names, JSON or a JSON object a line, at most `limit`.

    Args:
        request: the evaluation request.
        tool: for messages.
        columns: the columns that every row must have, and their shapes.
        where: what the file is and where to find it, for messages.

    Raises ConfigError without a file, DataError if it holds other rows.
    """
    files = [request.data] if isinstance(request.data, (str, Path)) else list(request.data or [])
    if len(files) != 1 or not isinstance(files[0], (str, Path)):
        raise ConfigError(f"{tool}: give one file with --data: {where}")
    path = Path(files[0])
    rows = _rows(path)[: request.limit]
    if not rows:
        raise DataError(f"{path} holds no questions")
    for number, row in enumerate(rows, 1):
        for name, shape in columns.items():
            if fault := misfit(row, dict, "the row") or misfit(row.get(name), shape, repr(name)):
                raise DataError(f"{path}:{number}: {fault}; {tool} needs {where}")
    return rows


def _rows(path: Path) -> list[Any]:
    try:
        text = read_file(path, what=str(path), most=MOST_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    try:
        if text.lstrip().startswith("["):
            rows: list[Any] = json.loads(text)
            return rows
        # `splitlines` would also split at U+2028 and others, which JSON allows in a text.
        lines = StringIO(text, newline=None)
        return [json.loads(line) for line in lines if line.strip()]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is neither JSON nor a JSON object a line: {error}") from None


def answers_to(
    run: EvaluatedRun,
    request: EvaluationRequest,
    prompts: Sequence[Any],
    *,
    temperature: float,
) -> list[str]:
    """One answer to each prompt, at the request's temperature, else at `temperature`.

    Raises ConfigError unless the request says how long an answer may be.
    """
    if request.max_new_tokens is None:
        raise ConfigError(
            "max_new_tokens: give the longest answer in tokens (--max-new-tokens); answers that "
            "are cut off lose"
        )
    answers = run.generate(
        prompts,
        module=request.module,
        max_new_tokens=request.max_new_tokens,
        temperature=temperature if request.temperature is None else request.temperature,
        seed=request.seed or 0,
    )
    return [answer for (answer,) in answers]


def model_name(run: EvaluatedRun, request: EvaluationRequest) -> str:
    """The policy's name in a tool's tables and files."""
    return f"{run.folder.resolve().name}-{run.policy(request.module)}"


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows, one JSON object per line; creates the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(path, "".join(lines), private=True)
