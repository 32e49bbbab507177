"""Formats, splits, and files that misbehave: what is read of them, and what is refused."""

import csv
import gzip
import json
import os
import random
import socket
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from fastslow.errors import DataError
from fastslow.streams import ExampleStream, Unreadable, open_sources, source_warnings
from fastslow.streams.sources import source as bounds
from fastslow.streams.sources.live import StandardInput, lines_or_waiting
from fastslow.streams.sources.pieces import LineSplitter, lines_of


def rows(count, tag="p"):
    return [
        {"prompt": f"{tag} {i}", "chosen": f"good {i}", "rejected": f"bad {i}"}
        for i in range(count)
    ]


def read(*specs):
    """All rows of some sources, unreadable ones as their reason."""
    return [
        row.reason if isinstance(row, Unreadable) else row
        for source in open_sources([str(spec) for spec in specs])
        for _, row in source.rows()
    ]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)
    return path


def lines(items):
    return "".join(json.dumps(item) + "\n" for item in items)


def table(items):
    out = [",".join(items[0])]
    out += [
        ",".join('"' + str(cell).replace('"', '""') + '"' for cell in row.values()) for row in items
    ]
    return "\n".join(out) + "\n"


WRITERS = {
    "d.jsonl": lines,
    "d.jsonl.gz": lines,
    "lines.json": lines,
    "array.json": json.dumps,
    "indented.json": lambda items: json.dumps(items, indent=2),
    "array.json.gz": json.dumps,
    "d.csv": table,
    "d.csv.gz": table,
}
ODD = [
    {"prompt": 'quotes " and \\ and \\"', "chosen": "[1, {2}]", "rejected": "a\nb,c"},
    {"prompt": "é 日本 \U0001f600", "chosen": "}", "rejected": '"'},
]


@pytest.mark.parametrize("name", WRITERS)
def test_every_text_format_gives_the_same_rows_and_resumes_at_each(name, tmp_path):
    items = rows(7) + ODD
    write(tmp_path / name, WRITERS[name](items))
    (source,) = open_sources([str(tmp_path / name)])
    whole = list(source.rows())
    assert [row for _, row in whole] == items
    assert source.count() == len(items)
    for start in range(len(items) + 1):
        assert list(source.rows(start)) == whole[start:]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 64])
def test_lines_and_items_are_cut_alike_whatever_the_chunks(cut, tmp_path, monkeypatch):
    from fastslow.streams.sources import file

    items = rows(3) + ODD
    monkeypatch.setattr(file, "CHUNK", cut)
    for name, writer in WRITERS.items():
        text = writer(items).replace("\n", "\r\n") if name.endswith(".jsonl") else writer(items)
        assert read(write(tmp_path / name, text)) == items


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_is_one(end, tmp_path):
    text = "\ufeff" + end.join([json.dumps(row) for row in rows(3)] + ["", ""])
    assert read(write(tmp_path / "d.jsonl", text)) == rows(3)
    text = "\ufeff" + table(rows(3)).replace("\n", end)
    assert read(write(tmp_path / "d.csv", text)) == rows(3)


def test_a_line_that_ends_in_a_comma_says_so(tmp_path):
    good = json.dumps(rows(1)[0])
    found = read(write(tmp_path / "d.jsonl", f"{good}\n{good},\n{good} {good}\n"))
    assert found[0] == rows(1)[0]
    assert found[1] == f"not JSON (a comma at the end, character {len(good)} of the line)"
    assert found[2].startswith("not JSON (Extra data")


def test_an_item_that_is_no_row_is_passed_over_and_the_next_one_read(tmp_path):
    good = json.dumps(rows(1)[0])
    text = f'\ufeff [ {good}, 3, {{"a": 1, "a": 2}}, {{bad}}, [1, 2], {good} , ]\n'
    found = read(write(tmp_path / "d.json", text))
    assert found[0] == found[5] == rows(1)[0] and len(found) == 7
    for reason, expected in zip(
        found[1:5], ["a int", "'a' occurs twice", "not JSON", "a list"], strict=True
    ):
        assert expected in reason
    assert "not JSON" in found[6]
    assert read(write(tmp_path / "e.json", " [ ] ")) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"a": 1}, {"a"', "ends in the middle"),
        ("a.json", '[{"a": 1}', "ends in the middle"),
        ("a.json", "", "no rows in"),
        ("a.json", '[{"a": 1}] {"b": 2}', "has more after the end of its array"),
        ("a.json", '{\n "data": [{"a": 1}]\n}', "is one JSON object, not rows"),
        ("a.jsonl", '{"a": 1}\n{"a": 1', "ends in the middle"),
        ("a.jsonl", '{"a": 1}\n{"a": {"b": 1}', "ends in the middle"),
        ("a.jsonl", '{"a": 1}\n{"a": [{"b": 1}', "ends in the middle"),
        ("a.jsonl", '{"a": 1}\n{"a": "{b}', "ends in the middle"),
        ("a.csv", 'a,b\n1,"2', "ends in the middle"),
        ("a.csv", 'a,b\n1,"2"x\n3,4\n', r"a.csv:2: not CSV"),
        ("a.csv", "a,b,a\n1,2,3\n", "more than one column 'a'"),
        ("a.csv", "a;b\n1;2\n", "';' between its cells"),
        ("a.jsonl", lines(rows(2)).encode("utf-16"), "UTF-16"),
        ("a.csv", table(rows(2)).encode("utf-16"), "UTF-16"),
        ("a.json", json.dumps(rows(2)).encode("utf-16"), "UTF-16"),
        ("a.parquet", "no", "cannot be read as parquet"),
    ],
)
def test_a_file_that_is_not_whole_or_not_what_it_seems_is_refused(name, text, message, tmp_path):
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=message):
        list(ExampleStream(open_sources([str(path)]), max_bad_fraction=1.0))


@pytest.mark.parametrize("name", ["t.jsonl.gz", "t.json.gz", "t.csv.gz"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_gzip_that_ends_in_the_middle_is_refused_before_anything_is_learned(name, kept, tmp_path):
    draw = random.Random(3)
    made = [row | {"chosen": str(draw.random())} for row in rows(2000)]
    suffix = name.removeprefix("t").removesuffix(".gz")
    text = {".jsonl": lines, ".json": json.dumps, ".csv": table}[suffix](made)
    whole = gzip.compress(text.encode())
    path = tmp_path / name
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match="ends in the middle"):
        ExampleStream(open_sources([str(path)]), max_bad_fraction=1.0).estimate_pairs()
    with pytest.raises(DataError, match="ends in the middle"):
        read(path)
    path.write_bytes(whole[:500] + b"\0" * 20 + whole[520:])
    with pytest.raises(DataError, match="damaged|ends in the middle|UTF|CSV|JSON"):
        list(ExampleStream(open_sources([str(path)])))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"prompt": "a", "prompt": "b"}', "'prompt' occurs twice"),
        ('{"x": {"k": 1, "k": 1}}', "'k' occurs twice"),
        ('{"weight": 1' + "0" * 5000 + "}", "not usable JSON"),
        ('{"x": ' + "[" * 5000 + "]" * 5000 + "}", "nested deeper than 64 levels"),
        ('{"x": ' + "[" * 80 + "]" * 80 + "}", "nested deeper than 64 levels"),
        ('{"x": "\\ud800"}', "half a character"),
        ('{"\\uDC00": 1}', "half a character"),
        ("\0\0\0", "not JSON"),
    ],
)
def test_json_that_no_row_can_hold_is_one_unreadable_row(text, reason, tmp_path):
    path = write(tmp_path / "d.jsonl", lines(rows(1)) + text + "\n" + lines(rows(1)))
    first, found, last = read(path)
    assert reason in found and len(found) < 200
    assert first == last == rows(1)[0]


def test_a_row_may_be_nested_and_hold_a_whole_escaped_character(tmp_path):
    row = {"x": json.loads("[" * 60 + "]" * 60), "y": "\U0001f600"}
    assert read(write(tmp_path / "d.jsonl", lines([row]))) == [row]


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.json"])
def test_a_line_beyond_the_bound_is_a_bad_row_and_never_in_memory(name, tmp_path):
    long = '{"prompt": "' + "a" * (3 * bounds.MAX_ROW) + '"}'
    first, last = (json.dumps(row) for row in rows(2))
    text = f"[{first},{long},{last}]" if name == "d.json" else f"{first}\n{long}\n{last}\n"
    path = write(tmp_path / name, text)
    del text, long
    tracemalloc.start()
    assert read(path) == [rows(2)[0], "longer than 16 MiB", rows(2)[1]]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * bounds.MAX_ROW / 2
    (source,) = open_sources([str(path)])
    assert source.count() == 3


def test_a_long_value_in_parquet_or_csv_is_refused_or_a_bad_row(tmp_path):
    made = rows(3)
    made[1]["chosen"] = "a" * (bounds.MAX_ROW + 1)
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet") == [made[0], "longer than 16 MiB", made[2]]
    with pytest.raises(DataError, match="d.csv:3: the line is over 16 MiB"):
        read(write(tmp_path / "d.csv", table(made)))


def test_cells_are_text_but_for_columns_that_hold_values(tmp_path):
    path = tmp_path / "d.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(
            ["", "prompt", "completions", "scores", "weight", "label", "score_chosen", "note"]
        )
        out.writerow([0, "42", '["a", "b"]', "[1, 2.5]", "0.5", "True", "", ""])
        out.writerow([1, "true", "['a']", "1;2", "much", "0", "1e3", "[1]"])
        out.writerow(
            [2, '[{"role": "user", "content": "hi"}]', "", "", " 2 ", "false", "null", "x"]
        )
        out.writerow([3, "[{'role': 'user', 'content': 'hi'}]", "", "", "", "", "", ""])
        out.writerow([4, "short"])
    first, second, third, python, short = read(path)
    assert first == {
        "prompt": "42", "completions": ["a", "b"], "scores": [1, 2.5], "weight": 0.5,
        "label": True, "score_chosen": None, "note": None,
    }  # fmt: skip
    assert second == {
        "prompt": "true", "completions": "['a']", "scores": "1;2", "weight": "much", "label": 0,
        "score_chosen": 1000.0, "note": "[1]",
    }  # fmt: skip
    assert third["prompt"] == [{"role": "user", "content": "hi"}]
    assert (third["weight"], third["label"], third["score_chosen"]) == (2, False, None)
    shared = '[{"from": "human", "value": "hi"}]'
    made = table([{"question": shared, "history": '[["a", "b"]]'}])
    assert read(write(tmp_path / "e.csv", made)) == [
        {"question": json.loads(shared), "history": [["a", "b"]]}
    ]
    assert "as Python prints them" in python and "2 cells" in short


def test_turns_in_a_csv_cell_may_be_indented(tmp_path):
    turns = [{"role": "user", "content": "hi"}]
    cells = [{"prompt": json.dumps(turns, indent=indent)} for indent in (None, 1, 8)]
    cells.append({"prompt": "[\n {'role': 'user', 'content': 'hi'}]"})
    *known, python = read(write(tmp_path / "d.csv", table(cells)))
    assert known == [{"prompt": turns}] * 3
    assert "as Python prints them" in python


def test_a_csv_cell_that_is_no_utf8_is_a_bad_row(tmp_path):
    text = table(rows(3)).encode().replace(b"good 1", b"caf\xe9")
    assert read(write(tmp_path / "d.csv", text))[1] == "the column 'chosen' is not UTF-8"


def broken_text(values):
    offsets = [0]
    for value in values:
        offsets.append(offsets[-1] + len(value))
    buffers = [None, pa.array(offsets, pa.int32()).buffers()[1], pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def test_what_python_cannot_hold_of_parquet_is_a_bad_row_that_names_its_column(tmp_path):
    made = pa.Table.from_pylist(rows(300))
    odd = broken_text([b"\xff" if i == 7 else b"x" for i in range(300)])
    pq.write_table(made.append_column("note", odd), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert "'note' of type string cannot be decoded (it is not UTF-8)" in found[7]
    assert [row for row in found if isinstance(row, str)] == [found[7]]
    when = pa.array([0] * 300, pa.timestamp("us", tz="Mars/Phobos"))
    pq.write_table(made.append_column("when", when), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"'when' of type timestamp\[us, tz=Mars/Phobos\]"):
        list(ExampleStream(open_sources([str(tmp_path / "b.parquet")])))
    far = pa.array([2**62 if i == 3 else 0 for i in range(300)], pa.timestamp("us"))
    pq.write_table(made.append_column("far", far), tmp_path / "c.parquet")
    assert sum(isinstance(row, str) for row in read(tmp_path / "c.parquet")) == 1


def test_parquet_columns_of_one_name_are_refused(tmp_path):
    column = pa.array(["x"])
    twice = pa.Table.from_arrays([column, column, column], names=["chosen", "prompt", "chosen"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="more than one column 'chosen'"):
        read(tmp_path / "a.parquet")


LAYOUTS = {
    "hub": ("data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl",
            "data/test-00000-of-00001.jsonl"),
    "files": ("train.jsonl", "more-train.jsonl", "test.jsonl"),
    "folders": ("train/0.jsonl", "train/1.jsonl", "test/0.jsonl"),
    "numbers": ("train-00000.csv", "train_1.csv", "eval-00000.csv"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_of_a_folder_is_the_files_that_are_named_so(layout, tmp_path):
    for number, name in enumerate(LAYOUTS[layout]):
        write(tmp_path / name, (table if name.endswith("csv") else lines)(rows(2, f"f{number}")))
    assert {row["prompt"][:2] for row in read(f"{tmp_path}:train")} == {"f0", "f1"}
    assert {row["prompt"][:2] for row in read(f"{tmp_path}:test")} == {"f2"}
    with pytest.raises(
        DataError, match="no split 'nonsense'; it has test: 1 file, train: 2 files"
    ) as wrong:
        read(f"{tmp_path}:nonsense")
    with pytest.raises(DataError, match="no split 'validation'"):
        read(f"{tmp_path}:validation")
    with pytest.raises(
        DataError, match=rf"several splits.*name one, as {tmp_path}:train"
    ) as caught:
        read(tmp_path)
    everything = str(caught.value).split("all files, as ")[1].strip("'")
    assert len(read(everything)) == 6
    assert f"write '{everything}' for all of it" in str(wrong.value)
    with pytest.raises(DataError, match="no split 'tset'; did you mean 'test'"):
        read(f"{tmp_path}:tset")


def test_all_files_of_several_splits_may_have_several_suffixes(tmp_path):
    write(tmp_path / "train.jsonl", lines(rows(1, "a")))
    write(tmp_path / "test.csv", table(rows(2, "b")))
    (tmp_path / "extra.jsonl.gz").write_bytes(gzip.compress(lines(rows(3, "c")).encode()))
    with pytest.raises(DataError, match="several splits") as caught:
        read(tmp_path)
    everything = yaml.safe_load(str(caught.value).split("all files, as ")[1])
    assert sum(len(read(glob)) for glob in everything) == 6


def test_splits_may_have_longer_names_and_other_words(tmp_path):
    for name in ("train_prefs", "train_sft", "test_prefs"):
        write(tmp_path / f"{name}-00000-of-00001.jsonl", lines(rows(1, name)))
    write(tmp_path / "dev.jsonl", lines(rows(1, "dev")))
    prompts = [row["prompt"] for row in read(f"{tmp_path}:train_prefs")]
    assert prompts == ["train_prefs 0"]
    assert len(read(f"{tmp_path}:train")) == 2
    for name in ("dev", "val", "validation"):
        assert read(f"{tmp_path}:{name}")[0]["prompt"] == "dev 0"


def test_a_split_of_what_has_none_is_refused(tmp_path):
    import datasets

    write(tmp_path / "plain/a.jsonl", lines(rows(1)))
    with pytest.raises(DataError, match="no split 'train'; the names of its files tell of none"):
        read(f"{tmp_path / 'plain'}:train")
    with pytest.raises(DataError, match="is a file, which has no splits"):
        read(f"{tmp_path / 'plain/a.jsonl'}:train")
    datasets.Dataset.from_list(rows(2)).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="one dataset without splits"):
        read(f"{tmp_path / 'saved'}:test")
    assert len(read(tmp_path / "saved")) == 2


def test_of_a_folder_hidden_files_are_not_read_and_other_data_is_named(tmp_path):
    write(tmp_path / "a.jsonl", lines(rows(2)))
    write(tmp_path / ".cache/b.jsonl", lines(rows(2)))
    write(tmp_path / "dataset_infos.json", "{}")
    write(tmp_path / "README.md", "x")
    assert len(read(tmp_path)) == 2 and source_warnings([str(tmp_path)]) == []
    for name in ("b.json", "c.csv", "d.tsv", "e.jsonl.zst", "f.arrow"):
        write(tmp_path / name, "x")
    (tmp_path / "g.jsonl").touch()
    assert len(read(tmp_path)) == 2
    unread, empty = source_warnings([str(tmp_path)])
    assert all(name in unread for name in ("b.json", "c.csv", "d.tsv", "e.jsonl.zst", "f.arrow"))
    assert empty == f"{tmp_path / 'g.jsonl'} is empty"


def test_a_folder_of_one_other_format_is_read(tmp_path):
    write(tmp_path / "x/a.json", json.dumps(rows(2)))
    write(tmp_path / "y/b.CSV", table(rows(2)))
    assert read(tmp_path / "x") == read(tmp_path / "y") == rows(2)
    write(tmp_path / "z/c.tsv", "a\tb")
    with pytest.raises(DataError, match="holds no .jsonl.*but .*c.tsv"):
        read(tmp_path / "z")


def test_what_is_no_regular_file_is_refused_with_standard_input_as_the_way_out(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.jsonl").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s.jsonl"))
    os.symlink("/dev/zero", tmp_path / "zero.jsonl")
    os.symlink("nowhere", tmp_path / "gone.jsonl")
    for name, kind in (("pipe.jsonl", "a pipe"), ("pipe.json", "a pipe"), ("s.jsonl", "a socket"),
                       ("zero.jsonl", "a device")):  # fmt: skip
        with pytest.raises(
            DataError, match=f"{name} is {kind}, not a regular file.*data.train=- <"
        ):
            open_sources([str(tmp_path / name)])
    with pytest.raises(DataError, match="gone.jsonl cannot be read"):
        open_sources([str(tmp_path / "gone.jsonl")])
    with pytest.raises(DataError, match="holds no .jsonl"):
        open_sources([str(tmp_path / "folder.jsonl")])
    with pytest.raises(DataError, match="not a regular file|gone.jsonl cannot be read"):
        open_sources([str(tmp_path)])


@pytest.mark.parametrize("spec", ["", " ", "a" * 5000, "a\0b", "x/" * 3000])
def test_a_text_that_names_nothing_is_one_short_error(spec):
    with pytest.raises(DataError) as caught:
        open_sources([spec])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv", "d.parquet"])
@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced", "goes away"])
def test_a_file_that_changes_while_it_is_read_stops_the_reading(name, change, tmp_path):
    path, made = tmp_path / name, rows(3000)
    if name == "d.parquet":
        pq.write_table(pa.Table.from_pylist(made), path)
    else:
        write(path, {"d.jsonl": lines, "d.json": json.dumps, "d.csv": table}[name](made))
    stream = ExampleStream(open_sources([str(path)]), epochs=2)
    examples = iter(stream)
    for _ in range(1000):
        next(examples)
    if change == "grows":
        with path.open("ab") as file:
            file.write(b"\n")
    elif change == "shrinks":
        os.truncate(path, path.stat().st_size // 2)
    elif change == "is replaced":
        other = write(tmp_path / "other", path.read_bytes())
        os.replace(other, path)
    else:
        path.unlink()
    if (name, change) == ("d.jsonl", "grows"):
        assert sum(1 for _ in examples) == 5000  # What is added is read by the next run.
        return
    with pytest.raises(DataError, match="changed while it was in use|cannot be read"):
        for _ in examples:
            pass
    assert stream.num_consumed <= 1024  # No more than the block that had been read already.


@pytest.mark.parametrize("follow", [True, False])
def test_lines_that_come_between_opening_and_reading_are_no_fault(follow, tmp_path):
    path = write(tmp_path / "d.jsonl", lines(rows(2)))
    (source,) = open_sources([str(path)], follow=follow)
    with path.open("a") as file:
        file.write(lines(rows(1, "q")))
    assert [number for number, _ in source.rows()] == [1, 2]
    assert source.look() and [number for number, _ in source.rows(2)] == [3]


def test_a_last_line_that_goes_on_between_opening_and_reading_is_a_fault(tmp_path):
    path = write(tmp_path / "d.jsonl", lines(rows(2)).rstrip("\n"))
    (source,) = open_sources([str(path)])
    with path.open("a") as file:
        file.write("more\n")
    with pytest.raises(DataError, match="changed while it was in use"):
        list(source.rows())


def test_a_line_end_that_comes_in_two_parts_is_one(tmp_path):
    first, second = lines(rows(2)).encode().splitlines()
    path = write(tmp_path / "d.jsonl", first + b"\r")
    (source,) = open_sources([str(path)], follow=True)
    assert [number for number, _ in source.rows()] == [1]
    with path.open("ab") as file:
        file.write(b"\n" + second + b"\r\n")
    assert source.look() and [number for number, _ in source.rows(1)] == [2]


def test_a_file_that_changes_between_two_epochs_stops_the_reading(tmp_path):
    path = write(tmp_path / "d.jsonl", lines(rows(5)))
    examples = iter(ExampleStream(open_sources([str(path)]), epochs=2))
    assert [next(examples).chosen for _ in range(5)] == [row["chosen"] for row in rows(5)]
    write(path, lines(rows(5, "q")))
    with pytest.raises(DataError, match="changed while it was in use"):
        next(examples)


def test_the_content_of_a_dataset_folder_is_in_its_fingerprint(tmp_path):
    import datasets

    def saved(name, made):
        datasets.Dataset.from_list(made).save_to_disk(str(tmp_path / name / "d"))
        (source,) = open_sources([str(tmp_path / name / "d")])
        return source

    one, other = saved("one", rows(3)), saved("other", rows(3, "q"))
    assert one.fingerprint() != other.fingerprint()
    (again,) = open_sources([str(tmp_path / "one" / "d")])
    before = again.fingerprint()
    assert one.fingerprint() == before
    arrow = next((tmp_path / "one" / "d").glob("*.arrow"))
    raw = bytearray(arrow.read_bytes())
    raw[raw.index(b"good 0")] = ord("G")
    arrow.write_bytes(raw)
    assert one.fingerprint() != before
    with pytest.raises(DataError, match="changed while it was in use"):
        list(one.rows())


def test_the_revision_of_a_hub_dataset_is_in_its_fingerprint(monkeypatch):
    import huggingface_hub

    (source,) = open_sources(["owner/name"])
    assert source.fingerprint() == ["owner/name", "train", None]

    class Api:
        def dataset_info(self, repo, revision, timeout):
            return type("Info", (), {"sha": f"revision of {repo}"})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert source.fingerprint() == ["owner/name", "train", "revision of owner/name"]


def test_what_the_hub_fails_with_is_one_error(monkeypatch):
    import datasets

    class Failing:
        def skip(self, start):
            return self

        def __iter__(self):
            yield rows(1)[0]
            raise RuntimeError("no network\nand more")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Failing())
    with pytest.raises(DataError, match="owner/name:train fails after row 1: no network$"):
        read("owner/name")


def test_bad_lines_of_standard_input_are_as_bad_as_in_a_file(tmp_path):
    text = lines(rows(1)) + '{"a": 1, "a": 2}\r\n\n' + "x" * (bounds.MAX_ROW + 5) + "\n[1]\r{}"
    path = write(tmp_path / "piped", text)
    with path.open("rb") as piped:
        found = list(StandardInput(piped).rows())
    assert [number for number, _ in found] == [1, 2, 4, 5, 6]
    reasons = [row.reason for _, row in found[1:4]]
    assert "occurs twice" in reasons[0] and "longer than" in reasons[1] and "a list" in reasons[2]
    path = write(tmp_path / "d.jsonl", text)
    assert [row for row in read(path)] == [
        row.reason if isinstance(row, Unreadable) else row for _, row in found
    ]
    with path.open("rb") as piped:
        assert sum(1 for _ in lines_or_waiting(piped)) == 6


@pytest.mark.parametrize("half", ["", '{"prompt": "p'])
def test_what_was_kept_of_a_pipe_is_cut_at_its_last_line_and_never_in_memory(half, tmp_path):
    whole = lines(rows(40, "p" * (1 << 20)))
    kept = write(tmp_path / "stdin.jsonl", whole + half)
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        tracemalloc.start()
        assert sum(1 for _ in StandardInput(pipe, kept).rows(38)) == 2
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept.read_text() == whole
    assert peak < len(whole) / 3


def test_a_row_piped_in_behind_half_a_line_that_a_kill_left_is_read(tmp_path):
    kept = write(tmp_path / "stdin.jsonl", lines(rows(2)) + '{"prompt": "p')
    reading, writing = os.pipe()
    os.write(writing, lines(rows(2, "q")).encode())
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = list(StandardInput(pipe, kept).rows(1))
    assert found == [(2, rows(2)[1]), (3, rows(2, "q")[0]), (4, rows(2, "q")[1])]
    assert kept.read_text() == lines(rows(2)) + lines(rows(2, "q"))


def test_a_line_that_arrives_in_pieces_is_one_line():
    text = b"a\r\nbc\rd\n\r\r\nlast"
    for size in range(1, len(text) + 1):
        chunks = [text[i : i + size] for i in range(0, len(text), size)]
        assert list(lines_of(chunks)) == [b"a\r\n", b"bc\r", b"d\n", b"\r", b"\r\n", b"last"]
    splitter = LineSplitter()
    assert list(splitter.feed(b"one\n")) == [b"one\n"]
