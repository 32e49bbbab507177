"""What somebody sent as a row that the learner reads, in TRL's columns."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from fastslow.feedback.schema import answers, pairs, prompts
from fastslow.words import words_of

Message = dict[str, str]
MS_A_WORD = 10
"""Milliseconds below which nobody has read a word of what they compare: ten times faster than who
skims."""
MS_AT_MOST = 2000
"""Milliseconds that are enough however long answers are: a refusal is seen at once."""
UNREAD = "sent after "
"""How the reason of a vote begins that came too soon."""


class Rows:
    """The rows of votes, ratings and edits.

    What they are about is read at once, in a query for each table: one for each vote would take
    most of a server's time.
    """

    def __init__(self, connection: Connection, votes: Sequence[Row[Any]]) -> None:
        self._pairs = _by_id(connection, pairs, (vote.pair_id for vote in votes))
        compared = [answer for pair in self._pairs.values() for answer in (pair.a, pair.b)]
        own = [vote.answer_id for vote in votes]
        self._answers = _by_id(connection, answers, [*compared, *own])
        asked = (answer.prompt_id for answer in self._answers.values())
        self._prompts = _by_id(connection, prompts, asked)

    def row_of(self, vote: Row[Any]) -> dict[str, Any]:
        """The row of a vote, a rating or an edit.

        `id` names it, `voter` who sent it and `answers` what it is about; other columns are data's.
        """
        return {
            "id": f"{vote.kind}-{vote.id}",
            "voter": vote.voter,
            **(self._compared(vote) if vote.kind == "vote" else self._of_answer(vote)),
        }

    def nothing_to_learn(self, vote: Row[Any]) -> str | None:
        """Why a vote gives no training row, if it does not."""
        if vote.verdict == "skip":
            return "skipped"
        if vote.pair_id is None:
            return None
        pair = self._pairs[vote.pair_id]
        if pair.purpose == "gold":
            return "a gold question, which checks who votes"
        words = sum(len(words_of(self._answers[one].text)) for one in (pair.a, pair.b))
        if vote.seen_ms is not None and vote.seen_ms < min(MS_A_WORD * words, MS_AT_MOST):
            return f"{UNREAD}{vote.seen_ms} ms, in which nobody reads {words} words"
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
            "chosen": self._said(better),
            "rejected": self._said(worse),
            "answers": [better, worse],
            **_truncated(self._cut(better), self._cut(worse)),
        }
        return row | ({"verdict": vote.verdict} if vote.verdict in ("tie", "both_bad") else {})

    def _of_answer(self, vote: Row[Any]) -> dict[str, Any]:
        row = {**self._prompt(self._answers[vote.answer_id].prompt_id), "answers": [vote.answer_id]}
        said = self._said(vote.answer_id)
        if vote.kind == "edit":
            both = {"chosen": [_message(vote.text)], "rejected": said}
            return {**row, **both, **_truncated(False, self._cut(vote.answer_id))}
        label = {"completion": said, "label": vote.verdict == "up"}
        return {**row, **label, **_truncated(self._cut(vote.answer_id))}

    def _prompt(self, prompt_id: int) -> dict[str, Any]:
        prompt = self._prompts[prompt_id]
        return {"prompt": prompt.messages, "domain": prompt.domain}

    def _said(self, answer_id: int) -> list[Message]:
        return [_message(str(self._answers[answer_id].text))]

    def _cut(self, answer_id: int) -> bool:
        """Whether it may have no end of its own: it was cut, or a stop text may have ended it."""
        answer = self._answers[answer_id]
        return bool(answer.finish == "length" or answer.params.get("stop"))


def _by_id(connection: Connection, table: Table, numbers: Iterable[int | None]) -> dict[int, Any]:
    wanted = {number for number in numbers if number is not None}
    if not wanted:
        return {}
    found = connection.execute(select(table).where(table.c.id.in_(wanted)))
    return {row.id: row for row in found}


def _truncated(*cut: bool) -> dict[str, list[bool]]:
    """The column that says which responses have no end that was said."""
    return {"truncated": [*cut]} if any(cut) else {}


def _message(text: str) -> Message:
    return {"role": "assistant", "content": text}
