"""The real model and real pairs. Skipped, visibly, where they are not beside the checkout."""

import gzip
import json
import math
from functools import partial
from itertools import islice

import fork_server
import pytest
import torch

import fastslow
from fastslow import training
from fastslow.adapters import Modules, load_base, load_tokenizer
from fastslow.objectives import make_objective
from fastslow.scoring import Encoded, Encoder, Scorer, tree_batch
from fastslow.streams import ExampleStream, open_sources
from fastslow.training.loop.logps import logps_of, score_reference
from fastslow.training.policies.policies import Policies

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model_path(shared):
    return str(shared / "models" / "base-6m")


def encoded(shared, model_path, domain, count, *, max_length=512, wanted=lambda pair: True):
    encoder = Encoder(load_tokenizer(model_path), max_length=max_length)
    stream = ExampleStream(open_sources([str(shared / "data" / domain / "train.jsonl.gz")]))
    items = (encoder.encode(pair) for pair in stream if wanted(pair))
    return list(islice((item for item in items if isinstance(item, Encoded)), count))


@pytest.mark.parametrize("count", [24, pytest.param(100, marks=pytest.mark.slow)])
def test_trees_equal_single_responses_on_multi_turn_pairs(shared, model_path, count):
    pairs = encoded(
        shared, model_path, "helpfulness", count, wanted=lambda p: not isinstance(p.prompt, str)
    )
    assert len(pairs) == count and all(len(item.example.prompt) >= 3 for item in pairs)
    ordered = sorted((item.tree for item in pairs), key=lambda tree: tree.num_tokens)
    scorer = Scorer(load_base(model_path))
    worst = 0.0
    with torch.no_grad():
        for first in range(0, count, 8):
            trees = ordered[first : first + 8]
            together = scorer.score(tree_batch(trees, pad_id=0))
            alone = [
                scorer.score_alone(t.prompt, r, device=CPU) for t in trees for r in t.responses
            ]
            # Sums of hundreds of nats: float32 holds them to about 1e-7 of their size.
            limit = 1e-4 + 1e-6 * torch.stack(alone).abs()
            difference = (together - torch.stack(alone)).abs()
            assert (difference <= limit).all()
            worst = max(worst, difference.max().item())
    assert worst > 0  # Two ways of computing were compared, not one with itself.


def test_bfloat16_and_float32_agree_to_rounding(shared, model_path):
    # A few: a processor without bfloat16 takes a minute for them.
    items = encoded(shared, model_path, "sentiment", 4, max_length=128)
    scores = {}
    for precision in ("float32", "bfloat16"):
        base = load_base(model_path, precision=precision)
        modules = Modules.attach(base, ("policy",), rank=4, alpha=8.0)
        policies = Policies(modules, bfloat16=precision == "bfloat16", max_length=128, pad_id=0)
        assert policies.layout.trees
        scores[precision] = policies.score("base", policies.batch([i.tree for i in items]))
        assert scores[precision].dtype == torch.float32
    relative = ((scores["bfloat16"] - scores["float32"]) / scores["float32"]).abs()
    assert relative.max() < 0.01


TRL_NAMES = {"dpo": "sigmoid", "ipo": "ipo", "hinge": "hinge", "robust_dpo": "robust"}


@pytest.fixture(scope="module")
def some_pairs(shared, model_path, request):
    """Real pairs, our policies with weights that disagree with the base, and TRL's trainer."""
    trl = pytest.importorskip("trl", reason="NOT COMPARED WITH TRL: it is not installed")
    import datasets
    from peft import LoraConfig

    count = request.param
    items = encoded(
        shared, model_path, "helpfulness", count, wanted=lambda p: len(str(p.prompt)) < 400
    )
    base = load_base(model_path)
    modules = Modules.attach(base, ("policy",), rank=4, alpha=8.0)
    draw = torch.Generator().manual_seed(0)
    for parameter in modules.parameters("policy").values():
        parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=draw))
    policies = Policies(modules, bfloat16=False, max_length=512, pad_id=0)

    def turns(text, role):
        if isinstance(text, str):
            return [{"role": role, "content": text}]
        return [{"role": turn.role, "content": turn.content} for turn in text]

    rows = [
        {
            "prompt": turns(item.example.prompt, "user"),
            "chosen": turns(item.example.chosen, "assistant"),
            "rejected": turns(item.example.rejected, "assistant"),
        }
        for item in items
    ]

    def trainer(loss_type, folder):
        made = trl.DPOTrainer(
            model=load_base(model_path),
            args=trl.DPOConfig(
                output_dir=str(folder), loss_type=[loss_type], beta=0.1, max_length=512,
                label_smoothing=0.1 if loss_type == "robust" else 0.0, use_cpu=True, bf16=False,
                gradient_checkpointing=False, report_to=[], per_device_train_batch_size=count,
            ),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=load_tokenizer(model_path),
            peft_config=LoraConfig(
                r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )  # fmt: skip
        named = dict(made.model.named_parameters())
        for key, value in modules.tensors("policy").items():
            named[key.replace(".policy.", ".default.")].data.copy_(value)
        return made, named

    return items, policies, trainer


# In one batch, which took TRL 9 GB for 32.
@pytest.mark.parametrize(
    ("some_pairs", "name"),
    [(4, "dpo"), *(pytest.param(12, name, marks=pytest.mark.slow) for name in TRL_NAMES)],
    indirect=["some_pairs"],
)
def test_losses_and_gradients_equal_trls(some_pairs, tmp_path, name):
    items, policies, make_trainer = some_pairs
    hyper = {"label_smoothing": 0.1} if name == "robust_dpo" else {}
    objective = make_objective(name, **hyper)
    prepared = score_reference(policies, objective, items, reference="base")
    logps = logps_of(prepared, objective, partial(policies.measure, "policy", learning=True))
    loss = objective(logps).loss.mean()
    own = policies.modules.parameters("policy")
    gradients = torch.autograd.grad(loss, list(own.values()))

    trainer, named = make_trainer(TRL_NAMES[name], tmp_path)
    trainer.model.train()
    rows = trainer.data_collator([trainer.train_dataset[i] for i in range(len(items))])
    theirs = trainer.compute_loss(trainer.model, rows)
    theirs.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-4)
    assert loss.item() != pytest.approx(objective_at_start(name), rel=1e-5)
    for key, gradient in zip(own, gradients, strict=True):
        expected = named[key.replace(".policy.", ".default.")].grad
        error = (gradient - expected).norm() / expected.norm()
        assert error < 1e-4, f"{key}: {error}"


def objective_at_start(name):
    return {"dpo": 0.693147, "robust_dpo": 0.693147, "hinge": 1.0, "ipo": 25.0}[name]


@pytest.mark.slow
@pytest.mark.processes
def test_a_short_run_learns_and_its_adapter_works_without_fastslow(shared, model_path, tmp_path):
    data = shared / "data" / "sentiment"
    recipe = fastslow.load_recipe(
        {
            "model": model_path,
            "output_dir": str(tmp_path / "run"),
            "data": {
                "train": str(data / "train.jsonl.gz"),
                "eval": str(data / "test.jsonl.gz"),
                "max_length": 128,
                "shuffle": 1024,
            },
            "train": {
                "learning_rate": 5e-4, "max_steps": 20, "batch_size": 16,
                "micro_batch_size": 4,
            },
            "eval": {"max_pairs": 160, "num_prompts": 0},
        }
    )  # fmt: skip
    summary = training.train(recipe)
    assert summary.eval["start"]["accuracy"] == 0.5
    final = summary.eval["final"]
    assert final["accuracy"] >= 0.6
    assert final["loss"] < math.log(2) and final["margin"] > 0.1
    adapter = tmp_path / "run" / summary.adapters[summary.leader]

    encoder = Encoder(load_tokenizer(model_path), max_length=128)
    with gzip.open(data / "test.jsonl.gz", "rt") as file:
        row = json.loads(file.readline())
    tree = encoder.tree(row["prompt"], (row["chosen"], row["rejected"]))
    loaded = Modules.load(load_base(model_path), {"policy": adapter}, trainable=())
    policies = Policies(loaded, bfloat16=False, max_length=512, pad_id=0)
    expected = policies.score("policy", policies.batch([tree])).tolist()
    base = policies.score("base", policies.batch([tree])).tolist()
    script = f"""
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({model_path!r}, dtype=torch.float32)
model = PeftModel.from_pretrained(model, {str(adapter)!r}).eval()
scores = []
for response in {[list(r) for r in tree.responses]}:
    ids = torch.tensor([{list(tree.prompt)} + response])
    logps = model(ids).logits.log_softmax(-1)[0, len({list(tree.prompt)}) - 1 : -1]
    scores.append(logps.gather(-1, torch.tensor(response)[:, None]).sum().item())
assert "fastslow" not in sys.modules
print(json.dumps(scores))
"""
    done = fork_server.run("-c", script, bare=True)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout.splitlines()[-1])
    assert got == pytest.approx(expected, abs=2e-3)
    assert abs(got[0] - base[0]) > 0.01
