"""How a model can be scored, found by trying it: whether a row of trees gives what each response
gives alone."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from fastslow.errors import ConfigError
from fastslow.scoring.layers import backbone_of
from fastslow.scoring.score import Layout, Scorer
from fastslow.scoring.text.token_tree import Tree
from fastslow.scoring.tree import tree_batch

WINDOWS = ("sliding_window", "attention_chunk_size", "index_topk")
"""Settings of how many tokens a token sees at most, where that is not all before it."""
PROBED = 24
"""Tokens that the layout is tried on."""
SAME = 1e-5
"""Difference of hidden states, as a share of the largest, that is rounding."""


def probe_layout(model: Any, *, max_length: int) -> Layout:
    """Whether tree scoring is correct on this model, by trying it, and why not.

    A short tree is scored as a tree and response by response; then the first response is replaced,
    which must not change the second's score. Raises ConfigError where the model fails.
    """
    if not isinstance(model.get_output_embeddings(), nn.Linear):
        return Layout(False, "its output layer is not a plain nn.Linear")
    if window := window_below(model, max_length):
        return Layout(False, f"its attention window of {window} tokens is below max_length")
    vocabulary = model.get_input_embeddings().weight.shape[0]
    device = model.get_input_embeddings().weight.device
    tokens = torch.randint(
        0, vocabulary, (PROBED,), generator=torch.Generator().manual_seed(0)
    ).tolist()
    prompt, first, other, second = (
        tuple(tokens[a:b]) for a, b in ((0, 6), (6, 12), (12, 18), (18, 24))
    )
    scorer = Scorer(model)
    scores = []
    with torch.no_grad():
        alone = torch.stack([_alone(scorer, prompt, each) for each in (first, second)])
        try:
            for sibling in (first, other):
                batch = tree_batch([Tree(prompt, (sibling, second))], pad_id=0).to(device)
                scores.append(scorer.score(batch))
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            cause = str(error).splitlines()[0][:100]
            return Layout(
                False, f"it does not accept position ids and a custom attention ({cause})"
            )
    # Twelve tokens: bfloat16 rounds logits by up to 2^-8 of their size, float32 by far less.
    coarse = alone.dtype == torch.float32 and computes_coarsely(model)
    tolerance = 0.25 if coarse else 1e-3
    leak = (scores[0][1] - scores[1][1]).abs().item()
    difference = (scores[0] - alone).abs().max().item()
    if leak > tolerance / 10:
        return Layout(False, f"responses in one row attend to each other (off by {leak:.2g} nats)")
    if difference > tolerance:
        return Layout(False, f"tree scores differ by {difference:.2g} nats from separate scoring")
    if longest_decides(model, near=PROBED, far=max_length):
        return Layout(False, "the longest sequence of a row decides how all of it is read")
    return Layout(True)


def window_below(model: Any, max_length: int) -> int | None:
    """Tokens that a token of the model sees at most, where that is less than a length."""
    config = model.config.get_text_config()
    windows = (getattr(config, key, None) for key in WINDOWS)
    return next((window for window in windows if window and window < max_length), None)


def _alone(scorer: Scorer, prompt: tuple[int, ...], response: tuple[int, ...]) -> Tensor:
    model = scorer.model
    device = model.get_input_embeddings().weight.device
    try:
        return scorer.score_alone(prompt, response, device=device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Code of any model runs here, with modules in its layers.
        cause = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ConfigError(
            f"model: {type(model).__name__} fails on a short text ({cause}); name other layers in "
            "lora.target_modules, such as [q_proj, v_proj], or choose another model"
        ) from None


def computes_coarsely(model: Any) -> bool:
    """Whether a model's numbers are of 16 bits or fewer."""
    weight = model.get_input_embeddings().weight
    return weight.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(
        weight.device.type
    )


def longest_decides(model: Any, *, near: int, far: int) -> bool:
    """Whether tokens mean something else in a row that has `far` positions than in one of `near`.

    Rotary embeddings that are stretched for long sequences choose the stretch once for all that is
    in the call (longrope, dynamic): a short one then has other log-probs beside a long one. Tried
    with four tokens, of which the last one, that the others do not see, stands far away.
    """
    backbone = backbone_of(model)
    rotates = any(hasattr(module, "inv_freq") for module in backbone.modules())
    if not rotates or far <= near or "position_ids" not in signature(backbone.forward).parameters:
        return False
    ids = torch.arange(4, device=model.get_input_embeddings().weight.device)[None]
    states = []
    with torch.no_grad():
        for last in (far - 1, near - 1):  # The near one is last: some models remember the longest.
            positions = torch.tensor([[0, 1, 2, last]], device=ids.device)
            found = backbone(input_ids=ids, position_ids=positions, use_cache=False)
            states.append(found.last_hidden_state[0, :3].float())
    of_far, of_near = states
    return bool((of_far - of_near).abs().max() > SAME * of_near.abs().max())
