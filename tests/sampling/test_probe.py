"""A prompt's answers are the model's own, whatever they are batched with, on every family."""

from dataclasses import replace

import families
import pytest
import torch

from fastslow.sampling import Batching, generate, probe_batching
from fastslow.sampling.probe import ALONE

QUICK = ("llama", "lfm2", "rwkv", "phi3")
SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in families.CONFIGS if name not in QUICK
]
PROMPTS = [[5, 6, 7], list(range(10, 34)), [40, 41, 42], [9, 8, 7, 6, 5, 4]]
TOKENS = 12
COMMON = {"end_ids": [2], "pad_id": 0, "max_new_tokens": TOKENS, "seed": 0}


def alone(model, prompt):
    """The greedy answer, each token from a pass over all before it."""
    ids = list(prompt)
    while len(ids) < len(prompt) + TOKENS and ids[-1] != 2:
        ids.append(
            int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        )
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("family", [*QUICK, *SLOW])
def test_greedy_answers_are_those_of_each_prompt_alone(family):
    model = families.model(family)
    batching = probe_batching(model, pad_id=0, max_length=96)
    groups = generate(
        model, PROMPTS, temperature=0.0, num_generations=2, batching=batching, **COMMON
    )
    for prompt, (first, second) in zip(PROMPTS, groups, strict=True):
        assert first.tokens == second.tokens == alone(model, prompt)


@pytest.mark.parametrize(
    ("family", "batching"),
    [
        ("llama", Batching()),
        ("lfm2", Batching(read_once=False, kept_once=False)),
        ("rwkv", ALONE),
        ("phi3", replace(ALONE, cached=True, stretched=True)),
        pytest.param("llama4_text", Batching(), marks=pytest.mark.slow),
        pytest.param("minimax", replace(ALONE, cached=True), marks=pytest.mark.slow),
    ],
)
def test_the_quickest_way_that_is_right_is_found(family, batching):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert probe_batching(families.model(family), pad_id=0, max_length=96) == batching
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_probe_notices_what_padding_does():
    """The answers it keeps apart do differ when they go together."""
    model = families.model("rwkv")
    batching = Batching(kept_once=False)
    together = generate(model, PROMPTS, temperature=0.0, batching=batching, **COMMON)
    assert [group[0].tokens for group in together] != [alone(model, prompt) for prompt in PROMPTS]


def test_within_what_it_was_trained_on_a_stretched_rope_goes_together():
    assert probe_batching(families.model("phi3"), pad_id=0, max_length=32) == Batching()


def test_prompts_are_not_kept_once_where_a_window_leaves_some_of_them_out():
    model = families.model("mixtral", sliding_window=16)
    assert probe_batching(model, pad_id=0, max_length=96) == Batching(kept_once=False)
    assert probe_batching(model, pad_id=0, max_length=16) == Batching()


def test_samples_of_grouped_prompts_are_reproducible_and_differ():
    model = families.model("rwkv")
    settings = COMMON | {"num_generations": 3, "batching": ALONE}
    first = generate(model, PROMPTS, **settings)
    assert first == generate(model, PROMPTS, **settings)
    assert first != generate(model, PROMPTS, **(settings | {"seed": 1}))
    assert len({answer.tokens for answer in first[0]}) == 3
