"""AlpacaEval 2: a judge compares answers with a reference model's."""

import csv
import json
from os import environ
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.config import LlmJudgeConfig, dump_yaml
from fastslow.errors import StateError
from fastslow.evaluation import BenchmarkScore
from fastslow.foreign_files import read_json
from fastslow.harnesses.base import EvaluatedRun, EvaluationRequest, ToolCommand
from fastslow.harnesses.questions import answers_to, model_name, questions_of

PROMPT = "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
"""AlpacaEval 2's own prompt for its judge, in its package."""
WITH_ITS_PROMPT = f"""
import shutil, sys
from alpaca_eval import constants, main
shutil.copy(constants.EVALUATORS_CONFIG_DIR / {PROMPT!r}, sys.argv.pop(1))
main.main()
"""
"""Copies the prompt to where a custom judge's configuration must be, and runs AlpacaEval."""
TEMPERATURE = 0.7
"""The temperature that AlpacaEval itself samples most models at."""
METRICS = {
    "length_controlled_winrate": "lc_standard_error", "win_rate": "standard_error",
    "discrete_win_rate": None, "avg_length": None,
}  # fmt: skip
"""Columns of its table, with the columns of their standard errors."""


class AlpacaEval:
    """Writes the answers, the reference's answers and, for a judge behind a URL, its configuration.

    Without a judge AlpacaEval asks its default one, GPT-4 Turbo at OpenAI.
    """

    name = "alpaca-eval"
    options = frozenset(
        {"data", "limit", "judge", "max_new_tokens", "temperature", "seed", "arguments"}
    )
    by_hand = False

    def prepare(self, run: EvaluatedRun, request: EvaluationRequest, folder: Path) -> ToolCommand:
        folder = folder.resolve()
        references = questions_of(
            request,
            tool=self.name,
            columns={"instruction": str, "output": str},
            where="reference answers in AlpacaEval's format, a list of objects with instruction, "
            "output and generator (its own are alpaca_eval_gpt4_baseline.json of the Hub's "
            "tatsu-lab/alpaca_eval)",
        )
        prompts = [row["instruction"] for row in references]
        answers = answers_to(run, request, prompts, temperature=TEMPERATURE)
        outputs = [
            {
                "instruction": row["instruction"],
                "output": answer,
                "generator": model_name(run, request),
            }
            | ({"dataset": row["dataset"]} if "dataset" in row else {})
            for row, answer in zip(references, answers, strict=True)
        ]
        named = [{"generator": "reference"} | row for row in references]
        _write(folder / "model_outputs.json", outputs)
        _write(folder / "reference_outputs.json", named)
        arguments = [
            "evaluate",
            f"--model_outputs={folder / 'model_outputs.json'}",
            f"--reference_outputs={folder / 'reference_outputs.json'}",
            f"--output_path={folder / 'results'}",
            "--precomputed_leaderboard=None",
        ]
        if request.judge is None:
            program, environment = ["-m", "alpaca_eval.main"], {}
        else:
            annotator = _write_judge(folder, request.judge)
            arguments += [
                f"--annotators_config={annotator}",
                # The length-controlled rate needs a file from the Hub, and its own questions.
                "--fn_metric=get_winrate",
                "--sort_by=win_rate",
            ]
            program, environment = ["-c", WITH_ITS_PROMPT, str(annotator)], _server(request.judge)
        line = [*program, *arguments, *request.arguments]
        return ToolCommand(line, ["alpaca-eval"], environment)

    def read(self, folder: Path) -> list[BenchmarkScore]:
        paths = sorted(folder.glob("results/**/leaderboard.csv"))
        if not paths:
            return []
        try:
            generator = read_json(folder / "model_outputs.json", list[dict[str, Any]])[0][
                "generator"
            ]
            with paths[-1].open(encoding="utf-8", newline="") as file:
                row = {row[""]: row for row in csv.DictReader(file)}[generator]
            count = int(float(row["n_total"]))
            return [
                BenchmarkScore(
                    "alpaca_eval", name, float(row[name]), float(row[error]) if error else None,
                    count,
                )
                for name, error in METRICS.items()
                if row.get(name)
            ]  # fmt: skip
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise StateError(f"{paths[-1]} is not a table of AlpacaEval: {error}") from None


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, json.dumps(rows, ensure_ascii=False, indent=1) + "\n", private=True)


def _write_judge(folder: Path, judge: LlmJudgeConfig) -> Path:
    """The folder of an annotator like AlpacaEval 2's except for the model: it weighs the answers by
    the probabilities of their one-letter names."""
    annotator = folder / "judge"
    annotator.mkdir()
    config = {
        "prompt_template": f"judge/{Path(PROMPT).name}",
        "fn_completions": "openai_completions",
        "completions_kwargs": {
            "model_name": judge.model,
            "max_tokens": 1,
            "temperature": 1,
            "logprobs": True,
            "top_logprobs": 5,
            "requires_chatml": True,
            "is_chat": True,
        },
        "fn_completion_parser": "logprob_parser",
        "completion_parser_kwargs": {
            "numerator_token": "m",
            "denominator_tokens": ["m", "M"],
            "is_binarize": False,
        },
        "completion_key": "completions_all",
        "batch_size": 1,
    }
    write_text(annotator / "configs.yaml", dump_yaml({"judge": config}))
    return annotator


def _server(judge: LlmJudgeConfig) -> dict[str, str]:
    """The environment variables by which AlpacaEval finds the judge's server."""
    key = environ.get(judge.api_key_env, "").strip() or "none"
    return {
        "OPENAI_API_BASE": judge.url,
        "OPENAI_API_KEYS": key,
        "OPENAI_MAX_CONCURRENCY": str(judge.max_concurrency),
    }
