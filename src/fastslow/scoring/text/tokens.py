"""Texts to token ids, many at a time, and which of their tokens the assistant says."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

from fastslow.errors import EncodingError
from fastslow.scoring.text.pieces import Pieces, plain_ids


@dataclass(frozen=True, slots=True)
class Texts:
    """A prompt, and the prompt with each response."""

    texts: list[str]
    special: bool
    """Whether special tokens are to be added. A chat template writes its own."""
    said: list[list[tuple[int, int]]]
    """For each response of several turns, the characters of its text that the assistant says; for
    any other nothing."""


@dataclass(frozen=True, slots=True)
class TextIds:
    """The tokens of a prompt, and of the prompt with each response."""

    rows: list[list[int]]
    scored: list[list[bool]]
    """For each response of several turns, which of its text's tokens the assistant says; for any
    other nothing."""


def tokenize(
    tokenizer: Any,
    asked: Sequence[Texts],
    *,
    pieces: Pieces | None = None,
    num_embeddings: int | None = None,
) -> list[TextIds]:
    """The tokens of each; texts without added special tokens are cut into `pieces`, where these are
    usable. Raises EncodingError where the tokenizer does not take one, or gives a token that a
    model with `num_embeddings` rows has no embedding for."""
    found: dict[int, list[list[int]]] = {}
    for special in (False, True):
        own = {place: one.texts for place, one in enumerate(asked) if one.special == special}
        if not own:
            continue
        texts = list(chain.from_iterable(own.values()))
        rows = iter(_rows(tokenizer, texts, special, pieces))
        found |= {place: list(islice(rows, len(texts))) for place, texts in own.items()}
    for rows_of_one in found.values():
        if fault := without_embedding(tokenizer, chain(*rows_of_one), num_embeddings):
            raise EncodingError(fault)
    return [
        TextIds(_unclosed(tokenizer, found[place], one), _scored(tokenizer, one))
        for place, one in enumerate(asked)
    ]


def without_embedding(tokenizer: Any, ids: Iterable[int], num_embeddings: int | None) -> str | None:
    """What is said of the highest token where a model has no embedding for it, else None.

    Tokens are added to a tokenizer more often than a model's embedding is resized.
    """
    highest = max(ids, default=0)
    if num_embeddings is None or highest < num_embeddings:
        return None
    return (
        f"token {tokenizer.convert_ids_to_tokens(highest)!r} has id {highest}, and the model's "
        f"embedding has {num_embeddings} rows"
    )


def tokenize_each(
    tokenizer: Any,
    asked: Sequence[Texts],
    *,
    pieces: Pieces | None = None,
    num_embeddings: int | None = None,
) -> list[TextIds | str]:
    """As `tokenize`, with the reason in the place of one that the tokenizer does not take."""
    each = partial(tokenize_each, tokenizer, pieces=pieces, num_embeddings=num_embeddings)
    try:
        return [*tokenize(tokenizer, asked, pieces=pieces, num_embeddings=num_embeddings)]
    except EncodingError as error:
        return [str(error)] if len(asked) == 1 else [each([one])[0] for one in asked]


def _rows(
    tokenizer: Any, texts: list[str], special: bool, pieces: Pieces | None
) -> list[list[int]]:
    if special:
        rows: list[list[int]] = _call(tokenizer, texts, True, return_attention_mask=False)[
            "input_ids"
        ]
        return rows
    with _refusals():
        if pieces is not None and pieces.usable:
            return pieces.ids(texts)
        return plain_ids(tokenizer, texts)


def _call(tokenizer: Any, texts: list[str], special: bool, **options: bool) -> Any:
    with _refusals():
        return tokenizer(texts, add_special_tokens=special, verbose=False, **options)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # The tokenizers library raises plain ones.
        raise EncodingError(f"the tokenizer refuses it: {error}") from None


def _scored(tokenizer: Any, asked: Texts) -> list[list[bool]]:
    """Which tokens of each text of several turns the assistant says."""
    return [
        _flags(tokenizer, text, spans, asked.special) if spans else []
        for text, spans in zip(asked.texts[1:], asked.said, strict=True)
    ]


def _flags(tokenizer: Any, text: str, spans: list[tuple[int, int]], special: bool) -> list[bool]:
    if not tokenizer.is_fast:
        raise EncodingError(
            "a response of several turns needs a fast tokenizer, which tells where tokens are"
        )
    (places,) = _call(tokenizer, [text], special, return_offsets_mapping=True)["offset_mapping"]
    return [any(e > begin and b < end for begin, end in spans) for b, e in places]


def _unclosed(tokenizer: Any, ids: list[list[int]], asked: Texts) -> list[list[int]]:
    """Some tokenizers close every text; the prompt is not closed where the response begins."""
    closed = (
        asked.special
        and len(ids[0]) > 1
        and ids[0][-1] == tokenizer.eos_token_id
        and not asked.texts[0].endswith(tokenizer.eos_token)
    )
    return [row[:-1] for row in ids] if closed else ids
