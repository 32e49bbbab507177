"""One pass over many made-up pairs: does memory stay constant?

    python -m benchmarks.speed.stream MODEL OUT --pairs 1000000

The model is tiny, with random weights and MODEL's tokenizer, since reading is what could grow. The
process's memory is recorded throughout.
"""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import psutil
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

import fastslow
from benchmarks.speed.made_up import text

BATCH = 256


def main(model: Path, out: Path, pairs: int = typer.Option(1_000_000, min=10 * BATCH)) -> None:
    """Train, and write stream.json."""
    shutil.rmtree(out / "run", ignore_errors=True)
    tiny, file = out / "tiny", out / "pairs.jsonl"
    make_tiny(model, tiny)
    draw = random.Random(0)
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(pairs):
            stream.write(json.dumps(pair(draw)) + "\n")
    samples: list[tuple[int, int]] = []
    every = max(1, pairs // BATCH // 50)

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] % every == 0:
            samples.append((event["pairs_seen"], psutil.Process().memory_info().rss))
            print(f"{event['pairs_seen']} pairs: {samples[-1][1] / 1e6:.0f} MB", flush=True)

    summary = fastslow.train(
        {
            "model": str(tiny),
            "output_dir": str(out / "run"),
            "data": {"train": str(file), "max_length": 64, "template": "plain"},
            "lora": {"rank": 2, "alpha": 4},
            "train": {"batch_size": BATCH},
            "checkpoint": {"every": 200},
        },
        listener=hear,
    )
    from_a_tenth = [held for seen, held in samples if seen >= pairs / 10]
    result = {
        "pairs": summary.pairs_seen,
        "seconds": summary.wall_s,
        "bytes at a tenth": from_a_tenth[0],
        "most bytes after": max(from_a_tenth),
        "bytes at the end": from_a_tenth[-1],
        "noted": samples,
    }
    (out / "stream.json").write_text(json.dumps(result) + "\n")
    print({key: value for key, value in result.items() if key != "noted"})


def pair(draw: random.Random) -> dict[str, str]:
    """A unique row."""
    prompt, chosen, rejected = (text(draw, count) for count in (6, 4, 4))
    return {"prompt": f"{prompt} {draw.random()}", "chosen": chosen, "rejected": rejected}


def make_tiny(model: Path, to: Path) -> None:
    """A model that costs almost nothing."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(to)
    tokenizer.save_pretrained(to)


if __name__ == "__main__":
    typer.run(main)
