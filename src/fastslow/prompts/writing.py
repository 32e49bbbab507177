"""Instructions that a model writes from demonstrations."""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastslow.errors import DataError
from fastslow.prompts.black_box import BlackBox
from fastslow.prompts.questions import Question
from fastslow.prompts.records import RowLog, Written
from fastslow.records import plain_text
from fastslow.words import words_of

TEMPERATURE = 1.0
"""At which instructions are written."""
ATTEMPTS = 4
"""Instructions written for each that is wanted, before fewer will do."""
TOGETHER = 32
"""Instructions that are written at a time."""
REQUEST = """\
Somebody was given one instruction and some inputs, and answered each as the instruction says.

{shown}

Write the instruction, and nothing else."""
MORE_EXAMPLES = re.compile(r"\b(?:Input|Output):")
"""Where a model stops writing an instruction and makes up examples."""
LAST_SENTENCE = re.compile(r".*(?:[.!?](?=\s|$)|[。！？])", re.DOTALL)
DISCARDED = ("discarded_empty", "discarded_truncated", "discarded_repeated")


@dataclass(frozen=True, slots=True)
class Instructions:
    """What a model wrote."""

    texts: list[str]
    """No two of the same words."""
    cost: Counter[str]
    """As of a black box, and in DISCARDED how many were not taken, and why."""


def write_instructions(
    model: BlackBox,
    demonstrations: Sequence[Question],
    log: RowLog[Written],
    *,
    count: int,
    shown: int,
    max_new_tokens: int,
    seed: int,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool],
) -> Instructions | None:
    """`count` different instructions that a model writes, or as many as it comes to; None if the
    writing was stopped.

    Each is written for `shown` demonstrations drawn at random. Of what is cut by the length limit
    only whole sentences are taken. What is in `log` is not written again. Raises DataError where
    the model writes fewer than 2.
    """
    draw, found, cost = random.Random(seed), dict[str, str](), Counter[str]()
    for batch in range(-(-count * ATTEMPTS // TOGETHER)):
        if stopped():
            return None
        asked = [_request(draw, demonstrations, shown) for _ in range(TOGETHER)]
        if batch == len(log.rows):
            log.add(_written(model, asked, max_new_tokens, seed + batch * TOGETHER))
        cost += Counter(log.rows[batch].cost)
        cost += Counter(_take(log.rows[batch], found))
        progress(min(len(found), count), count)
        if len(found) >= count:
            break
    if len(found) < 2:
        empty, truncated, repeated = (cost[reason] for reason in DISCARDED)
        raise DataError(
            f"prompts.demonstrations: the model wrote {len(found)} different instructions in "
            f"{cost['calls']} tries ({empty} empty, {truncated} longer than "
            f"{max_new_tokens} tokens, {repeated} repeated); give prompts.candidates, another "
            "model, or a higher prompts.max_instruction_tokens"
        )
    return Instructions(list(found.values())[:count], cost)


def _written(model: BlackBox, asked: Sequence[str], max_new_tokens: int, seed: int) -> Written:
    before = Counter(model.cost)
    answers = model.answer(asked, temperature=TEMPERATURE, max_new_tokens=max_new_tokens, seed=seed)
    texts, truncated = [a.text for a in answers], [a.truncated for a in answers]
    return Written(texts, truncated, dict(model.cost - before))


def _take(written: Written, found: dict[str, str]) -> list[str]:
    """Put the new ones into `found`, by their words; why each of the others was discarded."""
    empty, cut, repeated = DISCARDED
    discarded = []
    for text, truncated in zip(written.texts, written.truncated, strict=True):
        instruction, *more = MORE_EXAMPLES.split(text, maxsplit=1)
        if truncated and not more:
            whole = LAST_SENTENCE.match(instruction)
            if whole is None:
                discarded.append(cut)
                continue
            instruction = whole.group()
        key = " ".join(words_of(instruction))
        if not key or key in found:
            discarded.append(repeated if key else empty)
        else:
            found[key] = " ".join(instruction.split())
    return discarded


def _request(draw: random.Random, demonstrations: Sequence[Question], shown: int) -> str:
    chosen = draw.sample(list(demonstrations), min(shown, len(demonstrations)))
    parts = (f"Input: {plain_text(q.prompt)}\nOutput: {q.answer}" for q in chosen)
    return REQUEST.replace("{shown}", "\n\n".join(parts))
