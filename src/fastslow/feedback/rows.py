"""What somebody sent as a row that the learner reads, in TRL's columns."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from fastslow.feedback.schema import answers, pairs, prompts

Message = dict[str, str]


def row_of(connection: Connection, vote: Row[Any]) -> dict[str, Any]:
    """The row of a vote, a rating or an edit.

    `id` names it, `voter` who sent it and `answers` what it is about; other columns are data's.
    """
    return {
        "id": f"{vote.kind}-{vote.id}",
        "voter": vote.voter,
        **(_compared(connection, vote) if vote.kind == "vote" else _of_answer(connection, vote)),
    }


def nothing_to_learn(connection: Connection, vote: Row[Any]) -> str | None:
    """Why a vote gives no training row, if it does not."""
    if vote.verdict == "skip":
        return "skipped"
    if vote.pair_id is None:
        return None
    purpose = connection.scalar(select(pairs.c.purpose).where(pairs.c.id == vote.pair_id))
    return "a gold question, which checks who votes" if purpose == "gold" else None


def domain_of(connection: Connection, vote: Row[Any]) -> tuple[str, bool]:
    """The domain of what was voted on, and whether its prompt is held out."""
    row = connection.execute(
        select(prompts.c.domain, prompts.c.holdout)
        .join(answers, answers.c.prompt_id == prompts.c.id)
        .where(answers.c.id == _first_answer(connection, vote))
    ).one()
    return row.domain, row.holdout


def _compared(connection: Connection, vote: Row[Any]) -> dict[str, Any]:
    pair = connection.execute(select(pairs).where(pairs.c.id == vote.pair_id)).one()
    better, worse = (pair.b, pair.a) if vote.verdict == "b" else (pair.a, pair.b)
    row = {
        **_prompt(connection, pair.prompt_id),
        "chosen": _said(connection, better),
        "rejected": _said(connection, worse),
        "answers": [better, worse],
    }
    if cut := _truncated(connection, [better, worse]):
        row["truncated"] = cut
    return row | ({"verdict": vote.verdict} if vote.verdict in ("tie", "both_bad") else {})


def _of_answer(connection: Connection, vote: Row[Any]) -> dict[str, Any]:
    prompt_id = connection.scalar(select(answers.c.prompt_id).where(answers.c.id == vote.answer_id))
    row = {**_prompt(connection, prompt_id), "answers": [vote.answer_id]}
    said = _said(connection, vote.answer_id)
    if vote.kind == "edit":
        return {**row, "chosen": [_message(vote.text)], "rejected": said}
    return {**row, "completion": said, "label": vote.verdict == "up"}


def _prompt(connection: Connection, prompt_id: Any) -> dict[str, Any]:
    row = connection.execute(select(prompts).where(prompts.c.id == prompt_id)).one()
    return {"prompt": row.messages, "domain": row.domain}


def _said(connection: Connection, answer_id: int) -> list[Message]:
    text = connection.scalar(select(answers.c.text).where(answers.c.id == answer_id))
    return [_message(str(text))]


def _truncated(connection: Connection, both: list[int]) -> list[bool] | None:
    """Which of the answers were cut by a length limit; none if none was."""
    found: Mapping[int, str] = dict(
        connection.execute(
            select(answers.c.id, answers.c.finish).where(answers.c.id.in_(both))
        ).all()
    )
    cut = [found[answer] == "length" for answer in both]
    return cut if any(cut) else None


def _message(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _first_answer(connection: Connection, vote: Row[Any]) -> int:
    if vote.answer_id is not None:
        return int(vote.answer_id)
    return int(connection.scalars(select(pairs.c.a).where(pairs.c.id == vote.pair_id)).one())
