"""Runs held near the adapter they start from, and the importance of each weight."""

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import fastslow
from fastslow import training
from fastslow.adapters import BASE, Modules
from fastslow.errors import ConfigError
from fastslow.objectives import make_objective
from fastslow.records import Pair
from fastslow.scoring import Encoder, Scorer
from fastslow.training.continual.fisher import fisher_information
from fastslow.training.policies.policies import Policies

ENCODER = Encoder(tiny.tokenizer(), max_length=96)
PAIRS = [
    ENCODER.encode(Pair(f"Say {i}.", row["chosen"], row["rejected"]))
    for i, row in enumerate(tiny.rows(5))
]


def moved_modules(dropout=0.0):
    modules = Modules.attach(tiny.model(), ("policy",), rank=2, alpha=4.0, dropout=dropout)
    generator = torch.Generator().manual_seed(1)
    for parameter in modules.parameters("policy").values():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return modules


def fisher_of(modules):
    policies = Policies(modules, bfloat16=False, max_length=96, pad_id=0)
    return fisher_information(policies, "policy", BASE, make_objective("dpo"), PAIRS)


def test_fisher_information_is_the_mean_squared_gradient_of_each_pair():
    modules = moved_modules()
    found = fisher_of(modules)
    parameters = modules.parameters("policy")
    scorer, device = Scorer(modules.causal_lm), torch.device("cpu")
    expected = {key: torch.zeros_like(value) for key, value in parameters.items()}
    for item in PAIRS:
        tree = item.tree
        with modules.using(BASE), torch.no_grad():
            base = [scorer.score_alone(tree.prompt, r, device=device) for r in tree.responses]
        with modules.using("policy"):
            own = [scorer.score_alone(tree.prompt, r, device=device) for r in tree.responses]
            margin = (own[0] - base[0]) - (own[1] - base[1])
            loss = -torch.nn.functional.logsigmoid(0.1 * margin)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
        for key, gradient in zip(parameters, gradients, strict=True):
            expected[key] += gradient**2 / len(PAIRS)
    assert found.keys() == {key.replace(".policy.", ".") for key in parameters}
    for key, value in expected.items():
        largest = value.max().item()
        assert largest > 0
        torch.testing.assert_close(
            found[key.replace(".policy.", ".")], value, rtol=1e-3, atol=1e-5 * largest
        )


def test_dropout_takes_no_part_in_fisher_information():
    plain, dropped = fisher_of(moved_modules()), fisher_of(moved_modules(dropout=0.5))
    assert all(torch.equal(plain[key], dropped[key]) for key in plain)


@pytest.fixture(scope="module")
def start(model_folder, train_file, tmp_path_factory):
    """An adapter to start from."""
    folder = tmp_path_factory.mktemp("start") / "run"
    training.train(
        {
            "model": str(model_folder),
            "output_dir": str(folder),
            "data": {"train": str(train_file), "max_length": 96},
            "lora": {"rank": 2, "alpha": 4.0},
            "chase": None,
            "train": {"batch_size": 8, "learning_rate": 1e-2, "max_steps": 2},
        }
    )
    return folder / "adapters" / "policy"


@pytest.fixture
def continued(recipe, start, tmp_path):
    """The adapter after more steps on contradicting pairs, by the settings of the anchor."""
    rows = tiny.domain_rows("cold", 96)
    data = tiny.write_rows(tmp_path / "cold.jsonl", rows)

    def run(name, anchor, *overrides):
        made = recipe(
            f"output_dir={tmp_path / name}", f"data.train={data}", "data.eval=null",
            "train.schedule=constant", *overrides,
            lora={"start_from": str(start)}, anchor=anchor,
        )  # fmt: skip
        summary = training.train(made)
        return {
            key: load_file(Path(made.output_dir) / path / "adapter_model.safetensors")
            for key, path in summary.adapters.items()
        }

    return run


def distance(first, second):
    assert first.keys() == second.keys()
    return sum((first[k] - second[k]).square().sum().item() for k in first) ** 0.5


def ones_like(start, folder, value=1.0):
    """Importances under the names that a run expects."""
    weights = load_file(start / "adapter_model.safetensors")
    path = folder / "fisher.safetensors"
    save_file({key: torch.full_like(tensor, value) for key, tensor in weights.items()}, path)
    return path


def test_the_strength_decides_how_far_modules_go(continued, start):
    anchor = load_file(start / "adapter_model.safetensors")
    free = continued("free", None)
    tight = continued("tight", {"strength": 1e4})
    loose = continued("loose", {"strength": 1e-9})
    for name in ("fast", "slow"):
        reach = distance(free[name], anchor)
        assert reach > 0
        assert distance(loose[name], free[name]) < 0.01 * reach
    # The fast module's optimiser takes steps of about the rate whatever the gradient; the pull
    # takes each of them back, so that it stays within a step of where it began.
    one = continued("one", None, "train.max_steps=1")
    assert distance(tight["fast"], anchor) < 1.5 * distance(one["fast"], anchor)
    assert distance(tight["fast"], anchor) < 0.4 * distance(free["fast"], anchor)
    assert distance(tight["slow"], anchor) < 0.4 * distance(free["slow"], anchor)


def test_importances_of_one_are_l2_sp_bit_for_bit_and_of_zero_are_no_anchor(
    continued, start, tmp_path
):
    short = ("chase=null", "train.max_steps=4")
    l2_sp = continued("l2", {"strength": 0.3}, *short)["policy"]
    free = continued("free", None, *short)["policy"]
    ones, zeros = (ones_like(start, _folder(tmp_path / str(v)), v) for v in (1.0, 0.0))
    ewc = continued("ewc", {"strength": 0.3, "fisher": str(ones)}, *short)["policy"]
    none = continued("none", {"strength": 0.3, "fisher": str(zeros)}, *short)["policy"]
    assert distance(ewc, l2_sp) == 0.0 and distance(none, free) == 0.0
    assert distance(ewc, free) > 0


def _folder(path):
    path.mkdir()
    return path


def test_importances_of_other_weights_are_refused(continued, start, tmp_path):
    path = ones_like(start, tmp_path)
    right = load_file(path)
    key = min(right)
    for number, (content, message) in enumerate(
        [
            (None, "cannot be read"),
            (b"no tensors", "cannot be read"),
            ({k: v for k, v in right.items() if k != key}, "is of other weights"),
            (right | {"more": torch.ones(1)}, "is of other weights"),
            (right | {key: right[key][:1].clone()}, "is of other weights"),
        ]
    ):
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            save_file(content, path)
        with pytest.raises(ConfigError, match=f"anchor.fisher: {path}.*{message}"):
            continued(f"run{number}", {"strength": 1.0, "fisher": str(path)})


def test_a_changed_importance_file_is_noticed_on_resumption(recipe, start, tmp_path):
    path = ones_like(start, tmp_path)
    made = recipe(
        "data.eval=null", "checkpoint.every=2",
        lora={"start_from": str(start)}, anchor={"strength": 1.0, "fisher": str(path)},
    )  # fmt: skip

    def cut(event):
        if event["event"] == "step" and event["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=cut)
    ones_like(start, tmp_path, 2.0)
    with pytest.raises(fastslow.errors.StateError, match="the fisher information of the run"):
        training.train(made)


def test_an_anchor_needs_an_adapter_to_start_from(recipe):
    with pytest.raises(ConfigError, match="set lora.start_from"):
        recipe(anchor={"strength": 1.0})
