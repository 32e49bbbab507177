"""EleutherAI's lm-evaluation-harness: a task made of held-out pairs, and any of its own tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE, at_revision
from fastslow.atomic_io import write_text
from fastslow.config import dump_yaml
from fastslow.errors import StateError
from fastslow.evaluation import BenchmarkScore
from fastslow.foreign_files import misfit, read_json
from fastslow.harnesses.base import EvaluatedRun, EvaluationRequest, ToolCommand
from fastslow.harnesses.questions import write_lines
from fastslow.scoring import RenderedPair

TASK = "fastslow_pairs"
BATCH = 8
"""Sequences per forward pass, unless `--batch_size` says otherwise."""
RESULTS: dict[str, Any] = {
    "results": dict[str, dict[str, Any]], "n-samples": dict[str, dict[str, Any]],
}  # fmt: skip
"""The parts of a results file that are used."""


class LmEval:
    """Writes a task and a configuration; `lm_eval run` reads both.

    A policy that is one PEFT folder on its base is evaluated with lm-eval's own `hf` model. Any
    other policy (a router) needs the model in `lm_eval_model`, and so fastslow installed beside
    lm-eval.
    """

    name = "lm-eval"
    options = frozenset({"data", "limit", "arguments"})
    by_hand = False

    def prepare(self, run: EvaluatedRun, request: EvaluationRequest, folder: Path) -> ToolCommand:
        folder = folder.resolve()
        (folder / "tasks").mkdir()
        if _uses_pairs(request.arguments):
            pairs = run.rendered_pairs(request.data, max_pairs=request.limit)
            write_lines(folder / "pairs.jsonl", [_row(pair, i) for i, pair in enumerate(pairs)])
            write_text(folder / "tasks" / f"{TASK}.yaml", dump_yaml(_task(folder / "pairs.jsonl")))
        model = _model(run, request.module)
        config = {
            **model,
            "tasks": [TASK],
            "include_path": str(folder / "tasks"),
            "output_path": str(folder / "results"),
            "log_samples": True,
            "batch_size": BATCH,
        }
        write_text(folder / "config.yaml", dump_yaml(config))
        needs_fastslow = model["model"] != "hf"
        module = "fastslow.harnesses.lm_eval_model" if needs_fastslow else "lm_eval"
        return ToolCommand(
            ["-m", module, "run", "--config", str(folder / "config.yaml"), *request.arguments],
            ["lm-eval", "fastslow"] if needs_fastslow else ["lm-eval", "peft"],
        )

    def read(self, folder: Path) -> list[BenchmarkScore]:
        paths = sorted(folder.glob("results/**/results_*.json"), key=lambda path: path.name)
        if not paths:
            return []
        results = read_json(paths[-1], dict[str, Any])
        for key, shape in RESULTS.items():
            if fault := misfit(results.get(key), shape, repr(key)):
                raise StateError(f"{paths[-1]} holds no results of lm-eval: {fault}")
        counts = results["n-samples"]
        return [
            score
            for task, values in results["results"].items()
            for score in _scores(task, values, counts.get(task, {}).get("effective"))
        ]


def _uses_pairs(arguments: Sequence[str]) -> bool:
    """Whether lm-eval is asked for the task of held-out pairs: always, unless other tasks are named
    without it."""
    named = any(argument.split("=")[0] in ("--tasks", "-t") for argument in arguments)
    return not named or any(TASK in argument for argument in arguments)


def _row(pair: RenderedPair, number: int) -> dict[str, Any]:
    # lm-eval breaks ties in favour of the first: the right one is first every other time.
    label = number % 2
    choices = [pair.chosen, pair.rejected] if label == 0 else [pair.rejected, pair.chosen]
    return {"prompt": pair.prompt, "choices": choices, "label": label}


def _task(pairs: Path) -> dict[str, Any]:
    """The task: choose the likelier of two responses.

    It names columns instead of templates, so nothing in a text is expanded.
    """
    return {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(pairs)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


def _model(run: EvaluatedRun, module: str) -> dict[str, Any]:
    """The keys `model` and `model_args` of lm-eval's configuration."""
    recipe, name = run.recipe, run.policy(module)
    adapter = run.adapter(module)
    if adapter is None and name != BASE:
        model_args = {"run": str(run.folder.resolve()), "module": module}
        return {"model": "fastslow", "model_args": model_args}
    base, (name_on_hub, revision) = Path(recipe.model), at_revision(recipe.model)
    arguments: dict[str, Any] = {
        "pretrained": str(base.resolve()) if base.is_dir() else name_on_hub,
        "dtype": "bfloat16" if recipe.train.precision == "bfloat16" else "float32",
    }
    if revision is not None:
        arguments["revision"] = revision
    if adapter is not None:
        arguments["peft"] = str(adapter.resolve())
    if recipe.trust_remote_code:
        arguments["trust_remote_code"] = True
    return {"model": "hf", "model_args": arguments}


def _scores(task: str, values: dict[str, Any], count: int | None) -> list[BenchmarkScore]:
    """The metrics of a task, such as `acc,none`, with their errors, `acc_stderr,none`."""
    scores = []
    for key, value in values.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        stderr = values.get(f"{metric}_stderr,{filtered}")
        title = metric if filtered == "none" else f"{metric} ({filtered})"
        error = stderr if isinstance(stderr, (int, float)) else None
        scores.append(BenchmarkScore(task, title, float(value), error, count))
    return scores
