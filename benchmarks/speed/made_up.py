"""Made-up pairs of given lengths in tokens: the cost of a step depends on lengths, not on words.

The tokenizer is learned from a few words, so that each is one token together with its space.
"""

import gzip
import json
import random
from pathlib import Path

from benchmarks.speed.pairs import Chosen, choose_pairs
from benchmarks.speed.shapes import learn_tokenizer

WORDS = "red green blue one two three river garden letter window song market".split()
FRAME = 8
"""Most tokens that the chat template adds around a prompt and an answer."""


def text(draw: random.Random, words: int) -> str:
    """Random words, as many as asked for."""
    return " ".join(draw.choices(WORDS, k=words))


def made_up_data(folder: Path, *, length: int, pairs: int) -> Path:
    """A domain's folder, with prompts of half the length and answers of a quarter to a half."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(length)
    half = (length - FRAME) // 2
    with gzip.open(folder / "train.jsonl.gz", "wt", encoding="utf-8") as file:
        for _ in range(pairs):
            row = {"prompt": text(draw, half)}
            for side in ("chosen", "rejected"):
                row[side] = text(draw, draw.randint(half // 2, half))
            file.write(json.dumps(row) + "\n")
    return folder


def made_up_pairs(folder: Path, *, length: int, count: int) -> Chosen:
    """Pairs in a folder, chosen as in `benchmarks.speed`, with the tokenizer beside them."""
    data = made_up_data(folder, length=length, pairs=count)
    tokenizer = learn_tokenizer(data)
    tokenizer.save_pretrained(folder)
    return choose_pairs(data, tokenizer, folder / "pairs.jsonl", count=count, max_length=length)
