"""Tokens per second of sampled answers: fastslow and transformers' `generate`."""

from functools import partial
from typing import Any

from benchmarks.gpu.schedule import Tell
from benchmarks.gpu.setting import Setting
from benchmarks.speed.generation import in_turns, made_up_prompts, ours, theirs
from fastslow.adapters import load_base

PROMPTS, ANSWERS = 32, 4
PROMPT_TOKENS, NEW_TOKENS = 256, 128
ROUNDS = 2
SMALL = 8
"""Factor by which tokens are reduced on a CPU, which only tests the code."""


def measure(setting: Setting, shape: str, tell: Tell) -> dict[str, Any]:
    """Tokens per second, in turns, on the same prompts under a module of the same size."""
    load = partial(
        load_base, str(setting.model(shape)), precision=setting.precision, device=setting.device
    )
    base, other = load(), load()
    divisor = 1 if setting.device.type == "cuda" else SMALL
    count, new = PROMPTS // divisor, NEW_TOKENS // divisor
    asked = made_up_prompts(base.config.vocab_size, count=count, longest=PROMPT_TOKENS // divisor)
    ways = {
        "fastslow": ours(base, answers=ANSWERS, new=new),
        "transformers": theirs(other, answers=ANSWERS, new=new),
    }
    setup = {"prompts": count, "answers": ANSWERS, "new tokens": new}
    return setup | in_turns(ways, asked, rounds=ROUNDS, tell=lambda found: tell(setup | found))
