"""A policy's completions, compared by a judge, as training rows on disk.

They are written in parts, each atomically, so that finished parts survive an interruption and are
not repeated.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_rows, write_text
from fastslow.config import RoundsConfig
from fastslow.errors import DataError
from fastslow.judges import Judge
from fastslow.records import Prompt
from fastslow.sampling import Engine
from fastslow.scoring import Encoder
from fastslow.streams import row_of
from fastslow.training.on_policy.generation import generate_groups, judged
from fastslow.training.on_policy.judging import PreferenceWatch, judge_in_main
from fastslow.training.policies.policies import Policies
from fastslow.training.state.event_log import Progress

AT_ONCE = 32
"""Prompts per part."""
COUNTS = "counts.json"
COST = "cost.json"
"""The judge's usage for each part, if it counts it."""


@dataclass(frozen=True, slots=True)
class RoundSampling:
    """Everything that completions depend on besides their prompts.

    `policy` is the name of the sampling policy, `provenance` is stored with its completions, `kind`
    is the kind of examples the objective takes.
    """

    policies: Policies
    policy: str
    encoder: Encoder
    judge: Judge
    config: RoundsConfig
    kind: str
    seed: int
    provenance: dict[str, Any]
    engine: Engine | None = None
    """Samples in place of the local policy, with its module."""


def write_answers(
    to: Path, prompts: Sequence[Prompt], sampling: RoundSampling, *, progress: Progress
) -> dict[str, int]:
    """Sample completions, judge them, and write training rows into a folder.

    A prompt whose completions are all the same gets no row. Returns the counts, which are also in
    the folder. Raises JudgeError, after which the same call resumes, and DataError if no prompt
    gets a row.
    """
    to.mkdir(parents=True, exist_ok=True)
    parts = [prompts[first : first + AT_ONCE] for first in range(0, len(prompts), AT_ONCE)]
    before, watch = dict(sampling.judge.cost), PreferenceWatch(sampling.judge)
    for number, part in enumerate(parts):
        path = to / f"{number:05d}.jsonl"
        if not path.exists():
            rows = list(_rows(part, sampling, watch, seed=sampling.seed + number))
            # Before the rows: a part interrupted in between is made and counted again.
            _write_cost(to / COST, path.stem, sampling.judge.cost, before)
            before = dict(sampling.judge.cost)
            write_rows(path, rows, private=True)
        progress(min((number + 1) * AT_ONCE, len(prompts)), len(prompts))
    counts = _counts(to, len(prompts))
    if not counts["rows"]:
        raise DataError(
            f"none of {len(prompts)} prompts got two different completions; raise the temperature, "
            f"or max_new_tokens = {sampling.config.max_new_tokens}"
        )
    counts |= _cost(to / COST)
    write_text(to / COUNTS, json.dumps(counts, indent=1) + "\n")
    return counts


def _cost(path: Path) -> dict[str, int]:
    """The judge's usage for all parts."""
    total = Counter[str]()
    for spent in _costs(path).values():
        total.update(spent)
    return dict(total)


def _costs(path: Path) -> dict[str, dict[str, int]]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _write_cost(path: Path, part: str, now: Mapping[str, int], before: Mapping[str, int]) -> None:
    """Record the cost of judging a part; parts may be judged by different processes."""
    spent = {f"judge_{key}": value - before.get(key, 0) for key, value in now.items()}
    if spent:
        write_text(path, json.dumps(_costs(path) | {part: spent}, indent=1) + "\n")


def finished_answers(folder: Path) -> bool:
    """True if all answers of a round exist."""
    return (folder / COUNTS).exists()


def _counts(folder: Path, prompts: int) -> dict[str, int]:
    """Prompts, rows, ties among them, completions of the rows, and truncated ones."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            rows += [json.loads(line) for line in lines]
    ties = sum(len(set(row["sampled"]["scores"])) == 1 for row in rows)
    truncated = [cut for row in rows for cut in row["sampled"]["truncated"]]
    return {
        "prompts": prompts,
        "rows": len(rows),
        "ties": ties,
        "answers": len(truncated),
        "truncated": sum(truncated),
    }


def _rows(
    prompts: Sequence[Prompt], sampling: RoundSampling, watch: PreferenceWatch, *, seed: int
) -> Iterator[dict[str, Any]]:
    config = sampling.config
    groups = generate_groups(
        sampling.policies,
        sampling.policy,
        sampling.encoder,
        config,
        prompts,
        seed=seed,
        engine=sampling.engine,
    )
    requests = [group.request for group in groups]
    judgements = judge_in_main(sampling.judge, requests, sampling.policies.processes)
    watch.see(judgements, alike=len(prompts) - len(groups))
    for group, judgement in zip(groups, judgements, strict=True):
        sampled = {
            **sampling.provenance,
            "judge": sampling.judge.name,
            "temperature": config.temperature,
            "answers": list(group.texts),
            "scores": list(judgement.scores),
            "logps": [round(value, 4) for value in group.logps],
            "truncated": list(group.truncated),
        }
        example = judged(group, judgement, kind=sampling.kind, pick=config.pick)
        yield {**example.provenance, **row_of(example), "sampled": sampled}
