"""Cost of a step by the number of responses to a prompt and their length.

    python -m benchmarks.speed.scaling MODEL OUT

OFS-DPO steps on ranked lists of made-up words. The sizes are measured in turns.
"""

import json
import math
import random
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import typer

import fastslow
from benchmarks.speed.made_up import text
from fastslow.adapters import load_tokenizer
from fastslow.config import Recipe, load_recipe
from fastslow.training.build import make_encoder
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.dataset import objective_of, train_stream

BY_RESPONSES = [(responses, 32) for responses in (2, 4, 8, 16)]
BY_LENGTH = [(2, words) for words in (16, 32, 64, 128, 256)]
"""Responses to a prompt, and words in each."""
PROMPT_WORDS, EXAMPLES = 32, 4


def main(model: Path, out: Path, rounds: int = typer.Option(5, min=1)) -> None:
    """Measure in turns, and write scaling.json."""
    sizes = list(dict.fromkeys([*BY_RESPONSES, *BY_LENGTH]))
    tokens: dict[tuple[int, int], int] = {}
    seconds: dict[tuple[int, int], list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            with TemporaryDirectory() as folder:
                recipe = recipe_for(model, Path(folder), *size)
                tokens[size] = tokens_of(recipe)
                seconds[size].append(step_seconds(recipe))
    rows = [
        {
            "responses": size[0],
            "words": size[1],
            "tokens": tokens[size],
            "ms": 1000 * median(seconds[size]),
            "us_per_token": 1e6 * median(seconds[size]) / tokens[size],
        }
        for size in sizes
    ]
    growth = {
        name: exponent([row for row in rows if (row["responses"], row["words"]) in chosen])
        for name, chosen in (("responses", BY_RESPONSES), ("length", BY_LENGTH))
    }
    result = {"model": model.name, "rows": rows, "time ~ tokens ^": growth}
    out.mkdir(parents=True, exist_ok=True)
    (out / "scaling.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def recipe_for(model: Path, folder: Path, responses: int, words: int) -> Recipe:
    """A run over a handful of ranked lists of one size."""
    draw = random.Random(f"{responses}/{words}")

    rows: list[dict[str, Any]] = [
        {
            "prompt": text(draw, PROMPT_WORDS),
            "completions": [text(draw, words) for _ in range(responses)],
            "ranks": list(range(1, responses + 1)),
        }
        for _ in range(EXAMPLES)
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    raw = {
        "model": str(model),
        "output_dir": str(folder / "run"),
        "data": {"train": str(file), "max_length": 1024},
        "objective": {"name": "plackett_luce"},
        "train": {"batch_size": EXAMPLES, "epochs": 10_000, "max_steps": 7},
    }
    return load_recipe(raw, [])


def tokens_of(recipe: Recipe) -> int:
    """Tokens that a step scores."""
    encoder = make_encoder(recipe, load_tokenizer(recipe.model))
    reader = BatchReader(
        train_stream(recipe), encoder, objective_of(recipe), batch_size=recipe.train.batch_size
    )
    return sum(item.tree.num_tokens for item in next(iter(reader)))


def step_seconds(recipe: Recipe) -> float:
    """Median seconds of a step, without the first two."""
    paces: list[float] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            paces.append(event["pairs_per_s"])

    fastslow.train(recipe, listener=hear)
    return EXAMPLES / median(paces[2:])


def exponent(rows: list[dict[str, Any]]) -> float:
    """Slope of log time over log tokens, least squares: 1 is linear."""
    points = [(math.log(row["tokens"]), math.log(row["ms"])) for row in rows]
    x, y = (sum(column) / len(points) for column in zip(*points, strict=True))
    slope = sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
    return round(slope, 3)


if __name__ == "__main__":
    typer.run(main)
