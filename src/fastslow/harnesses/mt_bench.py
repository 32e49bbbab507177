"""MT-Bench: a judge grades answers in conversations of two turns from 1 to 10."""

from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.errors import StateError
from fastslow.evaluation import BenchmarkScore
from fastslow.foreign_files import misfit, read_log
from fastslow.harnesses.base import EvaluatedRun, EvaluationRequest
from fastslow.harnesses.questions import answers_to, model_name, questions_of, write_lines

DATA = "data/mt_bench"
"""The folder layout of FastChat's `llm_judge`, which is used here too."""
TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "extraction": 0.0, "math": 0.0, "coding": 0.0,
    "reasoning": 0.0, "stem": 0.1, "humanities": 0.1,
}  # fmt: skip
"""Sampling temperatures of MT-Bench's categories."""
OTHER_TEMPERATURE = 0.7
NO_GRADE = -1
"""Score of a judgement in which no grade was found."""


class MtBench:
    """Writes answers in the format of FastChat and reads its judgements of single answers."""

    name = "mt-bench"
    options = frozenset({"data", "limit", "max_new_tokens", "temperature", "seed"})
    by_hand = True

    def prepare(self, run: EvaluatedRun, request: EvaluationRequest, folder: Path) -> str:
        questions = questions_of(
            request,
            tool=self.name,
            columns={"question_id": int | str, "category": str, "turns": list[str]},
            where="question.jsonl of FastChat's llm_judge/data/mt_bench",
        )
        name, path = model_name(run, request), folder / DATA
        turns = _answers(run, request, questions)
        rows = [
            {
                "question_id": question["question_id"],
                "answer_id": f"{name}-{question['question_id']}",
                "model_id": name,
                "choices": [{"index": 0, "turns": answers}],
                "tstamp": 0,
            }
            for question, answers in zip(questions, turns, strict=True)
        ]
        write_lines(path / "question.jsonl", questions)
        answers = path / "model_answer" / f"{name}.jsonl"
        write_lines(answers, rows)
        return (
            f"{len(rows)} answers: {answers}\n"
            "To judge them, in FastChat's fastchat/llm_judge, which has the judge's prompts:\n"
            f"  cp {answers} data/mt_bench/model_answer/\n"
            f"  python gen_judgment.py --model-list {name} --judge-model gpt-4\n"
            f"Then copy data/mt_bench/model_judgment/gpt-4_single.jsonl to "
            f"{path / 'model_judgment'} and run the same command with --read in place of --data."
        )

    def read(self, folder: Path) -> list[BenchmarkScore]:
        questions = folder / DATA / "question.jsonl"
        rows = read_log(questions) if questions.exists() else ()
        categories = {row.get("question_id"): row.get("category") for _, row in rows}
        names = {path.stem for path in folder.glob(f"{DATA}/model_answer/*.jsonl")}
        grades: dict[str, list[float]] = {}
        for path in sorted(folder.glob(f"{DATA}/model_judgment/*_single.jsonl")):
            for number, row in read_log(path):
                for key, shape in {"model": str, "score": float, "turn": int}.items():
                    if fault := misfit(row.get(key), shape, repr(key)):
                        raise StateError(f"{path}:{number}: {fault}; restore the file")
                # A file holds the judgements of all models that this judge has graded.
                if row["model"] in names and row["score"] != NO_GRADE:
                    category = categories.get(row.get("question_id"))
                    parts = [f" turn {row['turn']}", *([f" {category}"] if category else [])]
                    for part in ("", *parts):
                        grades.setdefault(f"mt_bench{part}", []).append(row["score"])
        return [
            BenchmarkScore(task, "grade of 10", fmean(grades[task]), None, len(grades[task]))
            for task in sorted(grades)
        ]


def _answers(
    run: EvaluatedRun, request: EvaluationRequest, questions: list[dict[str, Any]]
) -> list[list[str]]:
    """The answers to all turns of each question; each turn follows the answer to the one before."""
    answers: list[list[str]] = [[] for _ in questions]
    for turn in range(max(len(question["turns"]) for question in questions)):
        for temperature in sorted({_temperature(question) for question in questions}):
            places = [
                place
                for place, question in enumerate(questions)
                if len(question["turns"]) > turn and _temperature(question) == temperature
            ]
            conversations = [
                _conversation(questions[place]["turns"][: turn + 1], answers[place])
                for place in places
            ]
            new_answers = (
                answers_to(run, request, conversations, temperature=temperature)
                if conversations
                else []
            )
            for place, answer in zip(places, new_answers, strict=True):
                answers[place].append(answer)
    return answers


def _temperature(question: dict[str, Any]) -> float:
    return TEMPERATURES.get(question["category"], OTHER_TEMPERATURE)


def _conversation(turns: list[str], answers: list[str]) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": turns[0]}]
    for answer, turn in zip(answers, turns[1:], strict=True):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    return messages
