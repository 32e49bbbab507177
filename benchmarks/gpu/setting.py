"""Models, pairs and run settings shared by all parts of the benchmark."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks.speed.made_up import made_up_pairs
from benchmarks.speed.pairs import Chosen
from benchmarks.speed.shapes import make_model
from benchmarks.speed.turns import PLAIN, Comparison
from fastslow.scoring import Tree

VOCABULARIES = {"tiny": 512, "0.5b": 151_936, "1.5b": 151_936, "8b": 128_256}
"""Qwen2.5's (the shapes 0.5b and 1.5b have its sizes) and Llama 3's."""
PAIRS = {"tiny": 2, "0.5b": 16, "1.5b": 8, "8b": 2}
"""Pairs of SHORT tokens in a step; fewer longer ones, for the same number of tokens."""
SHORT = 1024
METHODS: dict[str, dict[str, Any]] = {"dpo": PLAIN, "ofs-dpo": {}}


@dataclass(frozen=True)
class Setting:
    """Folders, and what is compared."""

    out: Path
    """Folder of the results."""
    scratch: Path
    """Folder of models, pairs and runs, which may be deleted."""
    precision: str
    """Precision of models and runs, as in recipes."""
    systems: tuple[str, ...]
    """Names from benchmarks.speed."""
    rounds: int
    """Blocks of each system, after a warm-up block."""
    steps: int
    """Optimiser steps in a block."""

    @cached_property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    def as_json(self) -> str:
        """JSON for the process of a part."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Setting":
        """The setting that `as_json` wrote."""
        raw = json.loads(text)
        paths = {name: Path(raw[name]) for name in ("out", "scratch")}
        return cls(**raw | paths | {"systems": tuple(raw["systems"])})

    def batch_size(self, shape: str, length: int) -> int:
        """Pairs in a step."""
        return max(1, min(PAIRS[shape], PAIRS[shape] * SHORT // length))

    def model(self, shape: str) -> Path:
        """The folder of a model of a shape, made once."""
        folder = self.scratch / f"model-{shape}"
        words = partial(AutoTokenizer.from_pretrained, self._words)
        make_model(shape, words, folder, dtype=self.dtype, vocabulary=VOCABULARIES[shape])
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # The model was created there.
        return folder

    def pairs(self, shape: str, length: int, *, steps: int = 1) -> Chosen:
        """Made-up pairs of a length, enough for `steps` steps."""
        count = steps * self.batch_size(shape, length)
        folder = self.scratch / f"pairs-{length}-{count}"
        return made_up_pairs(folder, length=length, count=count)

    def comparison(self, shape: str, length: int) -> Comparison:
        """The comparison that benchmarks.speed runs."""
        out = self.scratch / f"speed-{shape}-{length}"
        out.mkdir(parents=True, exist_ok=True)
        pairs, size = self.pairs(shape, length, steps=self.steps), self.batch_size(shape, length)
        return Comparison(self.model(shape), pairs, out, size, length, self.precision)

    def run(self, shape: str, length: int, method: str, **train: Any) -> dict[str, Any]:
        """Settings for `raw_recipe` of benchmarks.speed."""
        name = "-".join(["run", shape, str(length), method, *map(str, train.values())])
        return {
            "model": str(self.model(shape)),
            "data": str(self.pairs(shape, length).file),
            "out": str(self.scratch / name),
            "max_length": length,
            "batch_size": self.batch_size(shape, length),
            "precision": self.precision,
            "sections": METHODS[method],
            "train": train,
        }

    @cached_property
    def _words(self) -> Path:
        return self.pairs("tiny", 64).file.parent


def trees_of(pairs: Chosen) -> list[Tree]:
    """The pairs' tokens."""
    tokenizer, trees = AutoTokenizer.from_pretrained(pairs.file.parent), []
    for row in map(json.loads, pairs.file.read_text(encoding="utf-8").splitlines()):
        ids = partial(tokenizer.apply_chat_template, return_dict=False)
        prompt = ids(row["prompt"], add_generation_prompt=True)
        conversations = [ids(row["prompt"] + row[side]) for side in ("chosen", "rejected")]
        trees.append(
            Tree(
                tuple(prompt),
                tuple(tuple(conversation[len(prompt) :]) for conversation in conversations),
            )
        )
    return trees
