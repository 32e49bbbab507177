"""Pairs on which people differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from fastslow.feedback.schema import answers, pairs, prompts
from fastslow.feedback.voters import RecentVotes

MOST = 10
"""Most pairs shown."""
LONGEST = 2000
"""Most characters of a text shown."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """A pair on which people differ."""

    pair_id: int
    domain: str
    prompt: str
    """The last turn of the prompt."""
    a: str
    b: str
    verdicts: dict[str, int]
    """Number of people by verdict."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How often people differ in the recent votes, and where most."""

    shared: int
    """Pairs on which several people voted."""
    differ: int
    """Pairs on which not all verdicts are the same."""
    pairs: list[Dispute]
    """Pairs on which the fewest agree; newest first among equals."""


def disagreement(connection: Connection, recent: RecentVotes) -> Disagreement:
    """Where people differ, without gold questions."""
    verdicts = {
        pair: Counter(verdict for _, verdict in cast)
        for pair, cast in recent.by_pair().items()
        if len(cast) > 1
    }
    split = {pair: counted for pair, counted in verdicts.items() if len(counted) > 1}
    # The sort is stable, so newer pairs stay first among equals.
    widest = sorted(split, key=lambda pair: -_apart(split[pair]))[:MOST]
    texts = _texts(connection, widest)
    shown = [Dispute(pair, *texts[pair], dict(split[pair])) for pair in widest]
    return Disagreement(len(verdicts), len(split), shown)


def _apart(said: Counter[str]) -> int:
    """Among all pairs of people, how many more differ than agree."""
    count = said.total()
    agree = sum(same * (same - 1) // 2 for same in said.values())
    return count * (count - 1) // 2 - 2 * agree


def _texts(connection: Connection, numbers: Sequence[int]) -> dict[int, tuple[str, str, str, str]]:
    """Domain, prompt and both answers of each pair."""
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
