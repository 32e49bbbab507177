"""The pairs that every system learns from; none of them is truncated."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.shapes import rows_of


@dataclass(frozen=True)
class Chosen:
    """A file of pairs in chat form, and their lengths in tokens."""

    file: Path
    prompt_tokens: list[int]
    response_tokens: list[tuple[int, int]]

    @property
    def tokens(self) -> int:
        """Tokens of all pairs, each prompt once."""
        return sum(self.prompt_tokens) + sum(map(sum, self.response_tokens))


def choose_pairs(data: Path, tokenizer: Any, to: Path, *, count: int, max_length: int) -> Chosen:
    """`count` pairs whose prompt and longer response fit, evenly spread over the first 8 * `count`.

    Systems truncate in different ways; pairs that fit are the same for all.
    """
    fitting = []
    for row in rows_of(data):
        chat = _chat(row)
        count_of = partial(_tokens, tokenizer)
        prompt = count_of(chat["prompt"], add_generation_prompt=True)
        responses = tuple(
            count_of(chat["prompt"] + chat[side]) - prompt for side in ("chosen", "rejected")
        )
        if prompt + max(responses) <= max_length:
            fitting.append((chat, prompt, responses))
        if len(fitting) == 8 * count:
            break
    step = max(1, len(fitting) // count)
    kept = fitting[::step][:count]
    if len(kept) < count:
        raise SystemExit(f"{data}: only {len(kept)} pairs fit in {max_length} tokens")
    to.write_text("".join(json.dumps(chat) + "\n" for chat, _, _ in kept), encoding="utf-8")
    return Chosen(to, [prompt for _, prompt, _ in kept], [own for _, _, own in kept])


def _tokens(tokenizer: Any, turns: list[dict[str, str]], **settings: Any) -> int:
    return len(tokenizer.apply_chat_template(turns, return_dict=False, **settings))


def _chat(row: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    prompt = row["prompt"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    sides = {s: [{"role": "assistant", "content": row[s]}] for s in ("chosen", "rejected")}
    return {"prompt": turns, **sides}
