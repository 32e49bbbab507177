"""Reading ahead changes when a batch is read, and nothing that is said of it."""

import threading
from contextlib import closing

import pytest
import tiny

from fastslow import training
from fastslow.errors import DataError
from fastslow.objectives import make_objective
from fastslow.scoring import Encoder
from fastslow.streams import ExampleStream, open_sources
from fastslow.training import build
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.prefetch import PrefetchReader


def rows(count):
    """Pairs, some of which cannot be learned from."""
    made = tiny.rows(count, seed=5)
    for row in made[3::17]:
        row["rejected"] = row["chosen"] + " "  # Other text, but the same tokens once it is cut.
    return made


def told(reader):
    """What is warned of after each batch."""
    return [reader.take_warnings() for _ in reader]


def test_many_truncated_examples_are_told_of_once_and_at_the_same_batch(tmp_path):
    path = tiny.write_rows(tmp_path / "long.jsonl", tiny.rows(200, seed=5))
    plain, ahead = (told(one) for one in (
        reader_of(path, max_length=24), PrefetchReader(reader_of(path, max_length=24))
    ))  # fmt: skip
    (message,) = sum(plain, [])
    assert plain == ahead and [len(one) for one in plain].index(1) == 19, "of a hundred examples"
    assert "of the first 100 examples are truncated at data.max_length = 24" in message
    assert not sum(told(reader_of(path, max_length=1024)), [])


def test_a_run_of_few_examples_tells_of_truncated_ones_at_its_end(tmp_path):
    path = tiny.write_rows(tmp_path / "long.jsonl", tiny.rows(9, seed=5))
    for reader in (reader_of(path, max_length=24), PrefetchReader(reader_of(path, max_length=24))):
        assert not sum(told(reader), [])
        (message,) = reader.last_warnings()
        assert "of 9 examples are truncated at data.max_length = 24" in message
    path = tiny.write_rows(tmp_path / "many.jsonl", tiny.rows(200, seed=5))
    reader = reader_of(path, max_length=24)
    assert sum(told(reader), []) and not reader.last_warnings(), "told of already"


def reader_of(path, *, max_length=96, **settings):
    stream = ExampleStream(open_sources([str(path)]), shuffle=8, seed=3, **settings)
    encoder = Encoder(tiny.tokenizer(), max_length=max_length)
    return BatchReader(stream, encoder, make_objective("dpo"), batch_size=5)


def said(reader):
    return (
        reader.state(),
        reader.summary(),
        reader.skipped_examples(),
        reader.num_consumed,
        reader.metrics(),
    )


@pytest.fixture
def path(tmp_path):
    return tiny.write_rows(tmp_path / "pairs.jsonl", rows(33))


def test_batches_and_what_is_said_of_each_are_the_readers_own(path):
    plain, ahead = reader_of(path, epochs=2), PrefetchReader(reader_of(path, epochs=2))
    assert said(plain) == said(ahead)
    batches = 0
    for batch, other in zip(plain, ahead, strict=True):
        assert batch == other and said(plain) == said(ahead)
        batches += 1
    assert said(plain) == said(ahead)
    assert batches == 14 and plain.summary()["dropped"] == 0


@pytest.mark.parametrize("again", [True, False])
def test_it_goes_on_after_the_batch_that_came_out_last(path, again):
    expected = list(reader_of(path))
    ahead = PrefetchReader(reader_of(path))
    with closing(iter(ahead)) as batches:
        seen = [next(batches), next(batches)]
    if not again:
        state = ahead.state()
        ahead = PrefetchReader(reader_of(path))
        ahead.load_state(state)
    assert seen + list(ahead) == expected


def test_a_position_is_gone_back_to(path):
    ahead = PrefetchReader(reader_of(path))
    batches = iter(ahead)
    first, position = next(batches), ahead.position()
    second = next(batches)
    batches.close()
    ahead.seek(position)
    assert next(iter(ahead)) == second != first


def test_an_error_comes_when_it_is_its_batchs_turn(tmp_path):
    bad = [{"prompt": "p"}] * 40
    path = tiny.write_rows(tmp_path / "bad.jsonl", [*rows(10), *bad])
    stream = ExampleStream(open_sources([str(path)]), max_bad_fraction=0.9)
    encoder = Encoder(tiny.tokenizer(), max_length=2)
    ahead = PrefetchReader(BatchReader(stream, encoder, make_objective("dpo"), batch_size=5))
    before = ahead.state()
    with pytest.raises(DataError, match="unusable"):
        list(ahead)
    assert ahead.state() == before


class Noticed(BatchReader):
    """Says when it has read its second batch."""

    def __init__(self, reader):
        self.__dict__ |= reader.__dict__
        self.second = threading.Event()

    def __iter__(self):
        for index, batch in enumerate(super().__iter__()):
            if index == 1:
                self.second.set()
            yield batch


def test_the_next_batch_is_read_meanwhile_and_no_thread_is_left(path):
    noticed = Noticed(reader_of(path))
    batches = iter(PrefetchReader(noticed))
    assert not noticed.second.is_set()
    next(batches)
    assert noticed.second.wait(timeout=20)
    assert any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_runs_end_the_same_with_and_without_it(recipe, tmp_path, monkeypatch):
    settings = ("train.max_steps=7", "checkpoint.every=3", "data.replay_buffer_size=10")
    ahead, plain = (recipe(f"output_dir={tmp_path / name}", *settings) for name in ("a", "p"))
    first = training.train(ahead)
    monkeypatch.setattr(build, "PrefetchReader", lambda reader: reader)
    second = training.train(plain)
    assert tiny.same(tiny.adapters(ahead.output_dir), tiny.adapters(plain.output_dir))
    assert first.data == second.data and first.pairs_taken == second.pairs_taken == 56
