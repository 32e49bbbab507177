"""Answers by transformers' `generate`, which knows all models."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from fastslow.sampling.batching import Batching, cache_argument, cache_of, filled_up
from fastslow.scoring import longest_decides


def continuations(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: GenerationConfig,
    num_generations: int,
    batching: Batching,
    **options: Any,
) -> tuple[Tensor, Any]:
    """The answers to one batch, `num_generations` rows a prompt, [N, T], filled up behind their
    ends; and all that transformers' `generate` gave."""
    ids, mask = filled_up(model, prompts, batching, settings.pad_token_id)
    width = ids.shape[1]
    asked = {"input_ids": ids, "attention_mask": mask}
    settings.use_cache = _may_cache(model, width, settings, batching)
    shared = {}
    if batching.read_once and settings.use_cache and width > 1:
        shared = _read_once(model, ids, mask, num_generations)
    asked = {name: values.repeat_interleave(num_generations, 0) for name, values in asked.items()}
    # Unset fields of `settings` would be filled from the model folder's generation settings.
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        with torch.no_grad():
            made = model.generate(
                **asked,
                **shared,
                **options,
                generation_config=settings,
            )
    finally:
        model.generation_config = own
    return made.sequences[:, width:], made


def _may_cache(model: Any, width: int, settings: GenerationConfig, batching: Batching) -> bool:
    """Whether what was computed of a prompt stays right until the longest answer has ended."""
    if not batching.stretched:
        return batching.cached
    longest = width + settings.max_new_tokens
    return batching.cached and not longest_decides(model, near=width, far=longest)


def _read_once(model: Any, ids: Tensor, mask: Tensor, num_generations: int) -> dict[str, Any]:
    """The cache of all prompts but their last tokens, once for each answer to come.

    Nothing for one answer, or if the model does not accept position ids for padded rows.
    """
    told = "position_ids" in signature(model.forward).parameters
    if num_generations == 1 or not told:
        return {}
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        read = model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            logits_to_keep=1,
            use_cache=True,
        )
    cache = cache_of(read)
    cache.batch_repeat_interleave(num_generations)
    return {cache_argument(model): cache}
