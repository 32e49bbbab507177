"""Batched sampling from the active adapter, with a key-value cache.

What is sampled is the policy that is scored: a prompt's answers depend on it alone, not on what it
is batched with. Where a model's answers would, a probe finds out and prompts go in smaller batches.
"""

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from fastslow.sampling.batching import TOGETHER, Batching, batches_of, filled_up, most_kept
from fastslow.sampling.continuations import continuations
from fastslow.sampling.decoding import Decoding

LEFT = 0.75
"""Share of the answers in a batch that have not ended, below which those that have leave it."""


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

    Prompts whose keys and values would take more than CACHE_BYTES go in several batches, one after
    another on the same random numbers, and those for which a GPU has no room in two halves: a seed
    gives other answers then. With `in_step` all prompts go at once.
    """
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    settings = GenerationConfig(
        do_sample=temperature > 0,
        max_new_tokens=max_new_tokens,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(end_ids) or None,
        pad_token_id=pad_id,
        return_dict_in_generate=True,
        **sampling,
    )
    device = model.get_input_embeddings().weight.device
    cuda = [device] if device.type == "cuda" else []
    answers: dict[int, list[Completion]] = {}
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        most = None if in_step else most_kept(model)
        batches = batches_of(
            prompts, batching, answers=num_generations, longest=max_new_tokens, most=most
        )
        sample = partial(
            _sampled, model, settings, num_generations, batching=batching, in_step=in_step
        )
        for places, tokens in _in_memory(prompts, batches, sample, halve=not in_step):
            given = iter([_until_end(row, frozenset(end_ids)) for row in tokens.tolist()])
            for place in places:
                answers[place] = [next(given) for _ in range(num_generations)]
    return [answers[place] for place in range(len(prompts))]


def _in_memory(
    prompts: Sequence[Sequence[int]],
    batches: list[list[int]],
    sample: Callable[[list[Sequence[int]]], Tensor],
    *,
    halve: bool,
) -> Iterator[tuple[list[int], Tensor]]:
    """The places of each batch with its answers; a batch without room goes in two halves."""
    while batches:
        places, tokens = batches.pop(0), None
        try:
            tokens = sample([prompts[place] for place in places])
        except torch.OutOfMemoryError:
            if len(places) == 1 or not halve:
                raise
        if tokens is not None:
            yield places, tokens
            continue
        # Outside the handler, as the error keeps tensors alive.
        gc.collect()
        torch.cuda.empty_cache()
        half = len(places) // 2
        batches[:0] = [places[:half], places[half:]]


def _sampled(
    model: Any,
    settings: GenerationConfig,
    num_generations: int,
    batch: Sequence[Sequence[int]],
    *,
    batching: Batching,
    in_step: bool,
) -> Tensor:
    """The answers to one batch as rows, [N, T]; what stands behind an end says nothing."""
    if batching.kept_once and batching.cached and not in_step:
        ids, mask = filled_up(model, batch, batching, settings.pad_token_id)
        return _drawn(Decoding(model, ids, mask, num_generations), settings)
    tokens, _ = continuations(
        model, batch, settings, num_generations, batching, synced_gpus=in_step
    )
    return tokens


def _drawn(decoding: Decoding, settings: GenerationConfig) -> Tensor:
    """The tokens of every answer, [N, T]; what stands behind its end says nothing."""
    count, device = len(decoding.logits), decoding.logits.device
    end_ids = torch.tensor(settings.eos_token_id or [], dtype=torch.int64, device=device)
    tokens = torch.full((count, settings.max_new_tokens), settings.pad_token_id, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    rows = torch.arange(count, device=device)
    choose = _Choice(settings, count)
    for place in range(settings.max_new_tokens):
        chosen = choose(decoding.logits, rows)
        tokens[rows, place] = chosen
        ended[rows] |= torch.isin(chosen, end_ids)
        going = ~ended[rows]
        left = int(going.sum())
        if not left or place + 1 == settings.max_new_tokens:
            break
        if left <= LEFT * len(rows):
            decoding.keep(going.nonzero()[:, 0])
            rows, chosen = rows[going], chosen[going]
        decoding.step(chosen)
    return tokens


class _Choice:
    """The next tokens of answers, drawn as transformers' `generate` draws them.

    Args:
        settings: what they are drawn from.
        count: all answers. Each draws on numbers of its own, whether others have ended or not.
    """

    def __init__(self, settings: GenerationConfig, count: int) -> None:
        self._sampled, self._count = settings.do_sample, count
        self._warped: Any = LogitsProcessorList()
        if self._sampled and settings.temperature != 1:
            self._warped.append(TemperatureLogitsWarper(settings.temperature))
        if self._sampled and settings.top_p < 1:
            self._warped.append(TopPLogitsWarper(settings.top_p))

    def __call__(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The next token, [n], of the answers in n rows, whose logits are [n, V]."""
        if not self._sampled:
            return logits.argmax(-1)
        shares = self._warped(None, logits).softmax(-1)
        # What torch.multinomial does with one draw a row.
        noise = shares.new_empty(self._count, shares.shape[1]).exponential_()
        chosen: Tensor = (shares / noise[rows]).argmax(-1)
        if not bool(shares.gather(1, chosen[:, None]).isfinite().all()):
            raise RuntimeError("the model's logits are not finite")
        return chosen


def _until_end(tokens: list[int], end_ids: Collection[int]) -> Completion:
    for position, token in enumerate(tokens):
        if token in end_ids:
            return Completion(tuple(tokens[: position + 1]), truncated=False)
    return Completion(tuple(tokens), truncated=True)
