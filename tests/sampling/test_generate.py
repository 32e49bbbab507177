"""Answers: reproducible, from the policy itself, ended where they end."""

import sys

import pytest
import tiny
import torch

from fastslow.sampling import Batching, batching, decoding, generate
from fastslow.scoring import Scorer, Tree, tree_batch

MODEL = tiny.model(scale=2.0)
COMMON = {"end_ids": [2], "pad_id": 0, "max_new_tokens": 12}


def test_the_same_seed_gives_the_same_answers_and_leaves_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = generate(MODEL, [[5, 6, 7]], seed=3, num_generations=4, **COMMON)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert generate(MODEL, [[5, 6, 7]], seed=3, num_generations=4, **COMMON) == first
    assert generate(MODEL, [[5, 6, 7]], seed=4, num_generations=4, **COMMON) != first


def test_answers_end_with_the_end_of_turn_or_at_the_limit():
    answers = generate(MODEL, [[5], [6, 7]], seed=0, num_generations=40, **COMMON)
    assert [len(group) for group in answers] == [40, 40]
    for answer in (a for group in answers for a in group):
        assert answer.truncated == (answer.tokens[-1] != 2)
        assert 2 not in answer.tokens[:-1]
        assert not answer.truncated or len(answer.tokens) == 12


def test_padding_on_the_left_changes_no_greedy_answer():
    prompts = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
    together = generate(MODEL, prompts, seed=0, temperature=0.0, **COMMON)
    alone = [generate(MODEL, [p], seed=0, temperature=0.0, **COMMON)[0] for p in prompts]
    assert together == alone


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_first_tokens_follow_the_policy_whatever_the_folder_says(temperature):
    model = tiny.model(scale=2.0, vocab_size=24)
    model.generation_config.top_k = 2
    model.generation_config.repetition_penalty = 3.0
    model.generation_config.temperature = 0.1
    model.generation_config.min_p = 0.5
    model.generation_config.suppress_tokens = [3, 4, 5, 6]
    count = 6000
    (answers,) = generate(
        model, [[5, 6]], seed=0, num_generations=count, end_ids=[2], pad_id=0, max_new_tokens=1,
        temperature=temperature,
    )  # fmt: skip
    probabilities = (model(torch.tensor([[5, 6]])).logits[0, -1] / temperature).softmax(-1)
    counts = torch.bincount(torch.tensor([a.tokens[0] for a in answers]), minlength=24)
    # Pearson's statistic has mean 23 and deviation 6.8 if the answers are the policy's.
    statistic = ((counts - count * probabilities) ** 2 / (count * probabilities)).sum()
    assert statistic < 23 + 5 * 6.8


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_reading_and_keeping_a_prompt_once_gives_the_answers_of_doing_so_for_each(architecture):
    """Also where answers end early, at one of many tokens, and leave the others."""
    model = tiny.model(architecture, scale=2.0)
    prompts = [[5, 6, 7, 8, 9], [10], [11, 12, 13]]
    settings = {"seed": 3, "num_generations": 20, "pad_id": 0, "max_new_tokens": 12}
    settings["end_ids"] = range(20, 60)
    for draw in ({}, {"temperature": 0.7, "top_p": 0.8}, {"temperature": 0.0}):
        each = Batching(read_once=False, kept_once=False)
        expected = generate(model, prompts, batching=each, **settings, **draw)
        for way in (Batching(kept_once=False), Batching()):
            assert generate(model, prompts, batching=way, **settings, **draw) == expected
        lengths = {len(answer.tokens) for answers in expected for answer in answers}
        assert draw.get("temperature") == 0 or len(lengths) > 6


def test_prompts_that_are_read_in_several_passes_have_the_same_answers(monkeypatch):
    prompts = [[5, 6, 7, 8, 9], [10], [11, 12, 13], [14, 15, 16], [17] * 9]
    expected = generate(MODEL, prompts, seed=3, num_generations=4, **COMMON)
    monkeypatch.setattr(decoding, "READ_TOGETHER", 6)  # Of one prompt, two, one, one.
    assert generate(MODEL, prompts, seed=3, num_generations=4, **COMMON) == expected


def batches_seen(monkeypatch, *, room=None):
    """The prompts' lengths in each batch that is answered; with room for some prompts only."""
    seen = []

    class Watched(decoding.Decoding):
        def __init__(self, model, ids, mask, num_generations):
            seen.append(mask.sum(1).tolist())
            if room is not None and len(ids) > room:
                raise torch.OutOfMemoryError("no room")
            super().__init__(model, ids, mask, num_generations)

    monkeypatch.setattr(sys.modules["fastslow.sampling.generate"], "Decoding", Watched)
    return seen


def bytes_of(tokens):
    """Of keys and values in all layers of the model."""
    config = MODEL.config
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    return tokens * config.num_hidden_layers * 2 * width * 4


def test_what_a_token_keeps_is_what_the_model_caches_of_it():
    prompts = torch.tensor([[5, 6, 7, 8]])
    cache = MODEL(prompts, use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert bytes_of(4) == kept
    assert batching.most_kept(MODEL) == batching.CACHE_BYTES // bytes_of(1)


def test_prompts_with_answers_beyond_the_room_for_the_cache_go_in_several_batches(monkeypatch):
    prompts = [[5] * length for length in (9, 2, 40, 3, 8)]
    seen = batches_seen(monkeypatch)
    # A prompt of 9 tokens with two answers of 12 has 33, three such prompts have 99.
    monkeypatch.setattr(batching, "CACHE_BYTES", bytes_of(99))
    settings = {"temperature": 0.0, "num_generations": 2, **COMMON}
    answers = generate(MODEL, prompts, seed=0, **settings)
    assert seen == [[2, 3, 8], [9], [40]]
    assert answers == [generate(MODEL, [p], seed=0, **settings)[0] for p in prompts]
    # With a row for each answer two of a prompt of 3 tokens have 30, of 8 or 9 tokens 40 or 42.
    each = Batching(read_once=False, kept_once=False)
    batches = batching.batches_of(prompts, each, answers=2, longest=12, most=99)
    assert batches == [[1, 3], [4, 0], [2]]
    assert generate(MODEL, prompts, seed=0, batching=each, **settings) == answers


def test_prompts_for_which_there_is_room_are_answered_together_in_their_order(monkeypatch):
    seen = batches_seen(monkeypatch)
    monkeypatch.setattr(batching, "CACHE_BYTES", bytes_of(99))
    generate(MODEL, [[5] * 9, [6] * 2, [7] * 8], seed=0, num_generations=2, **COMMON)
    assert seen == [[9, 2, 8]]


def test_prompts_for_which_a_gpu_has_no_room_are_halved_until_they_fit(monkeypatch):
    seen, prompts = batches_seen(monkeypatch, room=2), [[5] * 9, [6], [7, 8], [9] * 4, [10] * 3]
    found = generate(MODEL, prompts, seed=0, temperature=0.0, **COMMON)
    assert seen == [[9, 1, 2, 4, 3], [9, 1], [2, 4, 3], [2], [4, 3]]
    assert found == [generate(MODEL, [p], seed=0, temperature=0.0, **COMMON)[0] for p in prompts]


def test_a_single_prompt_that_does_not_fit_is_an_error(monkeypatch):
    batches_seen(monkeypatch, room=0)
    with pytest.raises(torch.OutOfMemoryError):
        generate(MODEL, [[5], [6]], seed=0, **COMMON)


def test_answers_that_have_ended_cost_no_more():
    """The model is given fewer rows when most have ended, and none when all have."""
    rows = []
    handle = MODEL.register_forward_pre_hook(
        lambda module, args, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    settings = {"seed": 0, "num_generations": 40, "pad_id": 0, "max_new_tokens": 64}
    answers = generate(MODEL, [[5], [6, 7]], end_ids=range(2, 80), **settings)
    handle.remove()
    read, *decoded = rows
    assert read == 2
    assert decoded[0] > 2 * decoded[-1]
    assert len(decoded) == max(len(a.tokens) for own in answers for a in own) - 1 < 63


def test_a_model_that_gives_no_numbers_is_an_error():
    model = tiny.model()
    model.get_input_embeddings().weight.data[:] = float("nan")
    with pytest.raises(RuntimeError, match="not finite"):
        generate(model, [[5, 6]], seed=0, **COMMON)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_scorer_gives_the_log_probs_that_were_sampled_with(temperature):
    """The sampler's own, from the logits of each of its steps."""
    prompts = [[11, 12, 13], [5, 6, 7, 8, 9]]
    settings = {"seed": 0, "temperature": temperature, "num_generations": 3, **COMMON}
    settings["end_ids"] = ()  # All stay to the end.
    answers = generate(MODEL, prompts, **settings)
    seen = []

    def hook(module, arguments, output):
        seen.append(output.logits[:, -1])

    handle = MODEL.register_forward_hook(hook)
    assert generate(MODEL, prompts, **settings) == answers
    handle.remove()
    drawn = [seen[0].repeat_interleave(3, 0), *seen[1:]]  # The first pass read the prompts.
    trees = [
        Tree(tuple(prompt), tuple(answer.tokens for answer in own))
        for prompt, own in zip(prompts, answers, strict=True)
    ]
    found = Scorer(MODEL).measure(tree_batch(trees, pad_id=0), temperature=temperature).sums
    flat = [answer.tokens for own in answers for answer in own]
    for row, tokens in enumerate(flat):
        logps = [(drawn[i][row] / temperature).log_softmax(-1)[t] for i, t in enumerate(tokens)]
        assert found[row].item() == pytest.approx(sum(logps).item(), abs=1e-4)
