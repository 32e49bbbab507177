"""Which examples are about the same, and which of these say the same."""

import pytest

from fastslow.records import Message, Pair, Ranking, Rating
from fastslow.training.data.identity import Alike, key_of, verdict_of

PAIR = Pair(prompt="Hi", chosen="good", rejected="bad")


def seen(*examples):
    alike = Alike()
    for one in examples:
        alike.see(hash(key_of(one)), verdict_of(one))
    return alike.repeated, alike.contradicted


def turn(content, role="assistant", **extra):
    return (Message(role, content, extra),)


def test_a_pair_repeats_itself_in_any_format_and_its_reverse_contradicts_it():
    assert seen(PAIR, PAIR, PAIR) == (2, 0)
    same = Pair(prompt=turn("Hi", "user"), chosen=turn("good"), rejected="bad", source="b:9")
    assert seen(PAIR, same) == (1, 0)
    assert seen(PAIR, Pair(prompt="Hi", chosen="bad", rejected="good")) == (0, 1)
    assert seen(PAIR, Pair(prompt="Hi", chosen="good", rejected="bad", verdict="tie")) == (0, 1)


@pytest.mark.parametrize(
    "other",
    [
        Pair(prompt="Ho", chosen="good", rejected="bad"),
        Pair(prompt="Hi", chosen="good", rejected="worse"),
        Pair(prompt=turn("Hi", "system"), chosen="good", rejected="bad"),
        Pair(prompt="Hi", chosen=turn("good", tool_calls=[{"name": "look"}]), rejected="bad"),
    ],
)
def test_what_differs_in_a_text_a_role_or_a_call_is_about_something_else(other):
    assert seen(PAIR, other) == (0, 0)


def test_ratings_and_rankings_contradict_each_other_too():
    up, down = (Rating(prompt="Hi", response="good", desirable=one) for one in (True, False))
    assert seen(up, up, down) == (1, 1)
    first, second = (
        Ranking(prompt="Hi", responses=said, ranks=(0, 1, 1))
        for said in (("a", "b", "c"), ("b", "a", "c"))
    )
    assert seen(first, first, second) == (1, 1)


def test_a_few_are_not_warned_of():
    alike = Alike(repeated=1, contradicted=1)
    assert alike.warning(200) is None and alike.warning(199)
