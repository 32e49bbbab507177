"""Imports existing pairs of responses for comparison."""

import random

from sqlalchemy import Connection, select

from fastslow.feedback.items import Answer, add_answer, add_pair, add_prompt, storable
from fastslow.feedback.schema import answers, pairs
from fastslow.records import Message, Pair, Text, plain_text


def import_pair(connection: Connection, *, pair: Pair, now: float, draw: random.Random) -> bool:
    """Put up a pair of existing responses, on random sides; False if it is already present.

    Its label is not imported: people are asked.
    """
    prompt_id = add_prompt(connection, messages=turns_of(pair.prompt), domain=pair.domain, now=now)
    texts = {storable(plain_text(text)) for text in pair.responses}
    of_prompt = answers.c.prompt_id == prompt_id
    stored = dict(connection.execute(select(answers.c.id, answers.c.text).where(of_prompt)).all())
    for row in connection.execute(
        select(pairs.c.a, pairs.c.b).where(pairs.c.prompt_id == prompt_id)
    ):
        if {stored[row.a], stored[row.b]} == texts:
            return False
    first, second = (
        add_answer(
            connection,
            prompt_id=prompt_id,
            answer=Answer(plain_text(text), "length" if truncated else "stop"),
            now=now,
        )
        for text, truncated in zip(pair.responses, pair.truncated or (False, False), strict=True)
    )
    add_pair(connection, prompt_id=prompt_id, first=first, second=second, now=now, draw=draw)
    return True


def turns_of(text: Text) -> list[dict[str, str]]:
    """A prompt as the turns of a conversation; plain text becomes one user turn."""
    turns = (Message("user", text),) if isinstance(text, str) else text
    return [{"role": turn.role, "content": turn.content} for turn in turns]
