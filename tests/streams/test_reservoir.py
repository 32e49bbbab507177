"""The reservoir is an even sample, whatever stops and starts in between."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow import training
from fastslow.records import Message, Pair
from fastslow.streams import Reservoir


def pairs(count):
    return [Pair(f"p{i}", "a", "b", source=f"f:{i}") for i in range(count)]


def filled(size, given, *, seed=0):
    made = Reservoir.of_examples(size, seed=seed)
    for pair in given:
        made.add(pair)
    return made


def kept(reservoir):
    return [pair.source for pair in reservoir.examples]


def test_every_pair_is_equally_likely_to_stay():
    count, size, rounds = 20, 5, 3000
    stream = pairs(count)
    hits = dict.fromkeys((pair.source for pair in stream), 0)
    together = 0  # The first and the last pair: samples must be independent of the position too.
    for seed in range(rounds):
        sample = kept(filled(size, stream, seed=seed))
        assert len(set(sample)) == size
        for source in sample:
            hits[source] += 1
        together += {"f:0", "f:19"} <= set(sample)
    share = size / count
    squares = sum((n - rounds * share) ** 2 for n in hits.values())
    # Inclusions of a fixed number of items: this sum is chi-squared with 19 degrees of freedom.
    statistic = squares / (rounds * share * (1 - share)) * (count - 1) / count
    assert statistic < 43.8  # exceeded by chance once in a thousand
    expected = rounds * share * (size - 1) / (count - 1)
    assert abs(together - expected) < 4 * expected**0.5


@given(size=st.integers(0, 8), cut=st.integers(0, 30), seed=st.integers(0, 5))
def test_going_on_from_a_saved_state_is_as_if_never_stopped(size, cut, seed):
    stream = pairs(30)
    whole = filled(size, stream, seed=seed)
    first = filled(size, stream[:cut], seed=seed)
    later = Reservoir.of_examples(size, seed=seed)
    later.load_state(json.loads(json.dumps(first.state())))
    assert later.state() == first.state()
    for pair in stream[cut:]:
        later.add(pair)
    assert later.state() == whole.state() and later.seen == 30


def test_the_seed_alone_decides():
    assert kept(filled(5, pairs(50), seed=1)) == kept(filled(5, pairs(50), seed=1))
    assert kept(filled(5, pairs(50), seed=1)) != kept(filled(5, pairs(50), seed=2))


def test_fewer_pairs_than_places_all_stay_in_order_and_no_place_keeps_none():
    assert filled(9, pairs(4)).examples == pairs(4)
    empty = filled(0, pairs(4))
    assert empty.examples == [] and empty.seen == 4


def test_conversations_domains_and_scores_are_kept():
    turns = (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "More?"))
    pair = Pair(
        turns, (Message("assistant", "yes\n"),), "no", domain="talk",
        score_chosen=1.5, score_rejected=-2.0, source="x.jsonl:3",
    )  # fmt: skip
    again = Reservoir.of_examples(2, seed=0)
    again.load_state(json.loads(json.dumps(filled(2, [pair]).state())))
    (found,) = again.examples
    for name in Pair.__slots__:
        if name != "provenance":
            assert getattr(found, name) == getattr(pair, name), name


def test_a_killed_and_resumed_run_keeps_the_same_pairs(recipe, tmp_path):
    options = ("data.replay_buffer_size=10", "data.shuffle=16", "data.eval=null")
    training.train(recipe(f"output_dir={tmp_path / 'whole'}", *options))
    broken = recipe(f"output_dir={tmp_path / 'broken'}", *options)

    def cut(event):
        if event["event"] == "step" and event["step"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(broken, listener=cut)
    training.train(broken)
    memories = [(tmp_path / name / "memory.jsonl").read_bytes() for name in ("whole", "broken")]
    assert memories[0] == memories[1] and memories[0].count(b"\n") == 10
    none = recipe(
        f"output_dir={tmp_path / 'none'}", "data.replay_buffer_size=0", "train.max_steps=1"
    )
    training.train(none)
    assert Path(none.output_dir, "memory.jsonl").read_bytes() == b""
