"""How prompts can go together when a model answers them, by trying it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from fastslow.sampling.batching import Batching, filled_up
from fastslow.sampling.continuations import continuations
from fastslow.sampling.decoding import Decoding
from fastslow.scoring import computes_coarsely, longest_decides, window_below

CANDIDATES = (
    Batching(),
    Batching(kept_once=False),
    Batching(read_once=False, kept_once=False),
    Batching(padded=False),
    Batching(padded=False, kept_once=False),
    Batching(padded=False, read_once=False, kept_once=False),
)
"""The quickest first."""
ALONE = Batching(padded=False, read_once=False, kept_once=False, cached=False)
"""Right on every model: each token from a pass over all before it, as when answers are scored."""
PROMPTS = (3, 8)
"""Tokens of the prompts that are tried."""
ANSWERS, TOKENS = 2, 3
"""Answers to each prompt, and tokens of each."""
EXACT, COARSE = 1e-5, 0.02
"""KL in nats per token that rounding to 32 and to 16 bits may cause."""


def probe_batching(model: Any, *, pad_id: int, max_length: int) -> Batching:
    """The quickest way to sample in which a prompt's answers are the model's own.

    Two short prompts are answered together; each token's prediction must be that of a pass over the
    prompt and the answer alone, which is how answers are scored.
    """
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    prompts = [
        torch.randint(0, vocabulary, (length,), generator=generator).tolist() for length in PROMPTS
    ]
    if longest_decides(model, near=sum(PROMPTS), far=max_length):
        stretched = Batching(padded=False, read_once=False, kept_once=False, stretched=True)
        return stretched if _is_right(model, prompts, stretched, pad_id) else ALONE
    # What an attention window leaves out is not seen on short prompts.
    whole = window_below(model, max_length) is None
    candidates = [each for each in CANDIDATES if whole or not each.kept_once]
    right = (each for each in candidates if _is_right(model, prompts, each, pad_id))
    return next(right, ALONE)


def _is_right(
    model: Any, prompts: Sequence[Sequence[int]], batching: Batching, pad_id: int
) -> bool:
    batches = [prompts] if batching.padded else [[prompt] for prompt in prompts]
    try:
        return all(_is_models_own(model, batch, batching, pad_id) for batch in batches)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, AssertionError):
        return False  # The model does not know such a call.


def _is_models_own(
    model: Any, prompts: Sequence[Sequence[int]], batching: Batching, pad_id: int
) -> bool:
    """Whether each prediction in a batch is that of a pass over its row alone."""
    answers, logits = _greedy(model, prompts, batching, pad_id)
    batched = logits.float().log_softmax(-1)
    most = 0.0
    for row, (answer, predicted) in enumerate(zip(answers, batched, strict=True)):
        prompt = torch.tensor(prompts[row // ANSWERS], device=answer.device)
        with torch.no_grad():
            logits = model(input_ids=torch.cat([prompt, answer])[None], use_cache=False).logits[0]
        own = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
        most = max(most, float((own.exp() * (own - predicted)).sum(-1).max()))
    return most <= (COARSE if computes_coarsely(model) else EXACT)


def _greedy(
    model: Any, prompts: Sequence[Sequence[int]], batching: Batching, pad_id: int
) -> tuple[Tensor, Tensor]:
    """The likeliest answers of a batch, [N, T], and each token's logits, [N, T, V]."""
    if batching.kept_once:
        decoding = Decoding(model, *filled_up(model, prompts, batching, pad_id), ANSWERS)
        logits = [decoding.logits]
        while len(logits) < TOKENS:
            decoding.step(logits[-1].argmax(-1))
            logits.append(decoding.logits)
        return torch.stack(logits, dim=1).argmax(-1), torch.stack(logits, dim=1)
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=TOKENS,
        pad_token_id=pad_id,
        return_dict_in_generate=True,
        output_logits=True,
    )
    answers, made = continuations(model, prompts, settings, ANSWERS, batching)
    return answers, torch.stack(made.logits, dim=1)
