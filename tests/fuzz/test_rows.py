"""5,000 rows, right and broken ones: each is learned as given, counted or refused, never less.

Every text in a row is a word that stands nowhere else. What is encoded has to hold each word of the
row, with the assistant's words scored and no others, or the word is in a column that is named as
unused.
"""

import copy
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import tiny

from fastslow.records import Example
from fastslow.scoring import Dropped, Encoded, Encoder
from fastslow.streams import RowError, examples_of_row

ROWS = 5000
WORD = re.compile(r"\b[pasu]\d+z\b")
KINDS = ("pairs", "rankings", "ratings", "demonstrations")
ODD = [
    None, "", " ", 0, -1, 1.5, 10**400, float("nan"), float("inf"), True, [], {}, [[]], [None],
    "\ud800", "\x00", b"\xff", [{}], [{"role": "user"}], {"role": "user", "content": 3}, ["x"] * 3,
    [{"type": "image"}], {"a": {"b": [1, {"c": None}]}}, "[", "null", (1, 2),
]  # fmt: skip


def said(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


class Rows:
    """Rows at random. Words begin with what they are: a prompt's, an answer's, unused ones."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self._count = 0

    def word(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}z"

    def turn(self, role: str) -> dict[str, Any]:
        content: Any = self.word("a" if role == "assistant" else "p")
        if self.draw.random() < 0.15:
            content = [{"type": "text", "text": content}]
        if self.draw.random() < 0.2:
            names = {"user": "human", "assistant": "gpt"}
            return {"from": names.get(role, role), "value": content}
        turn = {"role": role, "content": content}
        if role == "assistant" and self.draw.random() < 0.1:
            turn["reasoning_content"] = self.word("a")
        if role == "user" and self.draw.random() < 0.1:
            turn["name"] = self.word("u")
        return turn

    def turns(self, *roles: str) -> list[dict[str, Any]]:
        return [self.turn(role) for role in roles]

    def prompt(self) -> Any:
        asked: list[Any] = [
            self.word("p"),
            self.turns("user"),
            self.turns("system", "user"),
            [
                self.turn("user"),
                {"role": "assistant", "content": self.word("p")},
                self.turn("user"),
            ],
        ]
        return self.draw.choice(asked)

    def answer(self) -> Any:
        several = [*self.turns("assistant"), *self.turns("user", "tool"), *self.turns("assistant")]
        return self.draw.choice([self.word("a"), self.turns("assistant"), several])

    def row(self) -> dict[str, Any]:
        row = self.draw.choice([self._pair, self._ranking, self._rating, self._other])()
        if self.draw.random() < 0.15 and isinstance(row.get("prompt"), str):
            row["system"] = self.word("p")
        if self.draw.random() < 0.1 and "prompt" in row:
            row["history"] = [[self.word("p"), self.word("p")]]
        if self.draw.random() < 0.1:
            row["tools"] = [{"name": self.word("u")}]
        if self.draw.random() < 0.2:
            row[self.draw.choice(["note", "tag", "labeler"])] = self.word("u")
        return row

    def _pair(self) -> dict[str, Any]:
        prompt = self.prompt()
        row = {"prompt": prompt, "chosen": self.answer(), "rejected": self.answer()}
        if self.draw.random() < 0.3 and not isinstance(prompt, str):
            row["chosen"], row["rejected"] = ([*prompt, self.turn("assistant")] for _ in "ab")
            if self.draw.random() < 0.5:
                del row["prompt"]
        return row

    def _ranking(self) -> dict[str, Any]:
        key = self.draw.choice(["scores", "ranks"])
        return {
            "prompt": self.prompt(),
            "completions": [self.word("a"), self.word("a")],
            key: [1, 2],
        }

    def _rating(self) -> dict[str, Any]:
        label = self.draw.choice([True, False, 0, 1])
        return {"prompt": self.prompt(), "completion": self.answer(), "label": label}

    def _other(self) -> dict[str, Any]:
        asked, chosen, rejected = self.word("p"), self.word("a"), self.word("a")
        shapes: list[dict[str, Any]] = [
            {"instruction": asked, "input": self.word("p"), "chosen": chosen, "rejected": rejected},
            {"question": asked, "chosen": chosen, "rejected": rejected},
            {"chosen": f"Human: {asked}\n\nAssistant: {chosen}",
             "rejected": f"Human: {asked}\n\nAssistant: {rejected}"},
            {"messages": [said("user", asked), said("assistant", chosen)]},
            {"conversations": self.turns("user"), "chosen": self.turn("assistant"),
             "rejected": self.turn("assistant")},
            {"input": {"messages": self.turns("user")},
             "preferred_output": self.turns("assistant"),
             "non_preferred_output": self.turns("assistant")},
            {"prompt": asked,
             "answers": [{"answer": chosen, "rank": 1}, {"answer": rejected, "rank": 2}]},
            {"prompt": asked, "response": chosen},
        ]  # fmt: skip
        return self.draw.choice(shapes)

    def broken(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with something odd in it."""
        name = self.draw.choice(list(row))
        match self.draw.randrange(5):
            case 0:
                del row[name]
            case 1:
                row[name] = self.draw.choice(ODD)
            case 2:
                row[name[:-1] or "x"] = row.pop(name)
            case 3:
                row[self.draw.choice(["weight", "domain", "verdict", "truncated", "score_chosen",
                                      "verdicts", "confidence", "win_rate_chosen", "images",
                                      "chat_template_kwargs"])] = self.draw.choice(ODD)  # fmt: skip
            case 4 if isinstance(row[name], list) and row[name]:
                row[name][self.draw.randrange(len(row[name]))] = self.draw.choice(ODD)
        return row


def words_in(value: Any) -> set[str]:
    """The words in the texts of a value, keys apart."""
    if isinstance(value, str):
        return set(WORD.findall(value))
    parts = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping | list | tuple):
        return set()
    return {word for part in parts for word in words_in(part)}


def named_as_unused(example: Example) -> set[str]:
    turns = [
        turn.extra
        for text in (example.prompt, *example.responses)
        if not isinstance(text, str)
        for turn in text
    ]
    return words_in([example.provenance, example.template_kwargs, turns])


def check(row: dict[str, Any], example: Example, encoded: Encoded, encoder: Encoder) -> None:
    tree, decode = encoded.tree, encoder.tokenizer.decode
    scored = {
        word
        for ids, places in zip(tree.responses, tree.scored_places(), strict=True)
        for word in WORD.findall(decode([ids[place] for place in places]))
    }
    shown = scored | words_in([decode(ids) for ids in (tree.prompt, *tree.responses)])
    lost = words_in(row) - shown - named_as_unused(example)
    assert not lost, f"{sorted(lost)} are nowhere: {row}"
    assert all(word[0] == "a" for word in scored), f"{sorted(scored)} are scored: {row}"
    assert all(word in scored for word in shown if word[0] == "a"), f"not all is scored: {row}"


def outcomes(rows: Iterator[dict[str, Any]], encoder: Encoder) -> Counter[str]:
    found: Counter[str] = Counter()
    for number, row in enumerate(rows):
        before = copy.deepcopy(row)
        examples: list[Example] = []
        for kind in KINDS:
            try:
                examples += examples_of_row(row, source=f"rows:{number}", kind=kind)
                break
            except RowError as error:
                assert len(str(error)) < 1000, row
        assert repr(row) == repr(before), "a row was changed"
        for example, encoded in zip(examples, encoder.encode_all(examples), strict=True):
            if isinstance(encoded, Dropped):
                assert len(encoded.reason) < 1000
                found["dropped"] += 1
                continue
            found["learned"] += 1
            if len(examples) == 1:  # One row to several examples: each holds a part.
                check(row, example, encoded, encoder)
        found["refused" if not examples else "read"] += 1
    return found


@pytest.mark.slow
def test_no_word_of_a_row_is_lost_in_silence():
    template = tiny.TEMPLATE.replace(
        "{{ m['content'] }}",
        "{% if m['reasoning_content'] %}<think>{{ m['reasoning_content'] }}</think>{% endif %}"
        "{{ m['content'] }}",
    )
    encoder = Encoder(tiny.tokenizer(template), max_length=4000)
    source = Rows(seed=0)
    found = outcomes((source.row() for _ in range(ROWS // 2)), encoder)
    assert found["refused"] == found["dropped"] == 0, found
    found = outcomes((source.broken(source.row()) for _ in range(ROWS // 2)), encoder)
    assert found["refused"] > ROWS // 20 and found["learned"] > ROWS // 12, found
