"""Pairs on which people differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from fastslow.feedback.schema import answers, pairs, prompts
from fastslow.feedback.voters import RecentVotes

MOST = 10
"""Pairs that are shown."""
LONGEST = 2000
"""Characters that are shown of a text."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """A pair on which people differ."""

    pair_id: int
    domain: str
    prompt: str
    """The last turn of what was answered."""
    a: str
    b: str
    verdicts: dict[str, int]
    """How many said what."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How often people differ in the recent votes, and where most."""

    shared: int
    """Pairs on which several people voted."""
    differ: int
    """Those on which not all said the same."""
    pairs: list[Dispute]
    """Those on which the fewest agree, the newest first among equals."""


def disagreement(connection: Connection, recent: RecentVotes) -> Disagreement:
    """Where people differ, gold questions apart."""
    given = {
        pair: Counter(verdict for _, verdict in said)
        for pair, said in recent.by_pair().items()
        if len(said) > 1
    }
    split = {pair: counted for pair, counted in given.items() if len(counted) > 1}
    # Sorting keeps the newest of those that are as far apart first.
    widest = sorted(split, key=lambda pair: -_apart(split[pair]))[:MOST]
    texts = _texts(connection, widest)
    shown = [Dispute(pair, *texts[pair], dict(split[pair])) for pair in widest]
    return Disagreement(len(given), len(split), shown)


def _apart(said: Counter[str]) -> int:
    """Of all pairs of people, how many more differ than agree."""
    count = said.total()
    agree = sum(same * (same - 1) // 2 for same in said.values())
    return count * (count - 1) // 2 - 2 * agree


def _texts(connection: Connection, numbers: Sequence[int]) -> dict[int, tuple[str, str, str, str]]:
    """Domain, prompt and both answers of pairs."""
    left, right = answers.alias("left_answer"), answers.alias("right_answer")
    query = (
        select(
            pairs.c.id, prompts.c.domain, prompts.c.messages,
            left.c.text.label("a"), right.c.text.label("b"),
        )
        .join(prompts, prompts.c.id == pairs.c.prompt_id)
        .join(left, left.c.id == pairs.c.a)
        .join(right, right.c.id == pairs.c.b)
        .where(pairs.c.id.in_(numbers))
    )  # fmt: skip
    return {
        row.id: (row.domain, _short(row.messages[-1]["content"]), _short(row.a), _short(row.b))
        for row in connection.execute(query)
    }


def _short(text: Any) -> str:
    whole = str(text)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]} …"
