"""The candidates of a search: different instructions, each with an embedding."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastslow.atomic_io import new_folder, write_rows, write_text
from fastslow.errors import DataError, StateError
from fastslow.foreign_files import misfit, read_json, read_log
from fastslow.streams import Unreadable, open_sources


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates."""

    instructions: list[str]
    embeddings: Tensor
    """[N, d], float64."""
    cost: dict[str, int]
    """Of writing them, as of a black box, and what was discarded; empty where they were given."""

    def write(self, folder: Path) -> None:
        """Write the pool as a folder that is whole or not there."""
        with new_folder(folder) as draft:
            rows = [{"instruction": text} for text in self.instructions]
            write_rows(draft / "instructions.jsonl", rows, private=True)
            write_text(draft / "cost.json", json.dumps(self.cost) + "\n")
            save_file(
                {"embeddings": self.embeddings.contiguous()}, draft / "embeddings.safetensors"
            )

    @classmethod
    def read(cls, folder: Path) -> "Pool":
        """The pool that `write` wrote. Raises StateError where it is damaged."""
        texts = []
        for number, row in read_log(path := folder / "instructions.jsonl"):
            if fault := misfit(row, dict[str, str]) or ("instruction" not in row and "no text"):
                raise StateError(f"{path}:{number}: {fault}; remove the run folder to start over")
            texts.append(row["instruction"])
        try:
            embeddings = load_file(folder / "embeddings.safetensors")["embeddings"]
        except Exception as error:
            raise StateError(f"{folder} cannot be read: {error}; remove it to start over") from None
        cost = read_json(folder / "cost.json", dict[str, int])
        if len(texts) != len(embeddings):
            raise StateError(
                f"{folder} has {len(texts)} instructions and {len(embeddings)} embeddings; remove "
                "the run folder to start over"
            )
        return cls(texts, embeddings, cost)


def read_candidates(file: str) -> tuple[list[str], Tensor | None]:
    """The different instructions in a file, in order, and their embeddings where it has them.

    Raises DataError where it cannot be read, or for a row that is not as the others.
    """
    if Path(file).suffix == ".txt":
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"prompts.candidates: {file} cannot be read: {error}") from None
        rows: dict[str, Any] = {line.strip(): None for line in lines if line.strip()}
    else:
        rows = {}
        for number, row in ((n, row) for s in open_sources([file]) for n, row in s.rows()):
            text, embedding = _candidate(row, where=f"{file}:{number}")
            rows.setdefault(text, embedding)
    if len(rows) < 2:
        raise DataError(
            f"prompts.candidates: {file} has {len(rows)} different instructions; give at least 2"
        )
    sizes = {None if embedding is None else len(embedding) for embedding in rows.values()}
    if len(sizes) > 1:
        raise DataError(
            f"prompts.candidates: {file} has embeddings of different lengths, or in some rows "
            "only; give one of the same length in every row, or in none"
        )
    known = None if None in sizes else torch.tensor(list(rows.values()), dtype=torch.float64)
    return list(rows), known


def _candidate(row: Any, *, where: str) -> tuple[str, list[float] | None]:
    if isinstance(row, Unreadable):
        raise DataError(f"{where}: {row.reason}")
    text, embedding = row.get("instruction"), row.get("embedding")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: 'instruction' must be text that is not empty")
    if embedding is not None and (misfit(embedding, list[float]) or not embedding):
        raise DataError(f"{where}: 'embedding' must be a list of numbers")
    return text.strip(), embedding


def embed_all(
    states: Iterable[Tensor],
    count: int,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool],
) -> Tensor | None:
    """The embeddings as one matrix; None if embedding was stopped."""
    rows = []
    for row in states:
        if stopped():
            return None
        rows.append(row)
        progress(len(rows), count)
    return torch.stack(rows)
