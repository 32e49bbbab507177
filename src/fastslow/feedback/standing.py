"""What happened to a person's votes, ratings and edits."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from fastslow.feedback.schema import answers, ledger, pairs, prompts, votes
from fastslow.feedback.voting import GRACE

PAGE = 50


@dataclass(frozen=True, slots=True)
class Standing:
    """A vote, rating or edit, and its current state."""

    id: int
    kind: str
    verdict: str
    at: float
    state: str
    """`waiting` to be admitted, `kept` in the ledger, `held_out` there for measurement only,
    `refused`, or `retracted`."""
    detail: str | None
    """Why it was refused."""
    prompt: str
    """The last turn of the prompt."""
    answers: list[str]
    """The answers it is about; left and right for a pair."""
    retractable_until: float | None
    """When its grace period ends, Unix seconds; None once it is admitted or retracted."""


def standings(
    connection: Connection, *, voter: int, before: int | None = None, limit: int = PAGE
) -> list[Standing]:
    """One page of what somebody sent, newest first."""
    left, right = answers.alias("left_answer"), answers.alias("right_answer")
    query = (
        select(
            votes, ledger.c.seq, ledger.c.holdout, prompts.c.messages,
            left.c.text.label("left_text"), right.c.text.label("right_text"),
        )
        .outerjoin(pairs, pairs.c.id == votes.c.pair_id)
        .outerjoin(left, left.c.id == func.coalesce(pairs.c.a, votes.c.answer_id))
        .outerjoin(right, right.c.id == pairs.c.b)
        .join(prompts, prompts.c.id == left.c.prompt_id)
        .outerjoin(ledger, (ledger.c.vote_id == votes.c.id) & (ledger.c.kind == votes.c.kind))
        .where(votes.c.voter == voter)
        .order_by(votes.c.id.desc())
        .limit(limit)
    )  # fmt: skip
    if before is not None:
        query = query.where(votes.c.id < before)
    page = []
    for row in connection.execute(query):
        texts = [text for text in (row.left_text, row.right_text) if text is not None]
        waits = row.retracted_at is None and row.admitted_at is None
        page.append(
            Standing(
                row.id, row.kind, row.verdict, row.at, _state(row), row.refused,
                str(row.messages[-1]["content"]), texts, row.at + GRACE if waits else None,
            )
        )  # fmt: skip
    return page


def _state(row: Row[Any]) -> str:
    if row.retracted_at is not None:
        return "retracted"
    if row.refused is not None:
        return "refused"
    if row.seq is None:
        return "waiting"
    return "held_out" if row.holdout else "kept"
