"""Sums of LoRA modules: exact against dense arithmetic, PEFT's own numbers and the model's logits.

Every reference is computed another way than in the code: PEFT's get_delta_weight, dense weights
added to a bare base, torch's SVD of the dense update.
"""

import itertools
import json
import math
import warnings

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from fastslow.adapters.factors import Factors, combine, recompress, without_repeats
from fastslow.adapters.modules import Modules
from fastslow.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")

IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [40, 41, 42, 43, 44, 45]])
WEIGHTS = [0.7, -1.3, 0.0, 2.5]
BANKS = {
    "llama": [
        {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
        {"r": 4, "lora_alpha": 4, "use_rslora": True, "target_modules": "all-linear"},
        {"r": 3, "lora_alpha": 9, "target_modules": ["gate_proj", "q_proj"]},
        {"r": 1, "lora_alpha": 2, "target_modules": ["q_proj"], "layers_to_transform": [1]},
    ],
    "gpt2": [
        {"r": 2, "lora_alpha": 8, "target_modules": ["c_attn"]},
        {"r": 4, "lora_alpha": 4, "use_rslora": True, "target_modules": "all-linear"},
        {"r": 3, "lora_alpha": 9, "target_modules": ["c_fc", "c_attn"]},
        {"r": 1, "lora_alpha": 2, "target_modules": ["c_attn"], "layers_to_transform": [1]},
    ],
}


def make(folder, architecture="llama", *, seed=0, **options):
    """A random module of PEFT's making, saved by PEFT; gives the model too."""
    config = LoraConfig(task_type="CAUSAL_LM", **options)
    model = get_peft_model(tiny.model(architecture), config).eval()
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of bases without a name.
        model.save_pretrained(folder)
    return model


def peft_updates(model):
    """PEFT's own dense updates [out, in], float64, by layer."""
    found = {}
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A:
            delta = layer.get_delta_weight("default").detach().double()
            found[name] = delta.T if layer.fan_in_fan_out else delta
    return found


def dense_sum(updates, weights):
    total = {}
    for update, weight in zip(updates, weights, strict=True):
        for layer, delta in update.items():
            total[layer] = total.get(layer, 0) + weight * delta
    return total


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def with_dense(architecture, total):
    """Logits of the bare base with the updates added to its weights."""
    base = tiny.model(architecture)
    for layer, delta in total.items():
        module = base.get_submodule(layer)
        turned = delta if isinstance(module, torch.nn.Linear) else delta.T
        module.weight.data.copy_((module.weight.double() + turned).float())
    return logits(base)


def with_module(architecture, factors, folder):
    """Logits of the base with a module that was written and that PEFT has loaded."""
    factors.write(folder)
    return logits(PeftModel.from_pretrained(tiny.model(architecture), str(folder)).eval())


def close(got, expected, tolerance=1e-5):
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


def distance(got, expected):
    """Frobenius distance of updates by layer, as a share of the expected norm."""
    assert got.keys() == expected.keys()
    lost = sum((got[key].double() - expected[key]).square().sum() for key in expected)
    return math.sqrt(lost / sum(value.square().sum() for value in expected.values()))


def updates(factors):
    return {layer: b.double() @ a.double() for layer, (a, b) in factors.layers.items()}


@pytest.fixture(scope="module", params=list(BANKS))
def bank(request, tmp_path_factory):
    """Architecture, modules as read, and PEFT's dense updates of each."""
    folder = tmp_path_factory.mktemp(request.param)
    models = [
        make(folder / str(i), request.param, seed=i, **options)
        for i, options in enumerate(BANKS[request.param])
    ]
    modules = [Factors.read(folder / str(i)) for i in range(len(models))]
    return request.param, modules, [peft_updates(model) for model in models]


def some(layers=("a.q_proj", "a.v_proj"), rank=2, size=5, seed=0, **options):
    """Random factors without a model."""
    draw = torch.Generator().manual_seed(seed)
    return Factors(
        {
            layer: (
                torch.randn(rank, size, generator=draw),
                torch.randn(size + 2, rank, generator=draw),
            )
            for layer in layers
        },
        options.get("targets", ("q_proj", "v_proj")),
        options.get("base"),
    )


def test_reading_gives_the_update_that_peft_computes(bank):
    _, modules, expected = bank
    for module, update in zip(modules, expected, strict=True):
        assert distance(updates(module), update) < 1e-6
        for layer, delta in update.items():
            close(module.update(layer).double(), delta)


@pytest.mark.parametrize(
    "patterns",
    [
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 3, "mlp.up_proj": 16}},
        {"rank_pattern": {"v_proj": 6, "up_proj": 1}, "alpha_pattern": {"v_proj": 12}},
        # PEFT takes regular expressions, and the first that fits.
        {"alpha_pattern": {r"model\.layers\.0\.self_attn\.q_proj": 3, "q_proj": 5}},
        {"alpha_pattern": {"q_proj": 5, r"model\.layers\.0\.self_attn\.q_proj": 3}},
        {"alpha_pattern": {r".*\.1\..*": 7}, "rank_pattern": {r"layers\.\d\.mlp.*": 3}},
        {"alpha_pattern": {r"^model\.layers\.1\.mlp\.up_proj": 5, "proj": 20}},
        {"alpha_pattern": {"q_proj": 3}, "rank_pattern": {"v_proj": 3}, "use_rslora": True},
    ],
)
def test_ranks_and_alphas_by_layer_are_read_as_peft_reads_them(tmp_path, patterns):
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "up_proj"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(tmp_path / "a", **(settings | patterns))
    # As loaded, not as made: saving sorts the patterns, and PEFT takes the first that fits.
    model = PeftModel.from_pretrained(tiny.model(), str(tmp_path / "a")).eval()
    module = Factors.read(tmp_path / "a")
    assert distance(updates(module), peft_updates(model)) < 1e-6
    close(with_module("llama", module, tmp_path / "b"), logits(model))


def test_what_is_written_peft_loads_whole_and_scores_the_same(bank, tmp_path):
    architecture, modules, expected = bank
    for i, (module, update) in enumerate(zip(modules, expected, strict=True)):
        folder = tmp_path / str(i)
        module.write(folder)
        model = PeftModel.from_pretrained(tiny.model(architecture), str(folder)).eval()
        close(logits(model), with_dense(architecture, update))
        assert not torch.allclose(logits(model), logits(tiny.model(architecture)), atol=1e-2)
        state, stored = (
            get_peft_model_state_dict(model),
            load_file(folder / "adapter_model.safetensors"),
        )
        assert state.keys() == stored.keys()
        assert all(torch.equal(state[key], stored[key]) for key in stored)
        found = model.load_adapter(str(folder), "again")
        assert not [key for key in found.missing_keys if "lora_" in key]
        assert not found.unexpected_keys
        Modules.load(tiny.model(architecture), {"a": folder}, trainable=())


def test_what_is_written_is_read_again(bank, tmp_path):
    _, modules, _ = bank
    for i, module in enumerate([*modules, combine(modules, WEIGHTS)]):
        module.write(tmp_path / str(i))
        again = Factors.read(tmp_path / str(i))
        assert again.layers.keys() == module.layers.keys()
        for layer, (a, b) in module.layers.items():
            assert torch.equal(again.layers[layer][0], a)
            assert torch.equal(again.layers[layer][1], b)
        assert (again.rank, again.base) == (module.rank, module.base)


def test_writing_does_not_replace_what_is_there(tmp_path):
    some().write(tmp_path / "a")
    before = (tmp_path / "a" / "adapter_model.safetensors").read_bytes()
    with pytest.raises(FileExistsError):
        some(seed=1).write(tmp_path / "a")
    assert (tmp_path / "a" / "adapter_model.safetensors").read_bytes() == before


def test_the_base_and_the_targets_are_passed_on(tmp_path):
    some(base="some/model").write(tmp_path / "a")
    read = Factors.read(tmp_path / "a")
    assert (read.base, read.targets) == ("some/model", ("q_proj", "v_proj"))
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["lora_alpha"] == config["r"] == 2


@pytest.mark.parametrize(
    "restriction",
    [{"layers_to_transform": [1]}, {"layers_to_transform": 0}, {"exclude_modules": r".*\.1\..*"}],
)
def test_a_module_on_some_layers_only_stays_on_those(tmp_path, restriction):
    model = make(tmp_path / "a", r=2, target_modules=["q_proj", "v_proj"], **restriction)
    module = Factors.read(tmp_path / "a")
    assert len(module.layers) == 2 and module.targets == ()
    module.write(tmp_path / "b")
    loaded = Modules.load(tiny.model(), {"b": tmp_path / "b"}, trainable=())
    assert len(loaded.parameters("b")) == 4
    with loaded.using("b"):
        close(logits(loaded.causal_lm), logits(model))


def test_a_combination_is_the_dense_sum(bank):
    _, modules, expected = bank
    combined = combine(modules, WEIGHTS)
    assert distance(updates(combined), dense_sum(expected, WEIGHTS)) < 1e-6
    for layer, (a, b) in combined.layers.items():
        ranks = [m.layers[layer][0].shape[0] for m in modules if layer in m.layers]
        assert a.shape[0] == b.shape[1] == sum(ranks)


def test_a_combination_answers_as_the_base_with_the_dense_sum(bank, tmp_path):
    architecture, modules, expected = bank
    got = with_module(architecture, combine(modules, WEIGHTS), tmp_path / "sum")
    close(got, with_dense(architecture, dense_sum(expected, WEIGHTS)))
    assert not torch.allclose(got, logits(tiny.model(architecture)), atol=1e-2)


def test_a_bank_of_one_with_weight_1_is_that_module(bank, tmp_path):
    architecture, modules, expected = bank
    got = with_module(architecture, combine(modules[1:2], [1.0]), tmp_path / "one")
    close(got, with_dense(architecture, expected[1]))
    for layer, (a, b) in combine(modules[1:2], [1.0]).layers.items():
        assert torch.equal(a, modules[1].layers[layer][0])
        assert torch.equal(b, modules[1].layers[layer][1])


def test_the_order_of_the_modules_does_not_matter(bank, tmp_path):
    architecture, modules, _ = bank
    orders = [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)]
    got = [
        with_module(
            architecture,
            combine([modules[i] for i in order], [WEIGHTS[i] for i in order]),
            tmp_path / str(order),
        )
        for order in orders
    ]
    close(got[1], got[0])
    close(got[2], got[0])


def test_copies_of_a_module_whose_weights_sum_to_1_are_that_module(bank, tmp_path):
    architecture, modules, expected = bank
    combined = combine([modules[1]] * 3, [0.5, 0.75, -0.25])
    assert distance(updates(combined), expected[1]) < 1e-6
    got = with_module(architecture, combined, tmp_path / "same")
    close(got, with_dense(architecture, expected[1]))


def test_a_module_less_itself_is_the_base(bank, tmp_path):
    architecture, modules, _ = bank
    got = with_module(architecture, combine([modules[1]] * 2, [1.0, -1.0]), tmp_path / "none")
    close(got, logits(tiny.model(architecture)))


def test_sums_of_sums_are_sums(bank):
    _, modules, expected = bank
    inner = combine(modules[:2], [2.0, -1.0])
    outer = combine([inner, modules[2]], [0.5, 3.0])
    assert distance(updates(outer), dense_sum(expected[:3], [1.0, -0.5, 3.0])) < 1e-6


def test_what_modules_have_in_common_is_kept_once(bank):
    """A policy that grew on top of another has its directions, which need no second place."""
    _, modules, expected = bank
    grown = combine(modules[:2], [1.0, 1.0])
    both = combine([grown, modules[0]], [1.3, -0.3])
    total = without_repeats(both)
    assert total.rank == grown.rank < both.rank
    assert distance(updates(total), dense_sum(expected[:2], [1.0, 1.3])) < 1e-6


def test_a_combination_shares_no_memory_with_its_modules():
    module = some()
    combined = combine([module], [1.0])
    kept = module.layers["a.q_proj"][0].clone()
    for a, b in combined.layers.values():
        a.zero_()
        b.zero_()
    assert torch.equal(module.layers["a.q_proj"][0], kept)


def test_targets_and_base_of_a_combination():
    same = combine([some(base="x"), some(seed=1, base="x")], [1.0, 1.0])
    assert (same.targets, same.base) == (("q_proj", "v_proj"), "x")
    unequal = combine([some(), some(("a.q_proj",), targets=("q_proj",))], [1.0, 1.0])
    assert unequal.targets == () and set(unequal.layers) == {"a.q_proj", "a.v_proj"}


@pytest.mark.parametrize("architecture", list(BANKS))
def test_pefts_cat_is_this_sum_and_its_linear_is_not(tmp_path, architecture):
    targets = {"llama": ["q_proj", "v_proj"], "gpt2": ["c_attn", "c_fc"]}[architecture]
    for i, alpha in enumerate((8, 2, 4)):
        options = {"r": 4, "lora_alpha": alpha, "target_modules": targets}
        make(tmp_path / str(i), architecture, seed=i, **options)
    weights = [0.7, -1.3, 2.5]
    model = PeftModel.from_pretrained(tiny.model(architecture), str(tmp_path / "0"), "0")
    for name in "12":
        model.load_adapter(str(tmp_path / name), name)
    modules = [Factors.read(tmp_path / name) for name in "012"]
    expected = with_module(architecture, combine(modules, weights), tmp_path / "sum")
    got = {}
    for way in ("cat", "linear"):
        model.add_weighted_adapter(list("012"), weights, way, combination_type=way)
        model.set_adapter(way)
        got[way] = logits(model.eval())
    base = logits(tiny.model(architecture))
    close(got["cat"], expected)
    assert (got["linear"] - expected).norm() > 0.3 * (expected - base).norm()


def tail(expected, rank):
    """Norm of the singular values beyond the rank over that of all, over every layer."""
    values = [torch.linalg.svd(delta).S for delta in expected.values()]
    lost = sum(s[rank:].square().sum() for s in values)
    return math.sqrt(lost / sum(s.square().sum() for s in values))


def test_recompression_at_the_full_rank_loses_nothing(bank, tmp_path):
    architecture, modules, expected = bank
    combined = combine(modules, WEIGHTS)
    total = dense_sum(expected, WEIGHTS)
    for rank in (combined.rank, combined.rank + 7):
        small, lost = recompress(combined, rank)
        assert lost < 1e-9
        assert distance(updates(small), total) < 1e-6
    close(with_module(architecture, small, tmp_path / "full"), with_dense(architecture, total))


def test_recompression_of_copies_needs_one_copys_rank_only(bank):
    _, modules, expected = bank
    small, lost = recompress(combine([modules[1]] * 3, [1.0, 1.0, 1.0]), 4)
    assert small.rank == 4 and lost < 1e-6
    assert distance(updates(small), dense_sum([expected[1]], [3.0])) < 1e-6


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_recompression_loses_the_tail_of_the_singular_values_and_says_so(bank, tmp_path, rank):
    _, modules, expected = bank
    total = dense_sum(expected, WEIGHTS)
    small, lost = recompress(combine(modules, WEIGHTS), rank)
    assert small.rank == rank
    assert lost > 0.01 and lost == pytest.approx(tail(total, rank), rel=1e-5)
    # By Eckart and Young no module of this rank is nearer, so the distance is the tail itself.
    assert distance(updates(small), total) == pytest.approx(lost, rel=1e-5)
    small.write(tmp_path / "a")
    assert distance(updates(Factors.read(tmp_path / "a")), total) == pytest.approx(lost, rel=1e-5)


def test_recompression_loses_less_the_more_rank_it_has():
    module = some(rank=5)
    lost = [recompress(module, rank)[1] for rank in range(1, 6)]
    assert all(a > b for a, b in itertools.pairwise(lost)) and lost[-1] < 1e-9


def test_recompression_where_the_factors_are_longer_than_the_layer():
    module = combine([some(seed=i) for i in range(6)], [1.0] * 6)
    assert module.rank == 12
    small, lost = recompress(module, 100)
    assert small.rank == 5 and lost == 0
    assert distance(updates(small), updates(module)) < 1e-6


def test_recompression_of_nothing_is_nothing():
    small, lost = recompress(combine([some()], [0.0]), 1)
    assert lost == 0 and not any(update.any() for update in updates(small).values())


@pytest.mark.parametrize("rank", [0, -2])
def test_recompression_to_no_rank_is_refused(rank):
    with pytest.raises(ConfigError, match=f"got rank {rank}; must be 1 or more"):
        recompress(some(), rank)


def test_unequal_counts_are_refused():
    with pytest.raises(ConfigError, match="got 2 modules and 1 weights"):
        combine([some(), some()], [1.0])
    with pytest.raises(ConfigError, match="got 1 modules and 2 weights"):
        combine([some()], [1.0, 2.0])
    with pytest.raises(ConfigError, match="got 0 modules"):
        combine([], [])


def test_modules_of_other_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"shape of a\.q_proj .*\(7, 5\), \(8, 6\)"):
        combine([some(), some(size=6)], [1.0, 1.0])


def edited(folder, **settings):
    """A module's folder with some settings changed."""
    some().write(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, r"not plain LoRA \(use_dora\)"),
        ({"lora_bias": True}, r"not plain LoRA \(lora_bias\)"),
        ({"bias": "all"}, r"not plain LoRA \(bias\)"),
        ({"bias": "lora_only", "use_dora": True}, r"\(bias, use_dora\)"),
        ({"use_qalora": True}, "use_qalora"),
        ({"alora_invocation_tokens": [3, 4]}, "alora_invocation_tokens"),
        ({"arrow_config": {"top_k": 2}}, "arrow_config"),
        ({"kasa_config": {"beta": 1.0}}, "kasa_config"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"target_parameters": ["experts.up"]}, "target_parameters"),
        ({"peft_type": "IA3"}, "holds a IA3 adapter; only LORA"),
        ({"modules_to_save": ["lm_head"]}, r"replaces whole layers \(lm_head\)"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4, which changes the base"),
    ],
)
def test_what_is_more_than_a_product_is_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        Factors.read(edited(tmp_path / "a", **settings))


@pytest.mark.parametrize("settings", [{"init_lora_weights": "gaussian"}, {"bias": "none"}])
def test_what_is_a_product_all_the_same_is_read(tmp_path, settings):
    module = Factors.read(edited(tmp_path / "a", **settings))
    assert distance(updates(module), updates(some())) == 0


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_modules_that_take_their_start_out_of_the_base_are_refused_because_they_do(tmp_path, init):
    make(tmp_path / "a", r=2, target_modules=["q_proj"], init_lora_weights=init)
    base = tiny.model()
    before = base.model.layers[0].self_attn.q_proj.weight.clone()
    PeftModel.from_pretrained(base, str(tmp_path / "a"))
    assert not torch.equal(base.model.layers[0].self_attn.q_proj.base_layer.weight, before)
    with pytest.raises(ConfigError, match=f"init_lora_weights {init}, which changes the base"):
        Factors.read(tmp_path / "a")
    with pytest.raises(ConfigError, match=f"init_lora_weights {init}, which changes the base"):
        Modules.load(tiny.model(), {"a": tmp_path / "a"}, trainable=())


def test_pickled_and_damaged_weights_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no adapter"):
        Factors.read(tmp_path)
    some().write(tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(weights)
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ConfigError, match="damaged"):
        Factors.read(tmp_path / "a")
    torch.save(tensors, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ConfigError, match="pickled weights are refused"):
        Factors.read(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t | {"base_model.model.a.wte.lora_embedding_A": torch.ones(2, 3)},
            "wte",
        ),
        (
            lambda t: t | {"base_model.model.a.q_proj.lora_B.bias": torch.ones(7)},
            "holds more than .*bias",
        ),
        (
            lambda t: {k: v for k, v in t.items() if "q_proj.lora_A" not in k},
            "a.q_proj has only one of",
        ),
        (
            lambda t: {k: v for k, v in t.items() if "q_proj.lora_B" not in k},
            "a.q_proj has only one of",
        ),
        (
            lambda t: t | {"base_model.model.a.q_proj.lora_B.weight": torch.ones(7, 3)},
            r"do not match: lora_A is \(2, 5\), lora_B is \(7, 3\)",
        ),
        (lambda t: {}, "holds no layer's update"),
    ],
)
def test_weights_that_are_no_pairs_of_factors_are_refused(tmp_path, change, message):
    some().write(tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    save_file(change(load_file(weights)), weights)
    with pytest.raises(ConfigError, match=message):
        Factors.read(tmp_path / "a")
