"""Tokens a second of sampled answers, by fastslow and by transformers' `generate`."""

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
"""By so much the tokens are fewer on a CPU, which tries the code and measures nothing."""


def measure(setting: Setting, shape: str, tell: Tell) -> dict[str, Any]:
    """Tokens a second in turns, of the same prompts under a module of the same size."""
    load = partial(
        load_base, str(setting.model(shape)), precision=setting.precision, device=setting.device
    )
    base, other = load(), load()
    less = 1 if setting.device.type == "cuda" else SMALL
    count, new = PROMPTS // less, NEW_TOKENS // less
    asked = made_up_prompts(base.config.vocab_size, count=count, longest=PROMPT_TOKENS // less)
    ways = {
        "fastslow": ours(base, answers=ANSWERS, new=new),
        "transformers": theirs(other, answers=ANSWERS, new=new),
    }
    setup = {"prompts": count, "answers": ANSWERS, "new tokens": new}
    return setup | in_turns(ways, asked, rounds=ROUNDS, tell=lambda found: tell(setup | found))
