"""How prompts go together when a model answers them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batching:
    """How prompts can go together on a model without changing one another's answers."""

    padded: bool = True
    """Prompts of different lengths go together, filled up on the left."""
    read_once: bool = True
    """A prompt is read once for all its answers."""
    kept_once: bool = True
    """Its keys and values are kept once too, see `SharedPrompts`; else once for each answer."""
    cached: bool = True
    """A token is computed from the cache of those before it."""
    stretched: bool = False
    """Whether the longest sequence of a batch decides how all are read, see `longest_decides`."""

    def kept_tokens(self, prompt: int, answers: int, longest: int) -> int:
        """Tokens whose keys and values are kept at last of a prompt with so many answers."""
        if self.kept_once:
            return prompt + answers * longest
        return answers * (prompt + longest)


TOGETHER = Batching()
"""The quickest way, which is right for most models."""
CACHE_BYTES = 4 * 2**30
"""Most that is kept of prompts and answers that grow together: the keys and values of 32,768 tokens
in a model of 8B with 8 heads of keys, in 16 bits."""


def batches_of(
    prompts: Sequence[Sequence[int]],
    batching: Batching,
    *,
    answers: int = 1,
    longest: int = 0,
    most: int | None = None,
) -> list[list[int]]:
    """Places of the prompts that go together.

    Args:
        prompts: tokens of each.
        batching: whether different lengths can.
        answers: to each prompt.
        longest: tokens of an answer.
        most: tokens that are kept at a time, see `most_kept`; None for no limit. Prompts that need
            more go in batches of similar lengths, a single one however much it needs.
    """
    of_length: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        of_length.setdefault(0 if batching.padded else len(prompt), []).append(place)
    found = []
    for places in of_length.values():
        kept = [batching.kept_tokens(len(prompts[place]), answers, longest) for place in places]
        if most is None or len(places) * max(kept) <= most:
            found.append(places)
        else:
            found += [[places[row] for row in rows] for rows in similar(kept, most)]
    return found


def similar(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places of sequences that go together, the shortest first: as many as have at most `most`
    tokens when all are as long as the longest, or a single one."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and (len(rows) + 1) * lengths[row] > most:
            yield rows
            rows = []
        rows.append(row)
    yield rows


def most_kept(model: Any) -> int:
    """Tokens whose keys and values take up to CACHE_BYTES in all layers of a model."""
    config = model.config.get_text_config()
    width, heads = config.hidden_size, getattr(config, "num_key_value_heads", None)
    if isinstance(heads, int):
        width = heads * (getattr(config, "head_dim", None) or width // config.num_attention_heads)
    value = model.get_input_embeddings().weight.element_size()
    return int(CACHE_BYTES // (2 * config.num_hidden_layers * width * value))


def filled_up(
    model: Any, prompts: Sequence[Sequence[int]], batching: Batching, pad_id: int
) -> tuple[Tensor, Tensor]:
    """The tokens of a batch of prompts as rows of one width, [P, W], on the model's device, and a
    mask that is 0 where they are filled up."""
    width = max(2 if batching.padded else 1, *map(len, prompts))
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[pad_id] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask


def cache_argument(model: Any) -> str:
    """What a causal LM takes its cache by: `cache` since transformers 5.24, which warns of the name
    before."""
    known = signature(model.prepare_inputs_for_generation).parameters
    return "cache" if "cache" in known else "past_key_values"


def cache_of(output: Any) -> Any:
    """The cache that a causal LM gives back, under the same of the two names."""
    found = getattr(output, "cache", None)
    return output.past_key_values if found is None else found
