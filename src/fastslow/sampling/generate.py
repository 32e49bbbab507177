"""Batched sampling from the active adapter, with a key-value cache.

What is sampled is the policy that is scored: a prompt's answers depend on it alone, not on what it
is batched with. Where a model's answers would, a probe finds out and prompts go in smaller batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from fastslow.scoring import longest_decides


@dataclass(frozen=True, slots=True)
class Batching:
    """How prompts can go together on a model without changing one another's answers."""

    padded: bool = True
    """Prompts of different lengths go together, filled up on the left."""
    read_once: bool = True
    """A prompt is read once for all its answers."""
    cached: bool = True
    """A token is computed from the cache of those before it."""
    stretched: bool = False
    """Whether the longest sequence of a batch decides how all are read, see `longest_decides`."""


TOGETHER = Batching()
"""The quickest way, which is right for most models."""


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
    batching: Batching = TOGETHER,
) -> list[list[Completion]]:
    """`num_generations` answers to each prompt, in order. The same seed gives the same answers.

    A prompt is prefilled once for all its answers. With temperature 1 and top_p 1 they are samples
    of the policy itself, independent of the generation settings in the model folder; temperature 0
    is greedy. `in_step` means that other processes sample at the same time, and that all must make
    the same number of forward passes. `batching` is what `probe_batching` found on the model.
    """
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    settings = GenerationConfig(
        do_sample=temperature > 0,
        max_new_tokens=max_new_tokens,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(end_ids),
        pad_token_id=pad_id,
        return_dict_in_generate=True,
        **sampling,
    )
    device = model.get_input_embeddings().weight.device
    cuda = [device] if device.type == "cuda" else []
    answers: dict[int, list[Completion]] = {}
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        for places in _batches(prompts, batching):
            batch = [prompts[place] for place in places]
            made = continuations(
                model, batch, settings, num_generations, batching, synced_gpus=in_step
            )
            rows = made.sequences[:, width_of(batch, batching) :].tolist()
            given = iter([_until_end(row, frozenset(end_ids)) for row in rows])
            for place in places:
                answers[place] = [next(given) for _ in range(num_generations)]
    return [answers[place] for place in range(len(prompts))]


def _batches(prompts: Sequence[Sequence[int]], batching: Batching) -> list[list[int]]:
    """Places of the prompts that go together, in the order of the first."""
    if batching.padded:
        return [list(range(len(prompts)))]
    of_length: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        of_length.setdefault(len(prompt), []).append(place)
    return list(of_length.values())


def width_of(prompts: Sequence[Sequence[int]], batching: Batching) -> int:
    """Tokens of each row of a batch of prompts."""
    return max(2 if batching.padded else 1, *map(len, prompts))


def continuations(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: GenerationConfig,
    num_generations: int,
    batching: Batching,
    **options: Any,
) -> Any:
    """What transformers' `generate` makes of one batch; each prompt has `num_generations` rows."""
    width = width_of(prompts, batching)
    pad_id = settings.pad_token_id
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[pad_id] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
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
            return model.generate(
                **asked,
                **shared,
                **options,
                generation_config=settings,
            )
    finally:
        model.generation_config = own


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
        cache = model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            logits_to_keep=1,
            use_cache=True,
        ).past_key_values
    cache.batch_repeat_interleave(num_generations)
    return {cache_argument(model): cache}


def cache_argument(model: Any) -> str:
    """What a causal LM takes its cache by: `cache` since transformers 5.24, which warns of the name
    before."""
    known = signature(model.prepare_inputs_for_generation).parameters
    return "cache" if "cache" in known else "past_key_values"


def _until_end(tokens: list[int], end_ids: frozenset[int]) -> Completion:
    for position, token in enumerate(tokens):
        if token in end_ids:
            return Completion(tuple(tokens[: position + 1]), truncated=False)
    return Completion(tuple(tokens), truncated=True)
