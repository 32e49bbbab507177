"""The tree batch against scoring each response alone, on every architecture it must work with."""

import families
import pytest
import tiny
import torch
from torch.overrides import TorchFunctionMode
from transformers import LlamaForCausalLM

from fastslow.errors import ConfigError
from fastslow.scoring import Layout, Scorer, Sizes, Tree, probe_layout, tree_batch
from fastslow.scoring import tree as tree_module
from fastslow.scoring.attention import tree_attention
from fastslow.scoring.attention_segments import AttentionSegment, cut
from fastslow.scoring.lm_head import Head

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: no GPU")


class NoFloat32(TorchFunctionMode):
    """Models compute norms and softmax in float32 whatever their weights; in here they do not."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        args = [torch.float64 if arg is torch.float32 else arg for arg in args]
        return function(*args, **kwargs)


def random_trees(count=5, seed=0, most=3, longest=20):
    draw = torch.Generator().manual_seed(seed)

    def ids(low):
        length = int(torch.randint(low, longest, (1,), generator=draw))
        return tuple(torch.randint(0, 320, (length,), generator=draw).tolist())

    def responses():
        return tuple(ids(1) for _ in range(int(torch.randint(1, most + 1, (1,), generator=draw))))

    return [Tree(ids(1), responses()) for _ in range(count)]


def alone(scorer, trees):
    scores = [scorer.score_alone(t.prompt, r, device=CPU) for t in trees for r in t.responses]
    return torch.stack(scores)


@pytest.mark.parametrize("together", [0, 50, 2048], ids=["cut", "some-cut", "masked"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_trees_score_as_responses_alone_do(architecture, together):
    trees, model = random_trees(), tiny.model(architecture)
    scorer = Scorer(model, sizes=Sizes(together=together, columns=100))
    together = scorer.score(tree_batch(trees, pad_id=0))
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone(scorer, trees), atol=1e-4, rtol=1e-6)
    model.double()
    with NoFloat32():
        together = scorer.score(tree_batch(trees, pad_id=0))
        assert together.dtype == torch.float64
        torch.testing.assert_close(together, alone(scorer, trees), atol=1e-10, rtol=0)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_probe_accepts_them(architecture):
    for dtype in (torch.float32, torch.bfloat16):
        assert probe_layout(tiny.model(architecture).to(dtype), max_length=64) == Layout(True)


def test_alone_is_the_textbook_sum():
    model = tiny.model().double()
    prompt, response = (5, 6, 7), (8, 9)
    logits = model(torch.tensor([[5, 6, 7, 8, 9]])).logits[0]
    logps = logits.log_softmax(-1)
    expected = logps[2, 8] + logps[3, 9]
    got = Scorer(model).score_alone(prompt, response, device=CPU)
    torch.testing.assert_close(got, expected)


def test_padding_order_and_company_change_nothing():
    scorer = Scorer(tiny.model().double())
    trees = random_trees(4, seed=3)
    each = [scorer.score(tree_batch([tree], pad_id=0)) for tree in trees]
    for pad_id in (0, 17):
        together = scorer.score(tree_batch(trees, pad_id=pad_id))
        torch.testing.assert_close(together, torch.cat(each), atol=1e-10, rtol=0)
    turned = scorer.score(tree_batch([Tree(t.prompt, t.responses[::-1]) for t in trees], pad_id=0))
    expected = torch.cat([scores.flip(0) for scores in each])
    torch.testing.assert_close(turned, expected, atol=1e-10, rtol=0)


def test_prompt_predictions_do_not_count_but_the_first_and_the_end_do():
    model = tiny.model().double()
    head = model.get_output_embeddings().weight.data
    tree = Tree((5, 6, 7), ((8, 2), (9, 10, 2)))
    scorer = Scorer(model)
    before = scorer.score(tree_batch([tree], pad_id=0))
    head[2] += 0.5  # the end of turn becomes another score
    after = scorer.score(tree_batch([tree], pad_id=0))
    assert ((after - before).abs() > 1e-3).all()


@pytest.mark.parametrize("together", [0, 2048])
def test_gradients_equal_those_of_responses_alone(together):
    model = tiny.model().double()
    weight = model.model.layers[0].self_attn.q_proj.weight.requires_grad_()
    scorer = Scorer(model, sizes=Sizes(together=together, columns=100))
    trees = random_trees(3, seed=4)
    with NoFloat32():
        scorer.score(tree_batch(trees, pad_id=0)).sum().backward()
        together, weight.grad = weight.grad, None
        alone(scorer, trees).sum().backward()
    torch.testing.assert_close(together, weight.grad, atol=1e-10, rtol=1e-8)


@needs_gpu
def test_gradients_equal_those_of_responses_alone_on_a_gpu():
    found = {}
    for device in (CPU, torch.device("cuda")):
        model = tiny.model().double().to(device)
        weight = model.model.layers[0].self_attn.q_proj.weight.requires_grad_()
        trees = random_trees(3, seed=4)
        with NoFloat32():
            scores = Scorer(model).score(tree_batch(trees, pad_id=0).to(device))
            scores.sum().backward()
        found[device.type] = scores.detach().cpu(), weight.grad.cpu()
    torch.testing.assert_close(found["cuda"], found["cpu"], atol=1e-10, rtol=1e-8)


def test_logits_exist_for_response_tokens_only_and_prompts_stand_once(monkeypatch):
    model, trees = tiny.model(), random_trees(4, seed=6, most=3)
    seen, made = [], []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    columns = Head.columns

    def spied(head, hidden, part):
        made.append(columns(head, hidden, part).shape)
        return columns(head, hidden, part)

    monkeypatch.setattr(Head, "columns", spied)
    sizes = Sizes(together=0, columns=100, rows=8)
    Scorer(model, sizes=sizes).score(tree_batch(trees, pad_id=0))
    tokens = sum(tree.num_tokens for tree in trees)
    assert seen == [torch.Size([1, tokens + -tokens % 64])]
    said = sum(len(r) for t in trees for r in t.responses)
    assert sum(shape.numel() for shape in made) == said * 320
    assert max(shape.numel() for shape in made) == 8 * 100


def test_the_layout_of_a_row(monkeypatch):
    monkeypatch.setattr(tree_module, "ROUND_WIDTH", 5)
    batch = tree_batch([Tree((5, 6), ((7, 8), (9,))), Tree((4,), ((3,),))], pad_id=17)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 4, 3, 17, 17, 17]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2, 0, 1, 0, 0, 0]]
    assert batch.predictors.tolist() == [1, 2, 1, 5]
    assert batch.targets.tolist() == [7, 8, 9, 3]
    assert batch.lengths.tolist() == [2, 1, 1]
    assert batch.ends.tolist() == [3, 4, 6]
    assert [tree.num_tokens for tree in batch.attended] == [5, 2, 3]


@pytest.mark.parametrize(
    "together, lengths",
    [(0, [4, 2, 1, 2, 2]), (5, [4, 2, 1, 4]), (9, [9, 2]), (100, [11])],
)
def test_a_token_attends_to_its_prompt_and_itself_only(together, lengths):
    """Each position's gradient shows what it looked at."""
    trees = (Tree((5, 6), ((7, 8), (9, 3), (4,))), Tree((4,), ((3,),)), Tree((1, 2), ()))
    count = sum(tree.num_tokens for tree in trees)
    draw = torch.Generator().manual_seed(0)
    states = [torch.randn(1, 4, count, 8, dtype=torch.float64, generator=draw) for _ in range(3)]
    query, key, value = states[0], states[1][:, :2], states[2][:, :2].requires_grad_()
    pieces = cut(trees, together=together)
    assert [piece.length for piece in pieces] == lengths
    for softcap in (None, 20.0):
        found, _ = tree_attention(None, query, key, value, None, pieces=pieces, softcap=softcap)
        assert found.shape == (1, count, 4, 8)
        seen = []
        for place in range(count):
            (slope,) = torch.autograd.grad(found[0, place].sum(), value, retain_graph=True)
            seen.append((slope.abs().sum((0, 1, 3)) > 0).nonzero().flatten().tolist())
        assert seen == [
            [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 1, 4, 5], [0, 1, 6],
            [7], [7, 8],
            [9], [9, 10],
        ]  # fmt: skip


def test_a_gpu_is_given_few_calls_that_its_kernels_know():
    """On the meta device, which is no CPU either: the calls are looked at, not their results."""
    trees = [Tree((1,) * 40, ((2,) * 30, (3,) * 20))] * 8
    config = tiny.model().config
    assert config.num_key_value_heads < config.num_attention_heads
    calls = []

    class Spy(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.nn.functional.scaled_dot_product_attention:
                query, key, _ = args
                calls.append((query.shape[1:3], key.shape[1:3], kwargs))
            return function(*args, **(kwargs or {}))

    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    batch = tree_batch(trees, pad_id=0).to(model.device)
    with Spy():
        assert Scorer(model).score(batch).shape == (16,)
    heads, tokens = config.num_attention_heads, 8 * 90 + -8 * 90 % 64
    for queries, keys, settings in calls:
        assert queries == keys == (heads, tokens)
        assert settings["attn_mask"].shape == (tokens, tokens) and not settings["enable_gqa"]
    assert len(calls) == config.num_hidden_layers


def test_empty_prompts_and_responses_are_refused():
    for tree in (Tree((), ((1,),)), Tree((1,), ((1,), ()))):
        with pytest.raises(ValueError, match="at least one"):
            tree_batch([tree], pad_id=0)


def test_architectures_that_cannot_are_found_out_and_scored_one_by_one():
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = MambaForCausalLM(config).eval()
    layout = probe_layout(model, max_length=64)
    assert not layout.trees and layout.reason
    scorer, trees = Scorer(model, layout), random_trees(3)
    torch.testing.assert_close(
        scorer.score(tree_batch(trees, pad_id=0)), alone(scorer, trees), atol=0, rtol=0
    )


def test_the_probe_finds_a_leak_between_responses():
    model = tiny.model()

    def causal_only(module, args, kwargs):
        if "pieces" not in kwargs:
            return args, kwargs
        first, second, *others = kwargs["pieces"]
        return args, kwargs | {"pieces": [AttentionSegment(first.length + second.length), *others]}

    model.model.register_forward_pre_hook(causal_only, with_kwargs=True)
    layout = probe_layout(model, max_length=64)
    assert not layout.trees and "attend to each other" in layout.reason


def test_the_probe_finds_ignored_positions_and_unknown_heads():
    model = tiny.model()
    hook = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: (args, kwargs | {"position_ids": None}), with_kwargs=True
    )
    assert "nats from separate scoring" in probe_layout(model, max_length=64).reason
    hook.remove()
    model.register_forward_hook(
        lambda module, args, output: setattr(output, "logits", output.logits * 0.5)
    )
    assert "nats from separate scoring" in probe_layout(model, max_length=64).reason


def test_a_window_shorter_than_the_rows_is_scored_one_by_one():
    model = tiny.model("mistral", sliding_window=16)
    assert probe_layout(model, max_length=16).trees
    layout = probe_layout(model, max_length=64)
    assert not layout.trees and "window of 16" in layout.reason


def test_two_scorings_give_the_same_bits():
    model = tiny.model()
    weight = model.model.layers[0].self_attn.q_proj.weight.requires_grad_()
    batch = tree_batch(random_trees(8), pad_id=0)
    results = []
    for _ in range(3):
        weight.grad = None
        scores = Scorer(model).score(batch)
        scores.sum().backward()
        results.append((scores.detach(), weight.grad))
    for scores, gradient in results[1:]:
        assert torch.equal(scores, results[0][0]) and torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("trees", [True, False])
def test_a_prompts_embedding_is_the_mean_over_its_tokens_alone(trees):
    model = tiny.model("llama")
    prompts = [(5, 6, 7), (8, 9, 10, 11, 12)]
    batch = tree_batch([Tree(prompt, ()) for prompt in prompts], pad_id=0)
    found = Scorer(model, Layout(trees)).embed(batch)
    for row, prompt in zip(found, prompts, strict=True):
        ids = torch.tensor([prompt])
        words = model.get_input_embeddings()(ids)[0].mean(0)
        hidden = model(ids, output_hidden_states=True).hidden_states[-1][0].mean(0)
        torch.testing.assert_close(row, torch.cat([words, hidden]), rtol=1e-5, atol=1e-5)


def test_a_rope_that_the_longest_sequence_stretches_is_scored_one_by_one():
    """Beyond its original context longrope takes other factors, for all that is in the call."""
    model = families.model("phi3").double()
    short, long = Tree((5, 6, 7), ((8, 9), (10,))), Tree(tuple(range(30)), ((11, 12, 13, 14),))
    layout = probe_layout(model, max_length=64)
    assert not layout.trees and "longest sequence" in layout.reason
    assert probe_layout(model, max_length=32) == Layout(True)
    with torch.no_grad():
        scorer = Scorer(model, layout)
        expected = alone(scorer, [short, long])
        assert torch.equal(scorer.score(tree_batch([short, long], pad_id=0)), expected)
        # In one row the short ones change, as the long one is there.
        wrong = Scorer(model).score(tree_batch([short, long], pad_id=0))
        assert (wrong - expected)[:2].abs().min() > 1e-3


def test_attention_in_chunks_shorter_than_the_rows_is_scored_one_by_one():
    model = families.model("llama4_text", attention_chunk_size=32)
    assert probe_layout(model, max_length=32).trees
    assert "32 tokens" in probe_layout(model, max_length=64).reason


def test_the_backbone_is_found_where_it_has_another_name():
    model = families.model("llama4_text")
    assert probe_layout(model, max_length=64) == Layout(True)
    trees = random_trees()
    with torch.no_grad():
        got = Scorer(model).score(tree_batch(trees, pad_id=0))
        torch.testing.assert_close(got, alone(Scorer(model), trees), atol=1e-4, rtol=1e-6)


def test_a_model_that_fails_on_a_short_text_is_one_error():
    model = tiny.model()
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(32, 7)
    with pytest.raises(ConfigError, match="LlamaForCausalLM fails on a short text"):
        probe_layout(model, max_length=64)
