"""`train.precision: auto` takes what the device computes in hardware."""

import pytest
import torch

from fastslow import training
from fastslow.config import TrainConfig
from fastslow.training.policies import precision
from fastslow.training.policies.precision import in_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def cpu_has(monkeypatch):
    def have(*names):
        found = dict.fromkeys(names, True) | {"avx2": True}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)

    return have


def chosen(name, device):
    return in_bfloat16(TrainConfig(precision=name), device)


@pytest.mark.parametrize("device", [CPU, GPU, torch.device("mps")])
def test_what_a_recipe_names_is_taken_on_every_device(cpu_has, device):
    cpu_has()
    assert not chosen("float32", device)
    assert chosen("mixed", device) and chosen("bfloat16", device)


def test_a_cpu_computes_in_what_it_has(cpu_has):
    cpu_has()
    assert not chosen("auto", CPU)
    for name in precision.IN_HARDWARE:
        cpu_has("avx512_f", name)
        assert chosen("auto", CPU)
    cpu_has("avx512_f")
    assert not chosen("auto", CPU)


def test_with_a_torch_that_cannot_tell_a_cpu_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not chosen("auto", CPU)


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_does_so_where_it_has_bfloat16(monkeypatch, has):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert chosen("auto", GPU) is has
    assert not chosen("auto", torch.device("mps"))


@pytest.mark.parametrize(("has", "as_named"), [((), "float32"), (("amx_bf16",), "mixed")])
def test_an_automatic_run_learns_what_the_named_one_learns(
    recipe, cpu_has, tmp_path, has, as_named
):
    cpu_has(*has)
    hashes, began = [], []
    for name in ("auto", as_named):
        made = recipe(
            f"train.precision={name}", f"output_dir={tmp_path / name}", "train.max_steps=2"
        )
        seen = []
        training.train(made, listener=seen.append)
        (start,) = [event for event in seen if event["event"] == "start"]
        began.append(start["bfloat16"])
        path = tmp_path / name / "adapters" / "fast" / "adapter_model.safetensors"
        hashes.append(path.read_bytes())
        assert name != "auto" or not [event for event in seen if event["event"] == "warning"]
    assert hashes[0] == hashes[1] and began == [as_named == "mixed"] * 2
