"""A world as files."""

import json
from collections import Counter

import pytest

from fastslow.errors import ConfigError
from fastslow.streams import ExampleStream, open_sources
from fastslow.streams.worlds import World, write_stream, write_world

WORLD = World(seed=5)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_files_hold_what_was_asked_for_and_load_as_pairs(tmp_path):
    write_world(WORLD, tmp_path, pairs=20, held_out=7, seed=3)
    assert World.load(tmp_path / "world.json") == WORLD
    for domain in WORLD.domains:
        pairs = list(ExampleStream(open_sources([str(tmp_path / domain / "train.jsonl")])))
        assert len(pairs) == 20
        assert {pair.domain for pair in pairs} == {domain}
        tests = rows(tmp_path / domain / "test.jsonl")
        assert len(tests) == 7
        assert not {row["prompt"] for row in tests} & {pair.prompt for pair in pairs}


def test_noise_leaves_held_out_labels_alone(tmp_path):
    for name, noise in (("plain", 0.0), ("noisy", 1.0)):
        write_world(WORLD, tmp_path / name, pairs=10, held_out=10, noise=noise)
    plain, noisy = (rows(tmp_path / n / "notes" / "train.jsonl") for n in ("plain", "noisy"))
    assert [row["chosen"] for row in plain] == [row["rejected"] for row in noisy]
    plain, noisy = (rows(tmp_path / n / "notes" / "test.jsonl") for n in ("plain", "noisy"))
    assert plain == noisy


def test_a_stream_follows_its_order_and_a_domain_that_returns_goes_on(tmp_path):
    write_stream(WORLD, tmp_path / "s.jsonl", ["reviews", "notes", "reviews"], pairs=15)
    found = rows(tmp_path / "s.jsonl")
    assert [row["domain"] for row in found] == ["reviews"] * 15 + ["notes"] * 15 + ["reviews"] * 15
    once = WORLD.pairs("reviews", seed=0)
    assert [row for row in found if row["domain"] == "reviews"] == [next(once) for _ in range(30)]


def test_an_overlap_mixes_neighbours_only_around_the_change(tmp_path):
    write_stream(WORLD, tmp_path / "s.jsonl", ["reviews", "notes"], pairs=200, overlap=0.5)
    domains = [row["domain"] for row in rows(tmp_path / "s.jsonl")]
    assert set(domains[:150]) == {"reviews"} and set(domains[250:]) == {"notes"}
    middle = Counter(domains[150:250])
    assert min(middle.values()) > 30


def test_a_stream_of_unknown_domains_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="got domain 'poems'; this world has reviews"):
        write_stream(WORLD, tmp_path / "s.jsonl", ["poems"], pairs=1)
