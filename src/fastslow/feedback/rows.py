"""Turns votes, ratings and edits into rows that the learner reads, in TRL's columns."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from fastslow.feedback.schema import answers, pairs, prompts
from fastslow.words import words_of

Message = dict[str, str]
MS_A_WORD = 10
"""Milliseconds per word below which nobody has read the answers: ten times faster than skimming."""
MS_AT_MOST = 2000
"""Milliseconds that are enough for answers of any length: a refusal is seen at once."""
UNREAD = "sent after "
"""Start of the reason why a vote came too soon."""


class Rows:
    """Makes the rows of votes, ratings and edits.

    Pairs, answers and prompts are read with one query per table: one per vote would take most of a
    server's time.
    """

    def __init__(self, connection: Connection, votes: Sequence[Row[Any]]) -> None:
        self._pairs = _by_id(connection, pairs, (vote.pair_id for vote in votes))
        compared = [answer for pair in self._pairs.values() for answer in (pair.a, pair.b)]
        rated = [vote.answer_id for vote in votes]
        self._answers = _by_id(connection, answers, [*compared, *rated])
        asked = (answer.prompt_id for answer in self._answers.values())
        self._prompts = _by_id(connection, prompts, asked)

    def row_of(self, vote: Row[Any]) -> dict[str, Any]:
        """The row of a vote, a rating or an edit.

        `id` names it, `voter` is who sent it, `answers` what it is about; the rest is training
        data.
        """
        return {
            "id": f"{vote.kind}-{vote.id}",
            "voter": vote.voter,
            **(self._compared(vote) if vote.kind == "vote" else self._of_answer(vote)),
        }

    def nothing_to_learn(self, vote: Row[Any]) -> str | None:
        """Why a vote gives no training row; None if it does."""
        if vote.verdict == "skip":
            return "skipped"
        if vote.pair_id is None:
            return None
        pair = self._pairs[vote.pair_id]
        if pair.purpose == "gold":
            return "a gold question, which tests the voter"
        words = sum(len(words_of(self._answers[answer_id].text)) for answer_id in (pair.a, pair.b))
        if vote.seen_ms is not None and vote.seen_ms < min(MS_A_WORD * words, MS_AT_MOST):
            return f"{UNREAD}{vote.seen_ms} ms, too soon to have read {words} words"
        return None

    def domain_of(self, vote: Row[Any]) -> tuple[str, bool]:
        """The domain of what was voted on, and whether its prompt is held out."""
        first = self._pairs[vote.pair_id].a if vote.answer_id is None else vote.answer_id
        prompt = self._prompts[self._answers[first].prompt_id]
        return prompt.domain, prompt.holdout

    def _compared(self, vote: Row[Any]) -> dict[str, Any]:
        pair = self._pairs[vote.pair_id]
        better, worse = (pair.b, pair.a) if vote.verdict == "b" else (pair.a, pair.b)
        row = {
            **self._prompt(pair.prompt_id),
            "chosen": self._messages(better),
            "rejected": self._messages(worse),
            "answers": [better, worse],
            **_truncated(self._cut(better), self._cut(worse)),
        }
        return row | ({"verdict": vote.verdict} if vote.verdict in ("tie", "both_bad") else {})

    def _of_answer(self, vote: Row[Any]) -> dict[str, Any]:
        row = {**self._prompt(self._answers[vote.answer_id].prompt_id), "answers": [vote.answer_id]}
        answer = self._messages(vote.answer_id)
        if vote.kind == "edit":
            texts = {"chosen": [_message(vote.text)], "rejected": answer}
            return {**row, **texts, **_truncated(False, self._cut(vote.answer_id))}
        label = {"completion": answer, "label": vote.verdict == "up"}
        return {**row, **label, **_truncated(self._cut(vote.answer_id))}

    def _prompt(self, prompt_id: int) -> dict[str, Any]:
        prompt = self._prompts[prompt_id]
        return {"prompt": prompt.messages, "domain": prompt.domain}

    def _messages(self, answer_id: int) -> list[Message]:
        return [_message(str(self._answers[answer_id].text))]

    def _cut(self, answer_id: int) -> bool:
        """True if the answer may lack its own end: it was cut off, or a stop text may have ended
        it."""
        answer = self._answers[answer_id]
        return bool(answer.finish == "length" or answer.params.get("stop"))


def _by_id(connection: Connection, table: Table, numbers: Iterable[int | None]) -> dict[int, Any]:
    wanted = {number for number in numbers if number is not None}
    if not wanted:
        return {}
    rows = connection.execute(select(table).where(table.c.id.in_(wanted)))
    return {row.id: row for row in rows}


def _truncated(*cut: bool) -> dict[str, list[bool]]:
    """The column that marks truncated responses; empty if there are none."""
    return {"truncated": [*cut]} if any(cut) else {}


def _message(text: str) -> Message:
    return {"role": "assistant", "content": text}
