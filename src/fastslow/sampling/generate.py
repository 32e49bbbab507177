"""Batched sampling from the active adapter, with a key-value cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled completion."""

    tokens: tuple[int, ...]
    """Up to and including the end-of-turn token, where it came."""
    truncated: bool
    """Whether it was cut by the length limit."""


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    end_ids: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
    seed: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    num_generations: int = 1,
    in_step: bool = False,
) -> list[list[Completion]]:
    """`num_generations` answers to each prompt, in order. The same seed gives the same answers.

    A prompt is prefilled once for all its answers. With temperature 1 and top_p 1 they are samples
    of the policy itself, independent of the generation settings in the model folder; temperature 0
    is greedy. `in_step` means that other processes sample at the same time, and that all must make
    the same number of forward passes.
    """
    width = max(2, *(len(prompt) for prompt in prompts))
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[pad_id] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    settings = GenerationConfig(
        do_sample=temperature > 0,
        max_new_tokens=max_new_tokens,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(end_ids),
        pad_token_id=pad_id,
        use_cache=True,
        **sampling,
    )
    cuda = [device] if device.type == "cuda" else []
    asked = {"input_ids": ids, "attention_mask": mask}
    shared = _read_once(model, ids, mask, num_generations)
    asked = {name: values.repeat_interleave(num_generations, 0) for name, values in asked.items()}
    # Unset fields of `settings` would be filled from the model folder's generation settings.
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        with torch.random.fork_rng(devices=cuda), torch.no_grad():
            torch.manual_seed(seed)
            rows = model.generate(
                **asked, **shared, generation_config=settings, synced_gpus=in_step
            )
    finally:
        model.generation_config = own
    answers = [_until_end(row, frozenset(end_ids)) for row in rows[:, width:].tolist()]
    return [answers[i : i + num_generations] for i in range(0, len(answers), num_generations)]


def _read_once(model: Any, ids: Tensor, mask: Tensor, num_generations: int) -> dict[str, Any]:
    """The cache of all prompts but their last tokens, once for each answer to come.

    Nothing for one answer, or if the model does not accept position ids for padded rows.
    """
    told = "position_ids" in signature(model.forward).parameters
    if num_generations == 1 or not told:
        return {}
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        cache = model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            logits_to_keep=1,
            use_cache=True,
        ).past_key_values
    cache.batch_repeat_interleave(num_generations)
    return {"past_key_values": cache}


def _until_end(tokens: list[int], end_ids: frozenset[int]) -> Completion:
    for position, token in enumerate(tokens):
        if token in end_ids:
            return Completion(tuple(tokens[: position + 1]), truncated=False)
    return Completion(tuple(tokens), truncated=True)
