"""The table of rows in docs/data.md: each line is read, and becomes what it says."""

import json
import re
from pathlib import Path

import pytest

from fastslow.records import Demonstration, Example, Pair, Ranking, Rating, Text
from fastslow.streams import RowError
from fastslow.streams.formats import read_row, unused_columns

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"
BOTH = '"chosen": "A", "rejected": "B"'
LINES = re.findall(r"^\| `(\{.*\})` \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.M)


def said(text: Text) -> str:
    if isinstance(text, str):
        return " ".join(text.split())
    return " ".join(
        f"{turn.role}: {turn.content}"
        + "".join(f" ({name}: {value})" for name, value in turn.extra.items())
        for turn in text
    )


def answers(example: Example) -> str:
    match example:
        case Pair():
            sign = "=" if example.is_tie else ">"
            return f"{said(example.chosen)} {sign} {said(example.rejected)}"
        case Ranking():
            text = said(example.responses[0])
            for before, place in enumerate(range(1, len(example.ranks))):
                sign = "=" if example.ranks[before] == example.ranks[place] else ">"
                text += f" {sign} {said(example.responses[place])}"
            return text
        case Rating():
            return f"{said(example.response)} is {'' if example.desirable else 'not '}liked"
        case Demonstration():
            return said(example.response)


def described(example: Example) -> str:
    kind = type(example).__name__.lower()
    kind = "tie" if isinstance(example, Pair) and example.is_tie else kind
    parts = [f"{kind} {said(example.prompt)}", answers(example)]
    if isinstance(example, Pair) and example.confidence != 1:
        parts.append(f"confidence {example.confidence:.2f}")
    if example.template_kwargs:
        parts.append(f"template given {', '.join(example.template_kwargs)}")
    if unused_columns([example]):
        parts.append(f"not used: {', '.join(example.provenance)}")
    return ", ".join(parts)


@pytest.mark.parametrize(("row", "meaning"), LINES, ids=range(len(LINES)))
def test_each_documented_row_becomes_what_the_table_says(row, meaning):
    given = json.loads(row.replace("…", BOTH))
    if not meaning.startswith("refused: "):
        assert described(read_row(given, source="f:1")) == meaning
        return
    with pytest.raises(RowError) as refused:
        read_row(given, source="f:1")
    assert meaning.removeprefix("refused: ") in str(refused.value)


def test_the_table_is_found():
    assert len(LINES) > 40
