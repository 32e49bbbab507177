"""Every kind of source, bad rows, and positions that resume exactly."""

import gzip
import io
import json
import random
import sys
import tracemalloc
import types
from itertools import islice

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow.errors import ConfigError, DataError
from fastslow.streams import WAITING, ExampleStream, open_sources, read_prompts
from fastslow.streams.sources.live import StandardInput


def chosen(stream):
    return [pair.chosen for pair in stream]


def stream(*specs, **options):
    return ExampleStream(open_sources([str(spec) for spec in specs]), **options)


ROWS = tiny.rows(30, seed=5)
CHOSEN = [row["chosen"] for row in ROWS]


def text_rows(count):
    return [{"prompt": "p", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)]


def test_plain_and_compressed_lines(tmp_path):
    for name in ("a.jsonl", "b.jsonl.gz"):
        path = tiny.write_rows(tmp_path / name, ROWS)
        assert chosen(stream(path)) == CHOSEN


def test_directories_and_globs_read_files_by_name(tmp_path):
    tiny.write_rows(tmp_path / "2.jsonl", ROWS[15:])
    tiny.write_rows(tmp_path / "1.jsonl.gz", ROWS[:15])
    (tmp_path / "notes.txt").write_text("ignored")
    assert chosen(stream(tmp_path)) == CHOSEN
    assert chosen(stream(tmp_path / "*.jsonl*")) == CHOSEN
    assert stream(tmp_path).count_rows() == 30


def test_parquet_and_dataset_folders(tmp_path):
    import datasets

    plain = text_rows(40)
    data = datasets.Dataset.from_list(plain)
    data.to_parquet(tmp_path / "p.parquet", batch_size=7)
    data.save_to_disk(str(tmp_path / "d"))
    datasets.DatasetDict({"train": data.select(range(9)), "test": data}).save_to_disk(
        str(tmp_path / "dd")
    )
    expected = [row["chosen"] for row in plain]
    assert chosen(stream(tmp_path / "p.parquet")) == expected
    assert chosen(stream(tmp_path / "d")) == expected
    assert chosen(stream(tmp_path / "dd")) == expected[:9]
    assert chosen(stream(f"{tmp_path / 'dd'}:test")) == expected
    with pytest.raises(DataError, match="no split 'dev'; it has train, test"):
        chosen(stream(f"{tmp_path / 'dd'}:dev"))
    for spec in ("p.parquet", "d", "dd"):
        (source,) = open_sources([str(tmp_path / spec)])
        assert [number for number, _ in source.rows(5)] == list(range(6, source.count() + 1))


def test_chat_rows_survive_parquet(tmp_path):
    import datasets

    row = {
        "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
    }
    datasets.Dataset.from_list([row]).to_parquet(tmp_path / "p.parquet")
    (pair,) = stream(tmp_path / "p.parquet")
    assert pair.prompt[0].content == "q" and pair.rejected[0].content == "b"


def test_standard_input(monkeypatch):
    raw = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(raw)))
    assert chosen(stream("-")) == CHOSEN
    with pytest.raises(DataError, match="once only"):
        stream("-", epochs=2)


def test_a_pause_of_a_live_stream_is_no_pair_that_is_skipped(monkeypatch):
    def poll(source, start=0):
        for number, row in enumerate(tiny.rows(6), 1):
            yield number, WAITING
            yield number, row

    monkeypatch.setattr(StandardInput, "poll", poll)
    found = list(ExampleStream(open_sources(["-"]), skip=3, poll=True))
    expected = [row["chosen"] for row in tiny.rows(6)][3:]
    assert [item.chosen for item in found if item is not WAITING] == expected
    assert found.count(WAITING) == 6


def test_a_live_stream_gives_each_pair_as_it_arrives(monkeypatch):
    class Pipe:
        sent = 0

        def readline(self, size):
            self.sent += 1
            return json.dumps(ROWS[self.sent]).encode() + b"\n"

    pipe = Pipe()
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=pipe))
    live = iter(stream("-"))
    next(live)
    assert pipe.sent == 1


def test_windows_line_ends_byte_order_mark_and_blank_lines(tmp_path):
    lines = [json.dumps(row) for row in ROWS[:3]]
    text = "\ufeff" + lines[0] + "\r\n\r\n" + lines[1] + "\r\n" + lines[2]
    (tmp_path / "w.jsonl").write_bytes(text.encode())
    read = stream(tmp_path / "w.jsonl")
    assert chosen(read) == CHOSEN[:3]
    assert read.counts.invalid == 0


def test_bad_rows_are_counted_and_shown_with_file_and_line(tmp_path):
    path = tmp_path / "bad.jsonl"
    lines = [json.dumps(row).encode() for row in text_rows(6)]
    lines[1] = b'{"prompt": "p", "chosen": '
    lines[2] = b'{"prompt": "caf\xe9"}'
    lines[3] = b"[1, 2]"
    lines[4] = json.dumps({"prompt": "p", "chosen": "x", "rejected": "x"}).encode()
    path.write_bytes(b"\n".join(lines))
    read = stream(path, max_bad_fraction=1.0)
    assert chosen(read) == ["good 0", "good 5"]
    assert (read.counts.read, read.counts.invalid) == (6, 4)
    reasons = ["not JSON", "not UTF-8", "a list, not an object", "identical"]
    for line, (shown, reason) in enumerate(zip(read.counts.shown, reasons, strict=True), 2):
        assert shown.startswith(f"{path}:{line}: ") and reason in shown


def test_too_many_bad_rows_stop_the_stream_before_its_first_pair(tmp_path):
    path = tiny.write_rows(tmp_path / "a.jsonl", text_rows(97) + [{"prompt": "x"}] * 3)
    with pytest.raises(DataError, match=r"3 of 100 rows.*max_bad_fraction = 0.01") as caught:
        next(iter(stream(path)))
    assert "a.jsonl:98: no chosen and no rejected" in str(caught.value)
    assert len(chosen(stream(path, max_bad_fraction=0.03))) == 97


def test_bad_rows_late_in_a_long_stream_stop_it_too(tmp_path):
    path = tiny.write_rows(tmp_path / "a.jsonl", text_rows(1500) + [{"prompt": "x"}] * 100)
    read = stream(path)
    with pytest.raises(DataError, match="100 of 1600 rows"):
        chosen(read)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("missing.jsonl", "does not exist"),
        ("./no/such/folder", "does not exist"),
        ("*.nothing", "no file matches"),
    ],
)
def test_what_stands_for_nothing_is_refused(spec, message):
    with pytest.raises(DataError, match=message):
        open_sources([spec])


def test_empty_and_unknown_files(tmp_path):
    (tmp_path / "e.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="no rows in"):
        chosen(stream(tmp_path / "e.jsonl"))
    (tmp_path / "x.txt").write_text("a,b")
    with pytest.raises(DataError, match="is not one of .jsonl"):
        open_sources([str(tmp_path / "x.txt")])
    (tmp_path / "p.parquet").write_text("no")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        chosen(stream(tmp_path / "p.parquet"))
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match="holds no .jsonl"):
        open_sources([str(tmp_path / "sub")])


def test_hub_ids_are_told_from_paths():
    (source,) = open_sources(["owner/name:test"])
    assert (source.repo, source.split) == ("owner/name", "test")


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_position_resumes_exactly(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")
    draw = random.Random(data.draw(st.integers(0, 10**6)))
    made = text_rows(data.draw(st.integers(1, 60)))
    for index in range(0, len(made), 7):
        if draw.random() < 0.3:
            made[index] = {"prompt": "bad"}
        elif draw.random() < 0.3:
            made[index] = {
                "prompt": "p",
                "completions": [f"a{index}", f"b{index}", f"c{index}"],
                "ranks": [2, 1, 3],
            }
    cut = draw.randint(0, len(made))
    files = [
        tiny.write_rows(folder / "1.jsonl", made[:cut]),
        tiny.write_rows(folder / "2.jsonl.gz", made[cut:]),
    ]
    options = {
        "shuffle": data.draw(st.sampled_from([0, 1, 4, 16, 100])),
        "seed": 3,
        "epochs": data.draw(st.integers(1, 3)),
        "max_bad_fraction": 1.0,
    }
    whole = stream(*files, **options)
    expected = chosen(whole)
    first = stream(*files, **options)
    taken = data.draw(st.integers(0, len(expected)))
    head = [pair.chosen for pair in islice(first, taken)]
    state = json.loads(json.dumps(first.state()))
    second = stream(*files, **options)
    second.load_state(state)
    assert second.counts == first.counts
    assert head + chosen(second) == expected
    assert second.counts == whole.counts
    pieces = stream(*files, **options)
    while list(islice(pieces, 3)):  # Each iteration begins in the middle of a block.
        pass
    assert pieces.counts == whole.counts


def test_shuffling_depends_on_seed_and_epoch_and_loses_nothing(tmp_path):
    path = tiny.write_rows(tmp_path / "a.jsonl", text_rows(50))
    first = chosen(stream(path, shuffle=20, seed=1, epochs=2))
    assert first == chosen(stream(path, shuffle=20, seed=1, epochs=2))
    assert first != chosen(stream(path, shuffle=20, seed=2, epochs=2))
    assert first[:50] != first[50:] and sorted(first[:50]) == sorted(first[50:])
    assert {int(text.split()[1]) for text in first[:20]} == set(range(20))


def test_a_large_file_never_sits_in_memory(tmp_path):
    row = json.dumps({"prompt": "p", "chosen": "a" * 4000, "rejected": "b"}) + "\n"
    path = tmp_path / "big.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        for _ in range(20_000):  # 80 MB of text
            file.write(row)
    tracemalloc.start()
    assert sum(1 for _ in stream(path)) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_prompts_alone(tmp_path):
    path = tiny.write_rows(
        tmp_path / "p.jsonl",
        [{"prompt": "only"}, {"question": "say", "chosen": "yes", "rejected": "no"}],
    )
    assert [row.prompt for row in read_prompts(open_sources([str(path)]))] == ["only", "say"]
    path = tiny.write_rows(tmp_path / "q.jsonl", [{"text": "x"}])
    with pytest.raises(DataError, match="q.jsonl:1: the prompt cannot be read"):
        list(read_prompts(open_sources([str(path)])))


@settings(deadline=None, max_examples=60)
@given(
    skip=st.integers(0, 130),
    shuffle=st.sampled_from([0, 7, 64]),
    epochs=st.integers(1, 2),
    stop=st.integers(0, 70),
)
def test_skipped_pairs_are_passed_over_and_every_later_position_resumes(
    skipped_file, skip, shuffle, epochs, stop
):
    options = {"shuffle": shuffle, "seed": 3, "epochs": epochs}
    rest = list(islice(stream(skipped_file, **options), skip, None))
    assert list(stream(skipped_file, skip=skip, **options)) == rest

    begun = stream(skipped_file, skip=skip, **options)
    first = list(islice(begun, stop))
    assert not first or begun.num_consumed == skip + len(first)
    resumed = stream(skipped_file, skip=skip, **options)
    resumed.load_state(json.loads(json.dumps(begun.state())))
    assert first + list(resumed) == rest
    if skip < 60 * epochs:
        assert resumed.num_consumed == 60 * epochs


@pytest.fixture(scope="module")
def skipped_file(tmp_path_factory):
    return tiny.write_rows(tmp_path_factory.mktemp("skip") / "s.jsonl", text_rows(60))


def test_what_is_left_after_the_skipped_pairs_is_estimated(skipped_file):
    assert stream(skipped_file, skip=20).estimate_pairs() == 40
    assert stream(skipped_file, skip=20, epochs=2).estimate_pairs() == 100
    assert stream(skipped_file, skip=99).estimate_pairs() == 0


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"promt": "asked"}, "data.columns: got 'promt'; allowed are .* did you mean 'prompt'"),
        ({"chosen": "rejected", "rejected": "chosen"}, "'rejected' stands on both sides"),
    ],
)
def test_columns_that_mean_nothing_are_refused(columns, words):
    with pytest.raises(ConfigError, match=words):
        ExampleStream([], columns=columns)


def test_a_stream_reads_columns_under_other_names(tmp_path):
    rows = [{"asked": f"p{i}", "good": "a", "bad": "b"} for i in range(3)]
    path = tiny.write_rows(tmp_path / "p.jsonl", rows)
    columns = {"prompt": "asked", "chosen": "good", "rejected": "bad"}
    stream = ExampleStream(open_sources([str(path)]), columns=columns)
    assert [pair.prompt for pair in stream] == ["p0", "p1", "p2"]
    assert stream.estimate_pairs() == 3
