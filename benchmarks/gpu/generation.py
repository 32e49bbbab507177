"""Tokens a second of sampled answers, by fastslow and by transformers' `generate`."""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.clock import seconds
from benchmarks.gpu.schedule import Tell
from benchmarks.gpu.setting import Setting
from fastslow.adapters import Modules, load_base
from fastslow.sampling import generate

PROMPTS, ANSWERS = 32, 4
PROMPT_TOKENS, NEW_TOKENS = 256, 128
ROUNDS = 2
SMALL = 8
"""By so much the tokens are fewer on a CPU, which tries the code and measures nothing."""


def measure(setting: Setting, shape: str, tell: Tell) -> dict[str, Any]:
    """Tokens a second in turns, of the same prompts with the same module on."""
    base = load_base(str(setting.model(shape)), precision=setting.precision, device=setting.device)
    modules = Modules.attach(base, ("fast",), rank=16, alpha=32)
    less = 1 if setting.device.type == "cuda" else SMALL
    draw = torch.Generator().manual_seed(0)
    size = PROMPTS // less, PROMPT_TOKENS // less
    prompts = torch.randint(3, base.config.vocab_size, size, generator=draw)
    new = NEW_TOKENS // less
    ways: dict[str, Callable[[], int]] = {
        "fastslow": lambda: _ours(modules, prompts, new),
        "transformers": lambda: _theirs(modules, prompts, new),
    }
    found: dict[str, Any] = {"prompts": size[0], "answers": ANSWERS, "new tokens": new}
    paces: dict[str, list[float]] = {name: [] for name in ways}
    with modules.using("fast"):
        for number in range(1 + ROUNDS):
            for name, way in ways.items():
                made: list[int] = []
                took = seconds(lambda way=way, made=made: made.append(way()), times=1, warm=0)
                if number:
                    paces[name].append(made[0] / took)
                    found["tokens per s"] = {n: median(own) for n, own in paces.items() if own}
                    tell(found)
    return found


def _ours(modules: Modules, prompts: Tensor, new: int) -> int:
    model = modules.causal_lm
    answers = generate(
        model,
        prompts.tolist(),
        end_ids=[model.config.eos_token_id],
        pad_id=0,
        max_new_tokens=new,
        seed=0,
        num_generations=ANSWERS,
    )
    return sum(len(one.tokens) for several in answers for one in several)


def _theirs(modules: Modules, prompts: Tensor, new: int) -> int:
    model = modules.causal_lm
    with torch.no_grad():
        rows = model.generate(
            input_ids=prompts.to(model.device),
            attention_mask=torch.ones_like(prompts).to(model.device),
            do_sample=True,
            top_k=0,
            max_new_tokens=new,
            num_return_sequences=ANSWERS,
            pad_token_id=0,
        )
    answers = rows[:, prompts.shape[1] :]
    ended = (answers == model.config.eos_token_id).cumsum(1) > 0
    return int((~ended).sum() + ended.any(1).sum())
