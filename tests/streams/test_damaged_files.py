"""Random damage to files of every format: an error of ours, or rows that resume, never a loss."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastslow.errors import DataError
from fastslow.streams import ExampleStream, Unreadable, open_sources

COUNT = 40
NAMES = ("d.jsonl", "d.jsonl.gz", "d.json", "d.csv", "d.parquet")
BYTES = [
    b"\n",
    b"\r",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"a",
]


def made(draw):
    letters = 'ab ,;"\\\n{}[]é\U0001f600'
    return [
        {
            key: f"{n} " + "".join(draw.choice(letters) for _ in range(draw.randint(1, 30)))
            for key in ("prompt", "chosen", "rejected")
        }
        for n in range(COUNT)
    ]


def written(path, rows):
    if path.name == "d.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=16)
        return
    if path.name == "d.csv":
        cells = [[key for key in rows[0]], *(list(row.values()) for row in rows)]
        text = "".join(
            ",".join('"' + cell.replace('"', '""') + '"' for cell in line) + "\n" for line in cells
        )
    elif path.name == "d.json":
        text = json.dumps(rows, ensure_ascii=False)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)


def damaged(raw, draw):
    raw = bytearray(raw)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        place = draw.randrange(len(raw))
        kind = draw.choice(["flip", "insert", "remove", "cut"])
        if kind == "flip":
            raw[place] = draw.randrange(256)
        elif kind == "insert":
            raw[place:place] = draw.choice(BYTES)
        elif kind == "remove":
            del raw[place : place + draw.randint(1, 40)]
        else:
            del raw[place:]
        raw = raw or bytearray(b"x")
    return bytes(raw)


def numbered(path, start=0):
    return [
        (number, row.reason if isinstance(row, Unreadable) else row)
        for source in open_sources([str(path)])
        for number, row in source.rows(start)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_damage_is_refused_or_counted_and_what_is_read_resumes(name, tmp_path):
    outcomes = {"refused": 0, "read": 0}
    for seed in range(400):
        draw = random.Random(f"{name}/{seed}")
        path = tmp_path / name
        written(path, made(draw))
        path.write_bytes(damaged(path.read_bytes(), draw))
        try:
            whole = numbered(path)
            stream = ExampleStream(open_sources([str(path)]), max_bad_fraction=1.0)
            assert (
                sum(1 for _ in stream) + stream.counts.invalid == len(whole) == stream.counts.read
            )
            start = draw.randint(0, COUNT)
            assert numbered(path, start) == [item for item in whole if item[0] > start]
        except DataError as error:
            outcomes["refused"] += 1
            assert len(str(error)) < 2000
        else:
            outcomes["read"] += 1
    assert outcomes["refused"] and (outcomes["read"] or name.endswith(".gz"))


@pytest.mark.slow
def test_one_damaged_line_costs_no_other(tmp_path):
    for seed in range(400):
        draw = random.Random(f"line/{seed}")
        rows = made(draw)
        lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
        hurt = draw.randrange(COUNT - 1)
        line = damaged(lines[hurt], draw).replace(b"\n", b" ").replace(b"\r", b" ") or b"x"
        path = tmp_path / "d.jsonl"
        path.write_bytes(b"\n".join([*lines[:hurt], line, *lines[hurt + 1 :]]))
        found = dict(numbered(path))
        others = [found[n + 1] for n in range(COUNT) if n != hurt]
        assert others == rows[:hurt] + rows[hurt + 1 :]
        assert hurt + 1 in found or not line.strip()
