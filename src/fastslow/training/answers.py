"""A policy's answers to prompts, compared by a judge, as rows to learn from.

They are written in parts, each whole or not there, so that what was sampled and judged is never
lost: the parts that are there are not made again.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.config import RoundsConfig
from fastslow.durable import write_rows, write_text
from fastslow.errors import DataError
from fastslow.judges import Asked, Judge, Judgement
from fastslow.records import Text
from fastslow.sampling import Sample
from fastslow.scoring import Encoder, Tree
from fastslow.streams import json_text
from fastslow.training.events import Progress
from fastslow.training.policies import Policies

AT_ONCE = 32
"""Prompts of one part."""
COUNTS = "counts.json"


@dataclass(frozen=True, slots=True)
class Answering:
    """Everything that answers depend on beside their prompts.

    `policy` names the one that answers, `told` is what its answers' provenance says of it.
    """

    policies: Policies
    policy: str
    encoder: Encoder
    judge: Judge
    sampling: RoundsConfig
    seed: int
    told: dict[str, Any]


def write_answers(
    to: Path, prompts: Sequence[Text], answering: Answering, *, ranked: bool, progress: Progress
) -> dict[str, int]:
    """Answer the prompts, have the answers judged, and write rows to learn from into a folder.

    Rows are pairs, the best answer against the worst, or with `ranked` lists of all. A prompt
    whose answers are all the same has no row. Returns the counts, which are also in the folder.
    Raises JudgeError, after which the same call goes on, and DataError if no prompt has a row.
    """
    to.mkdir(parents=True, exist_ok=True)
    parts = [prompts[first : first + AT_ONCE] for first in range(0, len(prompts), AT_ONCE)]
    for number, part in enumerate(parts):
        path = to / f"{number:05d}.jsonl"
        if not path.exists():
            write_rows(path, _rows(part, answering, seed=answering.seed + number, ranked=ranked))
        progress(min((number + 1) * AT_ONCE, len(prompts)), len(prompts))
    counts = _counts(to, len(prompts))
    if not counts["rows"]:
        raise DataError(
            f"none of {len(prompts)} prompts has two different answers; raise the temperature, or "
            f"max_new_tokens = {answering.sampling.max_new_tokens}"
        )
    write_text(to / COUNTS, json.dumps(counts, indent=1) + "\n")
    return counts


def finished_answers(folder: Path) -> bool:
    """Whether all answers of a round are there."""
    return (folder / COUNTS).exists()


def _counts(folder: Path, prompts: int) -> dict[str, int]:
    """Prompts, rows, ties among them, and answers that the limit cut off."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            rows += [json.loads(line) for line in lines]
    ties = sum(len(set(row["sampled"]["scores"])) == 1 for row in rows)
    unended = sum(sum(row["sampled"]["unended"]) for row in rows)
    return {"prompts": prompts, "rows": len(rows), "ties": ties, "unended": unended}


def _rows(
    prompts: Sequence[Text], answering: Answering, *, seed: int, ranked: bool
) -> Iterator[dict[str, Any]]:
    answered = _answered(prompts, answering, seed)
    judgements = answering.judge.judge([one.asked for one in answered])
    for one, judgement in zip(answered, judgements, strict=True):
        provenance = {
            **answering.told,
            "judge": answering.judge.name,
            "temperature": answering.sampling.temperature,
            "answers": list(one.asked.answers),
            "scores": list(judgement.scores),
            "logps": one.logps,
            "unended": one.unended,
        }
        row = _ranked(one, judgement) if ranked else _pair(one, judgement)
        yield {"prompt": json_text(one.asked.prompt), **row, "sampled": provenance}


@dataclass(frozen=True, slots=True)
class _Answered:
    """A prompt with two or more different answers."""

    asked: Asked
    logps: list[float]
    """Of each answer under the policy, nats."""
    unended: list[bool]


def _answered(prompts: Sequence[Text], answering: Answering, seed: int) -> list[_Answered]:
    encoder, sampling = answering.encoder, answering.sampling
    room = sampling.max_new_tokens
    ids = [encoder.prompt_ids(prompt, room=room) for prompt in prompts]
    given = answering.policies.answer(
        answering.policy,
        ids,
        end_ids=sorted(encoder.end_ids),
        max_new_tokens=room,
        seed=seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        per_prompt=sampling.answers,
    )
    different = [_different(samples, encoder) for samples in given]
    usable = [place for place, own in enumerate(different) if len(own) > 1]
    if not usable:
        return []
    trees = [
        Tree(ids[place], tuple(sample.tokens for sample in different[place].values()))
        for place in usable
    ]
    sums = answering.policies.measure(
        answering.policy, answering.policies.batch(trees), temperature=sampling.temperature
    ).sums
    logps = sums.split([len(tree.responses) for tree in trees])
    return [
        _Answered(
            asked=Asked(prompts[place], tuple(different[place])),
            logps=[round(value, 4) for value in own.tolist()],
            unended=[not sample.ended for sample in different[place].values()],
        )
        for place, own in zip(usable, logps, strict=True)
    ]


def _different(samples: Sequence[Sample], encoder: Encoder) -> dict[str, Sample]:
    """The answers that say something, each text once."""
    found: dict[str, Sample] = {}
    for sample in samples:
        text = encoder.tokenizer.decode(sample.tokens, skip_special_tokens=True)
        if text.strip():
            found.setdefault(text, sample)
    return found


def _pair(answered: _Answered, judgement: Judgement) -> dict[str, Any]:
    """The best answer against the worst, of equals the first ones."""
    answers, scores, rates = answered.asked.answers, judgement.scores, judgement.win_rates
    order = sorted(range(len(answers)), key=lambda i: -scores[i])
    best, worst = order[0], order[-1]
    return {
        "chosen": answers[best],
        "rejected": answers[worst],
        "verdict": "tie" if scores[best] == scores[worst] else "chosen",
        "score_chosen": scores[best],
        "score_rejected": scores[worst],
        "win_rate_chosen": rates[best],
        "win_rate_rejected": rates[worst],
        "unended": [answered.unended[best], answered.unended[worst]],
    }


def _ranked(answered: _Answered, judgement: Judgement) -> dict[str, Any]:
    return {
        "completions": list(answered.asked.answers),
        "scores": list(judgement.scores),
        "unended": answered.unended,
    }
