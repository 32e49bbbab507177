"""Arena-Hard v2.0: a judge compares answers to hard prompts with a baseline's, twice."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.errors import StateError
from fastslow.evaluation import BenchmarkScore
from fastslow.foreign_files import misfit, read_log
from fastslow.harnesses.base import EvaluatedRun, EvaluationRequest
from fastslow.harnesses.questions import answers_to, model_name, questions_of, write_lines

DATA = "data/arena-hard-v2.0"
"""The folder layout of arena-hard-auto, which is used here too."""
WEIGHT = 3
"""Number of battles that a clear verdict counts as."""
WINS_OF_A = {
    "A>>B": [1.0] * WEIGHT, "A>B": [1.0], "A=B": [0.5], "B=A": [0.5], "A<B": [0.0],
    "B>A": [0.0], "A<<B": [0.0] * WEIGHT, "B>>A": [0.0] * WEIGHT, "B<A": [1.0],
    "B<<A": [1.0] * WEIGHT,
}  # fmt: skip
"""Wins that a verdict gives to the first answer, one number per battle."""


class ArenaHard:
    """Writes answers in the format of arena-hard-auto and reads its judgements."""

    name = "arena-hard"
    options = frozenset({"data", "limit", "max_new_tokens", "temperature", "seed"})
    by_hand = True

    def prepare(self, run: EvaluatedRun, request: EvaluationRequest, folder: Path) -> str:
        questions = questions_of(
            request,
            tool=self.name,
            columns={"uid": str, "prompt": str},
            where="question.jsonl of arena-hard-auto's data/arena-hard-v2.0",
        )
        name, path = model_name(run, request), folder / DATA
        prompts = [[{"role": "user", "content": question["prompt"]}] for question in questions]
        answers = answers_to(run, request, prompts, temperature=0.0)
        rows = [
            {
                "uid": question["uid"],
                "ans_id": f"{name}-{question['uid']}",
                "model": name,
                "messages": [*prompt, {"role": "assistant", "content": {"answer": answer}}],
                "tstamp": 0,
            }
            for question, prompt, answer in zip(questions, prompts, answers, strict=True)
        ]
        write_lines(path / "question.jsonl", questions)
        written = path / "model_answer" / f"{name}.jsonl"
        write_lines(written, rows)
        return (
            f"{len(rows)} answers: {written}\n"
            "To judge them, in arena-hard-auto, which has the baselines' answers:\n"
            f"  cp {written} {DATA}/model_answer/\n"
            f"  python gen_judgment.py   # model_list of config/arena-hard-v2.0.yaml: {name}\n"
            f"Then copy {DATA}/model_judgment/JUDGE/{name}.jsonl to "
            f"{path / 'model_judgment'}/JUDGE and run the same command with --read in place of "
            "--data."
        )

    def read(self, folder: Path) -> list[BenchmarkScore]:
        names = {path.stem for path in folder.glob(f"{DATA}/model_answer/*.jsonl")}
        battles: dict[str, list[float]] = {}
        judged: dict[str, int] = {}
        for path in sorted(folder.glob(f"{DATA}/model_judgment/*/*.jsonl")):
            for number, row in read_log(path):
                try:
                    if row["model"] not in names or (scores := _scores(row)) is None:
                        continue
                    task = f"arena_hard {row['category']}"
                except (KeyError, TypeError, ValueError) as error:
                    raise StateError(
                        f"{path}:{number}: not a judgement of arena-hard-auto ({error})"
                    ) from None
                battles.setdefault(task, []).extend(scores)
                judged[task] = judged.get(task, 0) + 1
        return [
            BenchmarkScore(task, "win rate", 100 * fmean(scores), None, judged[task])
            for task, scores in sorted(battles.items())
        ]


def _scores(row: Mapping[str, Any]) -> list[float] | None:
    """The model's wins in the two games about a question; None if one has no verdict.

    The baseline's answer is first in the first game, the model's in the second.
    """
    if fault := misfit(row["games"], list[dict[str, Any] | None], "'games'"):
        raise ValueError(fault)
    first, second = row["games"]
    if first is None or second is None or None in (first["score"], second["score"]):
        return None
    return [*WINS_OF_A[second["score"]], *(1 - win for win in WINS_OF_A[first["score"]])]
