"""Tokens per second of sampled answers: fastslow and transformers' `generate`, in turns.

    python -m benchmarks.speed.generation MODEL OUT

Made-up prompts of different lengths are answered under one LoRA module, then under several, each of
which gets a part of the prompts. All answers have the same length. A missing model is created, with
the shape that its folder is named after.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
import typer
from peft import LoraConfig, get_peft_model
from rich.console import Console

from benchmarks.speed.floor import decoding_floor
from benchmarks.speed.made_up import made_up_data
from benchmarks.speed.shapes import learn_tokenizer, make_model
from fastslow.adapters import Modules, load_base
from fastslow.adapters.base import storage_dtype
from fastslow.sampling import generate

LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
SPECIAL = 3
"""Number of first token ids that occur in no prompt."""
PAD = 0
CLOCK = time.perf_counter if torch.cuda.is_available() else time.process_time
"""On a CPU, CPU time is counted, as other work may share the machine."""
Ids = Sequence[Sequence[int]]
Way = Callable[[Ids, int], int]
"""Answers prompts under the module with a number; returns how many tokens it generated."""


def main(
    model: Path = typer.Argument(help="A model's folder."),
    out: Path = typer.Argument(help="Folder of generation.json."),
    precision: str = typer.Option("float32", help="float32 or bfloat16."),
    prompts: int = typer.Option(32, min=1),
    answers: int = typer.Option(4, min=1, help="Answers to each prompt."),
    length: int = typer.Option(
        256, min=4, help="Tokens of the longest prompt; the shortest has half."
    ),
    new: int = typer.Option(128, min=2, help="Tokens of an answer."),
    modules: int = typer.Option(4, min=1, help="Modules in the second comparison."),
    rounds: int = typer.Option(3, min=1, help="Rounds of each system."),
) -> None:
    """Measure, and write generation.json."""
    out.mkdir(parents=True, exist_ok=True)
    _make(model)
    base, other = (load_base(str(model), precision=precision) for _ in range(2))
    asked = made_up_prompts(base.config.vocab_size, count=prompts, longest=length)
    ways = {
        "fastslow": ours(base, answers=answers, new=new, modules=modules),
        "transformers": theirs(other, answers=answers, new=new, modules=modules),
    }
    results: dict[str, Any] = {
        "model": model.name,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "prompts": prompts,
        "prompt tokens": sum(map(len, asked)) / prompts,
        "answers": answers,
        "new tokens": new,
    }
    for count in dict.fromkeys((1, modules)):
        results[f"{count} modules"] = in_turns(ways, asked, count, rounds=rounds)
    lengths, dtype = [*map(len, asked)], storage_dtype(precision)
    size: dict[str, Any] = {"answers": answers, "new": new, "dtype": dtype}
    seconds = decoding_floor(base.config, lengths, **size, clock=CLOCK)
    pace = prompts * answers * new / sum(seconds.values())
    results["lower bound"] = {"s": seconds, "tokens per s": pace}
    (out / "generation.json").write_text(json.dumps(results, indent=1) + "\n")
    Console().print_json(data=results)


def in_turns(
    ways: dict[str, Way],
    asked: Ids,
    modules: int = 1,
    *,
    rounds: int,
    tell: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Tokens per second of each way, and how the first compares with the others by round; `tell` is
    called with the same after every round."""
    results: dict[str, Any] = {}
    paces: dict[str, list[float]] = {name: [] for name in ways}
    parts = [asked[number::modules] for number in range(modules)]
    for way in ways.values():
        way(asked if torch.cuda.is_available() else asked[:1], 0)
    for _ in range(rounds):
        for name, way in ways.items():
            began = CLOCK()
            tokens = sum(way(part, number) for number, part in enumerate(parts))
            paces[name].append(tokens / (CLOCK() - began))
        results = _compared(paces)
        tell(results)
    return results


def _compared(paces: dict[str, list[float]]) -> dict[str, Any]:
    first, *others = paces
    comparison: dict[str, Any] = {
        "tokens per s": {name: median(values) for name, values in paces.items()}
    }
    for name in others:
        ratios = [a / b for a, b in zip(paces[first], paces[name], strict=True)]
        spread = {"median": median(ratios), "least": min(ratios), "most": max(ratios)}
        comparison[f"{first} to {name}"] = spread
    return comparison


def ours(base: Any, *, answers: int, new: int, modules: int = 1) -> Way:
    """Answers from fastslow."""
    names = tuple(f"module{number}" for number in range(modules))
    own = Modules.attach(base, names, rank=LORA["r"], alpha=LORA["lora_alpha"])

    def answer(prompts: Ids, number: int) -> int:
        with own.using(names[number]):
            groups = generate(
                own.causal_lm,
                prompts,
                end_ids=[],
                pad_id=PAD,
                max_new_tokens=new,
                seed=0,
                num_generations=answers,
            )
        return sum(len(completion.tokens) for group in groups for completion in group)

    return answer


def theirs(base: Any, *, answers: int, new: int, modules: int = 1) -> Way:
    """Answers from transformers with PEFT's own layers."""
    names = [f"module{number}" for number in range(modules)]
    base.generation_config.eos_token_id = None
    model = get_peft_model(base, LoraConfig(**LORA), adapter_name=names[0]).eval()
    for name in names[1:]:
        model.add_adapter(name, LoraConfig(**LORA))

    def answer(prompts: Ids, number: int) -> int:
        model.set_adapter(names[number])
        width = max(map(len, prompts))
        ids = torch.tensor([[PAD] * (width - len(prompt)) + [*prompt] for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.no_grad():
            rows = model.generate(
                input_ids=ids.to(base.device),
                attention_mask=mask.to(base.device),
                do_sample=True,
                top_k=0,
                max_new_tokens=new,
                num_return_sequences=answers,
                pad_token_id=PAD,
            )
        return int(rows[:, width:].numel())

    return answer


def made_up_prompts(vocabulary: int, *, count: int, longest: int) -> list[list[int]]:
    """Prompts of random tokens, with lengths evenly from half of `longest` to `longest`."""
    draw = random.Random(0)
    lengths = [longest - longest // 2 * place // max(1, count - 1) for place in range(count)]
    draw.shuffle(lengths)
    return [[draw.randrange(SPECIAL, vocabulary) for _ in range(length)] for length in lengths]


def _make(model: Path) -> None:
    if not model.exists():
        with TemporaryDirectory() as folder:
            data = made_up_data(Path(folder), length=64, pairs=8)
            make_model(model.name, lambda: learn_tokenizer(data), model, dtype=torch.float32)


if __name__ == "__main__":
    typer.run(main)
