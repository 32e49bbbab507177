"""Replay mixes remembered pairs in and leaves the stream itself whole."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow.errors import DataError
from fastslow.records import Pair
from fastslow.streams import ExampleStream, ReplayStream, open_sources

MEMORY = [Pair(f"old {i}", "a", "b", domain="old", source=f"m:{i}") for i in range(5)]
SMALL, LARGE = 24, 3000


@pytest.fixture(scope="module")
def files():
    with TemporaryDirectory() as folder:
        made = {}
        for count in (SMALL, LARGE):
            rows = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(count)]
            made[count] = tiny.write_rows(Path(folder) / f"{count}.jsonl", rows)
        yield made


def replay(path, *, share=0.25, seed=0, memory=MEMORY, **options):
    stream = ExampleStream(open_sources([str(path)]), seed=seed, **options)
    return ReplayStream(stream, memory, share=share, seed=seed)


def prompts(stream):
    return [pair.prompt for pair in stream]


def fresh(given):
    return [prompt for prompt in given if not prompt.startswith("old")]


def test_the_share_holds_on_average_and_the_memory_is_drawn_evenly(files):
    for share in (0.1, 0.25, 0.6):
        out = prompts(replay(files[LARGE], share=share, seed=3))
        remembered = Counter(out)
        old = len(out) - LARGE
        error = (share * (1 - share) / len(out)) ** 0.5
        assert abs(old / len(out) - share) < 4 * error
        for pair in MEMORY:
            assert abs(remembered[pair.prompt] - old / 5) < 4 * (old * 0.16) ** 0.5
        # In between, not in lumps: every tenth of the way has its part.
        tenth = len(out) // 10
        for first in range(0, 10 * tenth, tenth):
            part = out[first : first + tenth]
            here = 1 - len(fresh(part)) / tenth
            assert abs(here - share) < 5 * (share * (1 - share) / tenth) ** 0.5


@settings(deadline=None, max_examples=60)
@given(
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 99),
    shuffle=st.sampled_from([0, 5]),
    epochs=st.integers(1, 2),
    skip=st.sampled_from([0, 7]),
    stop=st.integers(0, 80),
)
def test_no_pair_is_lost_or_repeated_and_every_position_resumes(
    files, share, seed, shuffle, epochs, skip, stop
):
    options = {
        "share": share, "seed": seed, "shuffle": shuffle, "epochs": epochs, "skip": skip,
    }  # fmt: skip
    whole = prompts(replay(files[SMALL], **options))
    alone = ExampleStream(
        open_sources([str(files[SMALL])]), seed=seed, shuffle=shuffle, epochs=epochs, skip=skip
    )
    assert fresh(whole) == prompts(alone)

    begun = replay(files[SMALL], **options)
    first = prompts(islice(begun, stop))
    resumed = replay(files[SMALL], **options)
    resumed.load_state(json.loads(json.dumps(begun.state())))
    assert first + prompts(resumed) == whole
    assert resumed.num_consumed == epochs * SMALL


def test_the_seed_alone_decides(files):
    assert prompts(replay(files[SMALL], seed=1)) == prompts(replay(files[SMALL], seed=1))
    assert prompts(replay(files[SMALL], seed=1)) != prompts(replay(files[SMALL], seed=2))


def test_an_empty_memory_is_refused(files):
    with pytest.raises(DataError, match="replay.memory: holds no pairs"):
        replay(files[SMALL], memory=[])


def test_what_is_to_come_is_estimated_with_the_memory(files):
    assert replay(files[SMALL], share=0.25).estimate_pairs() == 32
    assert replay(files[SMALL], share=0.25, skip=12).estimate_pairs() == 16


def test_counts_are_of_the_stream_itself(files):
    mixed = replay(files[SMALL], share=0.5)
    list(mixed)
    assert mixed.counts.read == SMALL and mixed.num_consumed == SMALL
