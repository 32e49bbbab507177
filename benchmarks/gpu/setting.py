"""What all parts of the benchmark measure on: models, pairs, settings of runs."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.speed.__main__ import PLAIN
from benchmarks.speed.pairs import Chosen, choose_pairs
from benchmarks.speed.shapes import make_model
from fastslow.scoring import Tree

VOCABULARY = 151_936
"""Qwen2.5's, whose sizes the shapes 0.5b and 1.5b have."""
METHODS = {"dpo": PLAIN, "ofs-dpo": {}}


@dataclass(frozen=True)
class Setting:
    """Where things are and how large a step is."""

    out: Path
    data: Path
    tokenizer: Path
    vocabulary: int
    batch_size: int
    max_length: int
    precision: str
    """Of models and runs, as in recipes."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def model(self, shape: str) -> Path:
        """The folder of a model of a shape, made once."""
        tokenizer = partial(AutoTokenizer.from_pretrained, self.tokenizer)
        folder = self.out / f"model-{shape}"
        return make_model(shape, tokenizer, folder, dtype=self.dtype, vocabulary=self.vocabulary)

    def pairs(self, count: int) -> Chosen:
        """A file of so many pairs."""
        tokenizer = AutoTokenizer.from_pretrained(self.tokenizer)
        file = self.out / f"pairs-{count}.jsonl"
        return choose_pairs(self.data, tokenizer, file, count=count, max_length=self.max_length)

    def run(self, shape: str, method: str, pairs: Chosen, **train: Any) -> dict[str, Any]:
        """What `raw_recipe` of benchmarks.speed makes a recipe of."""
        name = "-".join(["run", shape, method, *map(str, train.values())])
        return {
            "model": str(self.model(shape)),
            "data": str(pairs.file),
            "out": str(self.out / name),
            "max_length": self.max_length,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "sections": METHODS[method],
            "train": train,
        }


def trees_of(pairs: Chosen, tokenizer: Any) -> list[Tree]:
    """The pairs' tokens."""
    trees = []
    for row in map(json.loads, pairs.file.read_text(encoding="utf-8").splitlines()):
        ids = partial(tokenizer.apply_chat_template, return_dict=False)
        prompt = ids(row["prompt"], add_generation_prompt=True)
        whole = [ids(row["prompt"] + row[side]) for side in ("chosen", "rejected")]
        trees.append(Tree(tuple(prompt), tuple(tuple(own[len(prompt) :]) for own in whole)))
    return trees
