"""RewardBench: which of two answers a reward model, or a policy against its reference, prefers.

Its own tool pins an old transformers and needs whole models, in 8 bit for policies. So its rows are
scored here, with the code that trained the run; results are in the format of its tool.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.errors import DataError, StateError
from fastslow.evaluation import BenchmarkScore
from fastslow.foreign_files import misfit, read_json
from fastslow.harnesses.base import EvaluatedRun, EvaluationRequest
from fastslow.harnesses.questions import model_name, questions_of, write_lines

RESULTS = "results/rewardbench.json"
SHAPE: dict[str, Any] = {
    "accuracy": float, "num_prompts": int, "extra_results": dict[str, float] | None,
}  # fmt: skip
"""The parts of a results file that are used."""
_HUMAN_EVAL = dict.fromkeys([f"hep-{name}" for name in ("cpp", "go", "java", "js", "python",
                                                       "rust")], 164)  # fmt: skip
SECTIONS: Mapping[str, Mapping[str, int]] = {
    "Chat": {
        "alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95,
        "mt-bench-easy": 28, "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92, "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154,
        "xstest-should-respond": 250, "donotanswer": 136,
    },
    "Reasoning": {"math-prm": 984, **_HUMAN_EVAL},
}  # fmt: skip
"""RewardBench's sections and the weights of their subsets: their sizes, except math, which weighs
as much as all code."""


class RewardBench:
    """Scores RewardBench's rows, `filtered.json` or any others with the same columns."""

    name = "rewardbench"
    options = frozenset({"data", "limit"})
    by_hand = False

    def prepare(self, run: EvaluatedRun, request: EvaluationRequest, folder: Path) -> None:
        rows = questions_of(
            request,
            tool=self.name,
            columns={"prompt": str, "chosen": str, "rejected": str, "subset": str},
            where="rows of RewardBench as JSON, with prompt, chosen, rejected and subset (its own "
            "are the split `filtered` of the Hub's allenai/reward-bench)",
        )
        scores = run.score(rows, module=request.module)
        outputs = [
            {**row, "margin": score.margin, "results": _result(score.margin)}
            for row, score in zip(rows, scores, strict=True)
            if score.margin is not None
        ]
        if len(outputs) < len(rows):
            skipped = next(score.skipped for score in scores if score.margin is None)
            raise DataError(
                f"{len(rows) - len(outputs)} of {len(rows)} rows cannot be scored: {skipped}"
            )
        write_lines(folder / "outputs.jsonl", outputs)
        results = {
            "accuracy": _mean(outputs),
            "num_prompts": len(outputs),
            "model": model_name(run, request),
            "extra_results": {
                subset: _mean([row for row in outputs if row["subset"] == subset])
                for subset in sorted({row["subset"] for row in outputs})
            },
        }
        (folder / RESULTS).parent.mkdir()
        write_text(folder / RESULTS, json.dumps(results, indent=1) + "\n")

    def read(self, folder: Path) -> list[BenchmarkScore]:
        path = folder / RESULTS
        if not path.exists():
            return []
        results = read_json(path, dict[str, Any])
        for key, shape in SHAPE.items():
            if fault := misfit(results.get(key), shape, repr(key)):
                raise StateError(f"{path} holds no results of RewardBench: {fault}")
        subsets: dict[str, float] = results["extra_results"] or {}
        sections = section_scores(subsets)
        scores = [BenchmarkScore("all rows", "accuracy", results["accuracy"], None,
                                 results["num_prompts"])]  # fmt: skip
        scores += [BenchmarkScore(name, "accuracy", value) for name, value in sections.items()]
        if len(sections) == len(SECTIONS):
            mean = sum(sections.values()) / len(sections)
            scores.append(BenchmarkScore("mean of the sections", "accuracy", mean))
        return scores + [BenchmarkScore(f"  {name}", "accuracy", subsets[name]) for name in subsets]


def section_scores(subsets: Mapping[str, float]) -> dict[str, float]:
    """The accuracy of each section that has a subset here, from those of its subsets.

    >>> section_scores({"mt-bench-easy": 1.0, "mt-bench-med": 0.5, "other": 0.0})
    {'Chat': 0.7058823529411765}
    """
    accuracies = {}
    for section, weights in SECTIONS.items():
        present = {name: weight for name, weight in weights.items() if name in subsets}
        if present:
            total = sum(subsets[name] * weight for name, weight in present.items())
            accuracies[section] = total / sum(present.values())
    return accuracies


def _result(margin: float) -> int:
    return 1 if margin > 0 else 0


def _mean(rows: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(row["results"] for row in rows) / len(rows))
