"""What a run will take, found out before its model is loaded, against what it then takes."""

import gc
import json
import weakref

import fork_server
import pytest
import tiny
import torch

from fastslow import training
from fastslow.cli.validate import validate
from fastslow.config import dump_recipe
from fastslow.errors import ConfigError
from fastslow.objectives import make_objective
from fastslow.scoring import Tree, layers_of, score
from fastslow.scoring.ragged import Ragged
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.memory import estimate as memory_module
from fastslow.training.memory.device_memory import free_memory, peak_memory
from fastslow.training.memory.estimate import estimate_memory
from fastslow.training.policies.loading import make_base, make_modules, make_policies

CPU = torch.device("cpu")
ALONE = ProcessGroup()
TREES = [Tree((5,) * 20, ((6,) * 30, (7,) * 10))] * 8
MANY = Tree((5,) * 20, ((6,) * 30,) * 2)


def estimated(recipe, trees, processes=ALONE):
    return estimate_memory(
        recipe, trees, objective=make_objective("dpo"), device=CPU, processes=processes
    )


def kept_bytes(recipe, trees, *, name="fast"):
    """What a real forward pass keeps for its backward pass, without the model."""
    modules = make_modules(recipe, make_base(recipe, ALONE), critic=False)
    policies = make_policies(recipe, modules, tiny.tokenizer(), ALONE)
    known = {p.untyped_storage().data_ptr() for p in modules.model.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        scores = policies.score(name, policies.batch(trees), learning=True)
    assert scores.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_base_and_modules_are_counted_to_the_byte(recipe, precision):
    made = recipe(f"train.precision={precision}", "lora.rank=4")
    found = estimated(made, TREES)
    modules = make_modules(made, make_base(made, ALONE), critic=False)
    own = sum(p.numel() * 4 for name in ("fast", "slow") for p in modules.parameters(name).values())
    assert found.modules == 4 * own  # Weights, gradients, two moments.
    lora = {id(p) for name in modules.names for p in modules.parameters(name).values()}
    frozen = [p for p in modules.model.parameters() if id(p) not in lora]
    buffers = sum(b.numel() * b.element_size() for b in modules.model.buffers())
    assert found.base == sum(p.numel() * p.element_size() for p in frozen) + buffers


def test_four_bits_are_of_the_layers_weights_alone(recipe, tmp_path):
    folder = tiny.save_model(tmp_path / "qwen2", architecture="qwen2")
    half = recipe(f"model={folder}", "train.precision=bfloat16")
    loaded = dict(make_base(half, ALONE).named_parameters())
    layers = [p for name, p in loaded.items() if "proj.weight" in name]
    assert len(layers) == 14 and any(name.endswith("proj.bias") for name in loaded)
    saved = sum((2 - memory_module.NF4) * p.numel() for p in layers)
    quarter = half.model_copy(update={"load_in_4bit": True})
    before, after = (estimated(r, TREES).base for r in (half, quarter))
    assert after == pytest.approx(before - saved, abs=1)


class Three(ProcessGroup):
    """As if the layers were divided over three processes."""

    size, sharded = 3, True


def test_of_divided_layers_a_part_is_here_and_two_are_whole(recipe):
    layer = sum(
        p.numel() * 4 for name, p in make_base(recipe(), ALONE).named_parameters() if ".0." in name
    )
    whole, part = (estimated(recipe(), TREES, processes) for processes in (ALONE, Three()))
    assert part.base == whole.base - 2 * layer + 2 * layer // 3 + 2 * layer
    assert part.modules == whole.modules and part.activations == whole.activations


def test_activations_are_those_that_a_real_pass_keeps(recipe):
    made = recipe()
    kept = kept_bytes(made, TREES)
    two = estimated(made, TREES).activations / memory_module.SCATTERED
    one = estimated(recipe(chase=None), TREES).activations
    assert two - one / memory_module.SCATTERED == pytest.approx(kept, rel=0.05)


@pytest.mark.parametrize("one_call", [False, True])
def test_a_gpus_calls_of_attention_can_be_estimated(recipe, monkeypatch, one_call):
    monkeypatch.setattr(score, "ON_CPU", score.ON_GPU)
    monkeypatch.setattr(Ragged, "takes", lambda own, query: one_call)
    assert estimated(recipe(), TREES).activations > 0


def test_more_is_more(recipe):
    def of(*overrides, trees=TREES, **sections):
        return estimated(recipe(*overrides, **sections), trees)

    plain = of()
    assert of(trees=TREES[:4]).activations == pytest.approx(plain.activations / 2, rel=0.1)
    assert of("train.gradient_checkpointing=true").activations < 0.5 * plain.activations
    assert of("train.optimizer=sgd").modules == plain.modules / 2
    assert of("train.precision=bfloat16").base < 0.6 * plain.base
    assert of(chase=None).modules == plain.modules / 2


def test_nothing_is_allocated_for_it(recipe):
    before = peak_memory(CPU)
    huge = [Tree((5,) * 200_000, ((6,) * 1000, (7,) * 1000))]
    assert estimated(recipe(), huge).activations > 500e6
    assert peak_memory(CPU) - before < 50e6


@pytest.fixture
def scarce(monkeypatch):
    """So many bytes are free, and no model is too small to ask."""

    def make(free):
        monkeypatch.setattr(memory_module, "SMALL", 0)
        monkeypatch.setattr(memory_module, "free_memory", lambda device: free)

    return make


def test_a_run_that_does_not_fit_is_refused_with_what_would(recipe, scarce, tmp_path):
    made = recipe()
    need = estimated(made, [MANY] * 8)
    scarce(need.base + need.modules + need.activations // 3)
    with pytest.raises(ConfigError) as refused:
        training.train(made)
    text = str(refused.value)
    assert text.startswith("memory: this run needs about ") and "are free on cpu" in text
    assert "train.micro_batch_size: 2 needs about" in text
    assert " or train.micro_batch_size: 1 needs" in text
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_validation_says_what_would_be_taken_and_refuses_nothing(recipe, scarce, tmp_path, capsys):
    made = recipe()
    scarce(1000)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(made))
    validate([str(tmp_path / "recipe.yaml")], show=0, json_output=True)
    found = json.loads(capsys.readouterr().out)["train"]["memory (GB)"]
    assert list(found) == ["total", "base", "modules", "activations"]
    assert found["total"] == pytest.approx(sum(found.values()) / 2, abs=0.02) and found["total"] > 0
    validate([str(tmp_path / "recipe.yaml")], show=0, json_output=False)
    assert f"total {found['total']}, base" in capsys.readouterr().out


def test_validation_estimates_what_is_known_and_fresh_answers(recipe, scarce, tmp_path, capsys):
    scarce(10**9)
    online = recipe(
        online={"num_generations": 2, "max_new_tokens": 4},
        judge={"kind": "rule", "file": str(_rule(tmp_path))},
    )
    staged = recipe(stages=["sft", "preferences"])
    for made, wanted in [(online, "train"), (staged, "stage 1, sft: train")]:
        (tmp_path / "recipe.yaml").write_text(dump_recipe(made))
        validate([str(tmp_path / "recipe.yaml")], show=0, json_output=True)
        found = json.loads(capsys.readouterr().out)
        assert [name for name in found if "memory (GB)" in found[name]] == [wanted]


def test_where_nothing_helps_this_is_said(recipe, scarce):
    scarce(1000)
    with pytest.raises(ConfigError, match="use a smaller model or lower data.max_length"):
        training.train(recipe())


def test_an_objective_that_needs_its_batch_whole_is_not_told_to_split_it(recipe, scarce, tmp_path):
    scarce(10**9)
    done = training.train(recipe("train.max_steps=1", f"output_dir={tmp_path / 'first'}"))
    scarce(0.7 * done.memory["estimated"])
    with pytest.raises(ConfigError, match=r"; train.gradient_checkpointing: true needs") as refused:
        training.train(recipe("objective.name=beta_dpo"))
    assert "micro_batch_size" not in str(refused.value)


def test_what_fits_is_estimated_in_the_summary(recipe, scarce):
    scarce(10**9)
    summary = training.train(recipe("train.max_steps=2"))
    assert 0 < summary.memory["estimated"] < summary.memory["peak"]


def test_a_model_that_cannot_be_estimated_is_trained_all_the_same(recipe, scarce, monkeypatch):
    def refuse(*args, **settings):
        raise torch._subclasses.fake_tensor.DynamicOutputShapeException("aten.nonzero.default")

    scarce(10**9)
    monkeypatch.setattr(memory_module, "estimate_memory", refuse)
    heard = []
    summary = training.train(recipe("train.max_steps=1"), listener=heard.append)
    assert summary.memory["estimated"] is None
    warnings = [event["message"] for event in heard if event["event"] == "warning"]
    assert any("could not be estimated (aten.nonzero.default)" in text for text in warnings)


def test_small_models_are_not_asked_about(recipe):
    assert training.train(recipe("train.max_steps=1")).memory["estimated"] is None


@pytest.mark.parametrize("frozen", [False, True])
def test_fresh_answers_and_adapters_to_start_from_are_estimated(recipe, scarce, tmp_path, frozen):
    scarce(10**9)
    first = training.train(recipe("train.max_steps=1", f"output_dir={tmp_path / 'first'}"))
    start = tmp_path / "first" / first.adapters["fast"]
    made = recipe(
        "train.max_steps=1",
        lora={"start_from": str(start), "freeze_start": frozen},
        online={"num_generations": 2, "max_new_tokens": 4},
        judge={"kind": "rule", "file": str(_rule(tmp_path))},
    )
    assert training.train(made).memory["estimated"] > 0


def _rule(folder):
    path = folder / "rule.py"
    path.write_text("def score(prompt, answer):\n    return float(len(answer))\n")
    return path


@pytest.mark.processes
def test_what_is_free_and_what_was_held():
    """Held by this process alone: its parent, where it is a fresh one, has held more."""
    held = torch.ones(100_000_000)
    assert 1e6 < free_memory(CPU) < 1e13
    assert free_memory(torch.device("meta")) is None
    code = (
        "import torch; from fastslow.training.memory.device_memory import peak_memory;"
        "d = torch.device('cpu');"
        "a = peak_memory(d); t = torch.ones(50_000_000); b = peak_memory(d); del t;"
        "assert 0.12e9 < b - a < 0.22e9 and peak_memory(d) > 0.99 * b, (a, b)"
    )
    done = fork_server.run("-c", code)
    assert done.returncode == 0, done.stderr
    assert peak_memory(CPU) > held.nbytes


def test_a_base_is_let_go_at_once(recipe):
    run = tiny.components(recipe("train.gradient_checkpointing=true", "data.eval=null"))
    batches = iter(run.reader)
    run.learner.step(next(batches))
    batches.close()
    layer = weakref.ref(layers_of(run.learner.policies.modules.causal_lm)[0])
    gc.disable()
    try:
        del run, batches
        assert layer() is None
    finally:
        gc.enable()
