"""Weights of a combination, against models that were really combined and sums done by hand."""

from itertools import product
from statistics import fmean

import pytest
import tiny
import torch

from fastslow.adapters import BASE, Factors, Modules, combine
from fastslow.adapters import modules as modules_module
from fastslow.adapters.linear import DirectLinear
from fastslow.objectives import make_objective
from fastslow.records import Pair
from fastslow.scoring import Encoder, Scorer
from fastslow.training.continual import merge_weights as weights_module
from fastslow.training.continual.merge_weights import (
    GRID,
    WeightedMerge,
    grid_weights,
    learned_weights,
    uniform_weights,
)
from fastslow.training.policies.policies import Policies

OBJECTIVE = make_objective("dpo", beta=0.5)
ENCODER = Encoder(tiny.tokenizer(), max_length=96)
RANKS = (2, 3)


def encoded(domain, count, seed):
    return [
        ENCODER.encode(Pair(row["prompt"], row["chosen"], row["rejected"]))
        for row in tiny.domain_rows(domain, count, seed=seed)
    ]


WARM, COLD = encoded("warm", 12, 1), encoded("cold", 12, 2)


def silent(done, total):
    pass


@pytest.fixture(scope="module")
def random_modules(tmp_path_factory):
    """Two modules of different rank that change the model visibly."""
    return [_random_module(tmp_path_factory.mktemp("m"), rank, seed=rank) for rank in RANKS]


def _random_module(folder, rank, *, seed):
    modules = Modules.attach(tiny.model(), ("policy",), rank=rank, alpha=2.0 * rank)
    generator = torch.Generator().manual_seed(seed)
    for parameter in modules.parameters("policy").values():
        parameter.data.copy_(0.08 * torch.randn(parameter.shape, generator=generator))
    modules.save("policy", folder / "adapter")
    return Factors.read(folder / "adapter")


def mixture(modules, folder, *, double=False, gradient_checkpointing=False):
    combine(modules, [1.0] * len(modules)).write(folder / "sum")
    loaded = Modules.load(tiny.model(), {"sum": folder / "sum"}, trainable=())
    if double:
        loaded.model.double()
    policies = Policies(
        loaded,
        bfloat16=False,
        max_length=96,
        pad_id=0,
        gradient_checkpointing=gradient_checkpointing,
    )
    return WeightedMerge(policies, "sum", modules, OBJECTIVE)


def loss_of(mixed, weights, pairs):
    with mixed.loss(weights, mixed.score_reference(pairs)) as loss:
        return loss.item()


def losses_of(modules, points, pairs):
    """The mean objective under W + sum w_d B_d A_d, the dense update put into the base itself."""
    base = tiny.model()
    named = dict(base.named_modules())
    original = {layer: named[layer].weight.data.clone() for layer in modules[0].layers}
    scorer, device = Scorer(base), torch.device("cpu")

    def margins():
        with torch.no_grad():
            scores = [
                [scorer.score_alone(p.tree.prompt, r, device=device) for r in p.tree.responses]
                for p in pairs
            ]
        return torch.tensor(scores, dtype=torch.float64) @ torch.tensor([1.0, -1.0]).double()

    reference, found = margins(), []
    for point in points:
        for layer, weight in original.items():
            update = sum(w * m.update(layer) for w, m in zip(point, modules, strict=True))
            named[layer].weight.data = weight + update
        delta = margins() - reference
        found.append(-torch.nn.functional.logsigmoid(0.5 * delta).mean().item())
    return found


def test_a_mixtures_loss_is_that_of_the_adapter_written_with_those_weights(
    random_modules, tmp_path
):
    mixed = mixture(random_modules, tmp_path)
    pairs = WARM[:4] + COLD[:4]
    points = [[1.0, 1.0], [0.3, -0.7], [0.0, 1.25], [0.0, 0.0]]
    dense = losses_of(random_modules, points, pairs)
    for number, point in enumerate(points):
        loss = loss_of(mixed, torch.tensor(point), pairs)
        folder = tmp_path / str(number)
        combine(random_modules, point).write(folder)
        alone = Modules.load(tiny.model(), {"one": folder}, trainable=())
        policies = Policies(alone, bfloat16=False, max_length=96, pad_id=0)
        batch = policies.batch([item.tree for item in pairs])
        own, base = (policies.score(name, batch).view(-1, 2) for name in ("one", BASE))
        delta = (own - base) @ torch.tensor([1.0, -1.0])
        written = -torch.nn.functional.logsigmoid(0.5 * delta).mean().item()
        assert loss == pytest.approx(written, abs=1e-5)
        assert loss == pytest.approx(dense[number], abs=1e-4)
    assert len({round(value, 3) for value in dense}) == 4  # The points differ enough to tell.


def test_the_gradient_in_the_weights_is_that_of_finite_differences(random_modules, tmp_path):
    mixed = mixture(random_modules, tmp_path, double=True)
    weights = torch.tensor([0.4, -0.2], dtype=torch.float64, requires_grad=True)
    with mixed.loss(weights, mixed.score_reference(WARM[:5])) as loss:
        assert loss.dtype == torch.float64
        loss.backward()

    def slope(index, step):
        shift = torch.zeros(2, dtype=torch.float64)
        shift[index] = step
        up, down = (loss_of(mixed, weights.detach() + sign * shift, WARM[:5]) for sign in (1, -1))
        return (up - down) / (2 * step)

    for index in range(2):
        # The model's norms round to float32, so the step must not be tiny; Richardson's
        # combination of two leaves an error of fourth order.
        expected = (4 * slope(index, 0.01) - slope(index, 0.02)) / 3
        assert weights.grad[index].item() == pytest.approx(expected, rel=1e-4)


def test_the_gradient_is_the_same_with_layers_computed_anew(random_modules, tmp_path):
    found = []
    for gradient_checkpointing in (False, True):
        mixed = mixture(
            random_modules,
            tmp_path / str(gradient_checkpointing),
            gradient_checkpointing=gradient_checkpointing,
        )
        weights = torch.tensor([0.4, -0.2], requires_grad=True)
        with mixed.loss(weights, mixed.score_reference(WARM[:5])) as loss:
            loss.backward()
        found.append(weights.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_sum_of_more_ranks_than_a_layer_has_is_multiplied_out(
    tmp_path_factory, tmp_path, monkeypatch, gradient_checkpointing
):
    modules = [_random_module(tmp_path_factory.mktemp("m"), 80, seed=seed) for seed in (1, 2)]
    mixed = mixture(modules, tmp_path, double=True, gradient_checkpointing=gradient_checkpointing)
    layers = [each for each in mixed._policies.modules.causal_lm.modules()
              if isinstance(each, DirectLinear)]  # fmt: skip
    assert max(max(layer.weight.shape) for layer in layers) < 160
    found = []
    for limit in (DirectLinear, type("Never", (), {})):
        monkeypatch.setattr(modules_module, "DirectLinear", limit)
        weights = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)
        with mixed.loss(weights, mixed.score_reference(WARM)) as loss:
            loss.backward()
            hooked = any(layer.lora_A["sum"]._forward_hooks for layer in layers)
        found.append((loss.item(), weights.grad.tolist(), hooked))
    (loss, slope, hooked), (expected, expected_slope, low_rank) = found
    assert (hooked, low_rank) == (False, True)
    assert loss == pytest.approx(expected, abs=1e-10)
    assert slope == pytest.approx(expected_slope, abs=1e-10)
    assert not any("rank_factors" in vars(layer) for layer in layers)


def test_gradients_reach_the_weights_only(random_modules, tmp_path):
    mixed = mixture(random_modules, tmp_path)
    weights = torch.tensor([0.5, 0.5], requires_grad=True)
    with mixed.loss(weights, mixed.score_reference(WARM[:2])) as loss:
        loss.backward()
    assert weights.grad.abs().min() > 0
    model = mixed._policies.modules.model
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    # Outside, the sum counts in full again.
    policies = mixed._policies
    batch = policies.batch([item.tree for item in WARM[:2]])
    before = policies.score("sum", batch)
    loss_of(mixed, torch.tensor([0.0, 0.0]), WARM[:2])
    assert torch.equal(policies.score("sum", batch), before)


@pytest.fixture(scope="module")
def learned_module(continual_run):
    """The module that learned what is good, of a real run."""
    folder, _ = continual_run
    return Factors.read(folder / "bank" / "01-warm")


def test_two_identical_modules_get_equal_weights(learned_module, tmp_path):
    mixed = mixture([learned_module, learned_module], tmp_path)
    first, second = learned_weights(mixed, [WARM, WARM], seed=0, progress=silent)
    assert first == pytest.approx(second, abs=1e-5) and first > 0.5


def test_a_module_that_harms_gets_less_than_one_that_helps(learned_module, tmp_path):
    harmful = combine([learned_module], [-1.0])
    mixed = mixture([harmful, learned_module], tmp_path)
    bad, good = learned_weights(mixed, [WARM, WARM], seed=0, progress=silent)
    assert good > 0.7 > 0.3 > bad


def test_the_same_seed_gives_the_same_weights_and_progress_is_told(
    random_modules, tmp_path, monkeypatch
):
    monkeypatch.setattr(weights_module, "STEPS", 6)
    mixed = mixture(random_modules, tmp_path)
    told = []
    runs = [
        learned_weights(mixed, [WARM, COLD], seed=seed, progress=lambda *a: told.append(a))
        for seed in (3, 3, 4)
    ]
    assert runs[0] == runs[1] != runs[2]
    assert told[:6] == [(i, 6) for i in range(1, 7)]


def test_of_many_modules_a_step_scores_as_many_pairs_and_all_take_turns(
    random_modules, tmp_path, monkeypatch
):
    monkeypatch.setattr(weights_module, "STEPS", 6)
    monkeypatch.setattr(weights_module, "AT_ONCE", 2)
    mixed, scored = mixture(random_modules * 3, tmp_path), []
    score = mixed.score_reference
    monkeypatch.setattr(
        mixed, "score_reference", lambda examples: scored.append(examples) or score(examples)
    )
    memories = [[*encoded("warm", 4, seed)] for seed in range(6)]
    weights = learned_weights(mixed, memories, seed=0, progress=silent)
    assert [len(examples) for examples in scored] == [2 * weights_module.BATCH] * 6
    seen = {id(example) for examples in scored for example in examples}
    assert all(any(id(example) in seen for example in memory) for memory in memories)
    assert weights == weights[:2] * 3, "copies of a module get its weight"


def test_the_grid_takes_the_least_of_independently_computed_losses(
    random_modules, tmp_path, monkeypatch
):
    grid = (-0.5, 0.0, 0.5, 1.0)
    monkeypatch.setattr(weights_module, "GRID", grid)
    modules = [*random_modules, combine([random_modules[0]], [0.5])]
    mixed = mixture(modules, tmp_path)
    memories = [WARM[:5], COLD[:3], WARM[5:7]]
    told = []
    found = grid_weights(mixed, memories, progress=lambda *a: told.append(a))
    points = [[old, old, new] for old, new in product(grid, grid)]
    by_domain = [losses_of(modules, points, memory) for memory in memories]
    means = [fmean(losses) for losses in zip(*by_domain, strict=True)]
    best, runner_up = sorted(means)[:2]
    assert runner_up - best > 1e-4 and found == points[means.index(best)]
    assert told == [(i, 16) for i in range(1, 17)]


def test_a_single_module_has_one_weight_on_the_grid(learned_module, tmp_path):
    mixed = mixture([learned_module], tmp_path)
    (found,) = grid_weights(mixed, [WARM], progress=silent)
    losses = losses_of([learned_module], [[w] for w in GRID], WARM)
    assert found == GRID[losses.index(min(losses))]


def test_uniform_weights_are_equal_and_sum_to_one():
    assert uniform_weights(1) == [1.0] and uniform_weights(4) == [0.25] * 4
