"""Pools of candidates: read from files, kept on disk."""

import json

import pytest
import torch

from fastslow.errors import DataError, StateError
from fastslow.prompts.pool import Pool, read_candidates


def test_lines_of_a_text_file_are_candidates_once_each(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("Be kind.\n\n  Be brief. \nBe kind.\n")
    assert read_candidates(str(file)) == (["Be kind.", "Be brief."], None)
    file.write_bytes("\ufeffBe kind.\r\nBe\x0bbrief\u2028now.".encode())
    assert read_candidates(str(file)) == (["Be kind.", "Be\x0bbrief\u2028now."], None)
    file.write_text("Be kind.\nBe kind.\n")
    with pytest.raises(DataError, match="has 1 different instructions; give at least 2"):
        read_candidates(str(file))
    with pytest.raises(DataError, match="cannot be read"):
        read_candidates(str(tmp_path / "none.txt"))


def test_rows_may_bring_embeddings_of_any_embedder(tmp_path):
    file = tmp_path / "list.jsonl"
    rows = [{"instruction": "a", "embedding": [1, 2.5]}, {"instruction": "b", "embedding": [0, 1]}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts, embeddings = read_candidates(str(file))
    assert texts == ["a", "b"] and embeddings.tolist() == [[1, 2.5], [0, 1]]
    assert embeddings.dtype == torch.float64


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"instruction": "b"}, "in some rows only"),
        ({"instruction": "b", "embedding": [1.0]}, "different lengths"),
        ({"instruction": "b", "embedding": "1 2"}, "list.jsonl:2: 'embedding' must be a list"),
        ({"instruction": "b", "embedding": []}, "list.jsonl:2: 'embedding' must be a list"),
        ({"instruction": " "}, "list.jsonl:2: 'instruction' must be text"),
        ({"prompt": "b"}, "list.jsonl:2: 'instruction' must be text"),
    ],
)
def test_a_row_that_is_not_as_the_others_is_named(tmp_path, second, message):
    file = tmp_path / "list.jsonl"
    rows = [{"instruction": "a", "embedding": [1.0, 2.0]}, second]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=message):
        read_candidates(str(file))


def test_a_pool_is_on_disk_as_it_was_and_damage_is_named(tmp_path):
    pool = Pool(["a", "b"], torch.rand(2, 3, dtype=torch.float64), {"calls": 4})
    pool.write(tmp_path / "pool")
    again = Pool.read(tmp_path / "pool")
    assert again.instructions == ["a", "b"] and again.cost == {"calls": 4}
    assert torch.equal(again.embeddings, pool.embeddings)
    (tmp_path / "pool" / "instructions.jsonl").write_text('{"instruction": "a"}\n')
    with pytest.raises(StateError, match="1 instructions and 2 embeddings"):
        Pool.read(tmp_path / "pool")
    (tmp_path / "pool" / "embeddings.safetensors").write_bytes(b"no")
    with pytest.raises(StateError, match="cannot be read"):
        Pool.read(tmp_path / "pool")
