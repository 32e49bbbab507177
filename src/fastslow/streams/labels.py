"""Converts examples to the kind of label that an objective takes.

    a              as a pair            as a ranking   as ratings            as a demonstration
    pair           itself               of two         chosen up, other down   chosen
    tie            itself               equal ranks    both up                 none
    both bad       itself               equal ranks    both down               none
    ranking        every two responses  itself         none                    the best
    rating         none                 none           itself                  if desirable
    demonstration  none                 none           none                    itself

Raises RowError for `none`, except for a rating or a tie that is not a demonstration: these are
skipped, like all examples with weight 0.
"""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from fastslow.records import Demonstration, Example, Pair, Ranking, Rating
from fastslow.streams.columns import RowError
from fastslow.streams.formats import NO_COLUMNS, read_prompt, read_row

PROMPTS = "prompts"


def as_kind(example: Example, kind: str) -> list[Example]:
    """The example as `pairs`, `rankings`, `ratings` or `demonstrations`."""
    if kind != "pairs" and isinstance(example, Pair) and example.confidence != 1.0:
        raise RowError(
            "confidence and verdicts that differ need an objective that takes pairs; weight works "
            "with all"
        )
    return _KINDS[kind](example) if example.weight else []


def examples_of_row(
    row: Mapping[str, Any],
    *,
    source: str,
    domain: str | None = None,
    kind: str = "pairs",
    columns: Mapping[str, str] = NO_COLUMNS,
) -> list[Any]:
    """The example in a row, as the given kind; `prompts` are prompts only. Columns as of
    `read_row`."""
    if kind == PROMPTS:
        prompt = read_prompt(row, source=source, domain=domain, columns=columns)
        return [prompt] if prompt.weight else []
    return as_kind(read_row(row, source=source, domain=domain, columns=columns), kind)


def _pairs(example: Example) -> list[Example]:
    if isinstance(example, Pair):
        return [example]
    if isinstance(example, Ranking):
        return [_pair_of(example, i, j) for i, j in combinations(range(len(example.ranks)), 2)]
    raise _impossible(example, "a pair")


def _pair_of(ranking: Ranking, better: int, worse: int) -> Pair:
    chosen, rejected = ranking.responses[better], ranking.responses[worse]
    equal = ranking.ranks[better] == ranking.ranks[worse] or chosen == rejected
    return Pair(
        prompt=ranking.prompt,
        chosen=chosen,
        rejected=rejected,
        verdict="tie" if equal else "chosen",
        score_chosen=ranking.scores[better] if ranking.scores else None,
        score_rejected=ranking.scores[worse] if ranking.scores else None,
        truncated=_of(ranking, better, worse),
        **_common(ranking),
    )


def _rankings(example: Example) -> list[Example]:
    if isinstance(example, Ranking):
        return [example]
    if not isinstance(example, Pair):
        raise _impossible(example, "a ranked list")
    scores = (example.score_chosen, example.score_rejected)
    known = tuple(score for score in scores if score is not None)
    return [
        Ranking(
            prompt=example.prompt,
            responses=example.responses,
            ranks=(0, 0) if example.is_tie else (0, 1),
            scores=known if len(known) == len(scores) else None,
            truncated=example.truncated,
            **_common(example),
        )
    ]


def _ratings(example: Example) -> list[Example]:
    if isinstance(example, Rating):
        return [example]
    if not isinstance(example, Pair):
        raise _impossible(example, "ratings")
    liked = {"chosen": (True, False), "tie": (True, True), "both_bad": (False, False)}
    return [
        Rating(
            example.prompt, response, desirable, truncated=_of(example, side), **_common(example)
        )
        for side, (response, desirable) in enumerate(
            zip(example.responses, liked[example.verdict], strict=True)
        )
    ]


def _demonstrations(example: Example) -> list[Example]:
    if isinstance(example, Demonstration):
        return [example]
    if isinstance(example, Rating) and not example.desirable:
        return []
    if isinstance(example, Pair) and example.is_tie:
        return []
    best = example.responses[0]
    return [Demonstration(example.prompt, best, truncated=_of(example, 0), **_common(example))]


def _of(example: Example, *places: int) -> tuple[bool, ...]:
    """The `truncated` flags of some of the responses."""
    return tuple(example.truncated[place] for place in places) if example.truncated else ()


def _common(example: Example) -> dict[str, Any]:
    names = ("domain", "weight", "source", "provenance", "template_kwargs")
    return {name: getattr(example, name) for name in names}


def _impossible(example: Example, wanted: str) -> RowError:
    label, hint = _IN_WORDS[type(example)]
    return RowError(f"{label} cannot be used as {wanted}, which the objective needs; {hint}")


_IN_WORDS: Mapping[type, tuple[str, str]] = {
    Pair: ("a pair (chosen, rejected)", "most objectives take pairs"),
    Ranking: ("a ranked list (completions)", "dpo, plackett_luce and others take such lists"),
    Rating: ("a rating (completion, label)", "kto and bco take ratings"),
    Demonstration: ("a demonstration (completion without label)", "sft takes demonstrations"),
}


_KINDS: Mapping[str, Callable[[Example], list[Example]]] = {
    "pairs": _pairs,
    "rankings": _rankings,
    "tokens": _rankings,
    "ratings": _ratings,
    "demonstrations": _demonstrations,
}
