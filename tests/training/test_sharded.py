"""Processes that divide the base's layers learn, bit for bit, what those with a whole one do."""

import json
from pathlib import Path

import fork_server
import pytest
import tiny
from safetensors.torch import load_file
from two import DIVIDED, TRAIN, WHOLE, events, in_two, written

pytestmark = pytest.mark.processes

SAMPLED = {"max_new_tokens": 5, "temperature": 1.5, "num_generations": 3}


def told(folder):
    """What a run and its parts wrote about themselves, without what was timed."""
    folders = sorted(path.parent for path in Path(folder).rglob("events.jsonl"))
    assert folders, folder
    return [
        {k: v for k, v in event.items() if k != "pairs_per_s"}
        for part in folders
        for event in events(part)
        if "times slower" not in event.get("message", "")
    ]


def same_runs(recipe, tmp_path, kinds, some, *settings):
    """Kinds of runs in two processes with whole and with divided layers: some in `make test`, all
    in `make slow`."""
    kinds = kinds if fork_server.COLD else {name: kinds[name] for name in some}
    made = {
        where: [
            recipe(f"output_dir={tmp_path / where / name}", *settings, *own, **sections)
            for name, (own, sections) in kinds.items()
        ]
        for where in ("whole", "divided")
    }
    for where in made:
        (tmp_path / where).mkdir()
    whole = in_two(TRAIN, 0, *map(written, made["whole"]), **WHOLE)
    sharded = in_two(TRAIN, 0, *map(written, made["divided"]), **DIVIDED)
    assert whole == sharded
    assert all(isinstance(result, list) for result in sharded[0]), sharded[0]
    for name, one, other in zip(kinds, made["whole"], made["divided"], strict=True):
        assert told(one.output_dir) == told(other.output_dir), name
        assert tiny.same(tiny.adapters(one.output_dir), tiny.adapters(other.output_dir)), name


def test_learning_is_the_same_to_the_bit(recipe, tmp_path):
    # Batches of 5 and a last one of 1: one process has nothing to do while the other has.
    kinds = {
        "ofs": (("train.micro_batch_size=1", "eval.num_prompts=3"), {}),
        "again": (("train.gradient_checkpointing=true", "lora.dropout=0.2"), {}),
        "epochs": (("train.epochs=2", "train.max_steps=5", "chase=null"), {}),
        "mixed": (("train.precision=mixed",), {}),
        "bfloat16": (("train.precision=bfloat16", "eval.num_prompts=1"), {}),
        "slow": (("chase.slow_every=2",), {}),
        "reward": ((), {"task": "reward", "chase": None}),
        "beta": ((), {"objective": {"name": "beta_dpo"}}),
        "delay": (("data.label_delay=4",), {}),
    }
    rows = tiny.write_rows(tmp_path / "few.jsonl", tiny.rows(16, seed=4))
    settings = (
        f"data.train={rows}", "train.batch_size=5", "eval.every=2", "eval.num_prompts=0",
        "eval.max_new_tokens=4", "eval.max_pairs=5",
    )  # fmt: skip
    same_runs(recipe, tmp_path, kinds, ("ofs", "reward"), *settings)


def test_sampling_is_the_same_to_the_bit(recipe, tmp_path):
    rule = tmp_path / "rule.py"
    rule.write_text(
        "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
    )
    judge = {"kind": "rule", "file": str(rule)}
    kinds = {
        "rloo": ((), {"objective": {"name": "rloo"}, "online": SAMPLED, "judge": judge}),
        "ppo": ((), {"objective": {"name": "ppo"}, "online": SAMPLED, "judge": judge}),
        "hypo": ((), {"online_kl": {"weight": 0.05, "num_generations": 2, "max_new_tokens": 6}}),
        "filter": ((), {"filter": {"num_generations": 2, "max_new_tokens": 6}, "judge": judge}),
        "rounds": (
            (),
            {"rounds": {**SAMPLED, "count": 2, "prompts_per_round": 5}, "judge": judge},
        ),
    }
    settings = (
        "train.max_steps=2", "eval.num_prompts=1", "eval.max_new_tokens=3", "eval.max_pairs=5",
        "train.batch_size=3", "chase=null",
    )  # fmt: skip
    same_runs(recipe, tmp_path, kinds, ("ppo",), *settings)


CONTINUAL = """
import json, sys
from fastslow import training
from fastslow.training.continual import merge_weights

merge_weights.STEPS = 4
summary = training.train(sys.argv[1])
print("RESULT", json.dumps(summary.domains))
"""


@pytest.mark.slow
def test_domains_one_after_another_are_the_same_to_the_bit(continual, tmp_path):
    found = {}
    for where, settings in (("whole", WHOLE), ("divided", DIVIDED)):
        made = continual(
            "train.max_steps=3", "eval.num_prompts=1", "eval.max_new_tokens=3",
            f"output_dir={tmp_path / where}",
        )  # fmt: skip
        first, second = in_two(CONTINUAL, written(made), **settings)
        assert first == second
        files = sorted(Path(made.output_dir).rglob("adapter_model.safetensors"))
        found[where] = {str(f.relative_to(made.output_dir)): load_file(f) for f in files}
    assert len(found["whole"]) > 4
    assert tiny.same(found["divided"], found["whole"])


HELD = """
import json, sys, torch
from torch.distributed.tensor import DTensor
from fastslow.config import load_recipe
from fastslow.scoring import Tree, layers_of
from fastslow.training.policies.loading import make_base, make_modules, make_policies
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.adapters import load_tokenizer

recipe = load_recipe(sys.argv[1])
processes = ProcessGroup()
modules = make_modules(recipe, make_base(recipe, processes), critic=False)
policies = make_policies(recipe, modules, load_tokenizer(recipe.model), processes)
def held():
    layers = [p for layer in layers_of(modules.causal_lm) for p in layer.parameters()]
    divided = [p for p in layers if isinstance(p, DTensor)]
    return [sum(p.to_local().numel() for p in divided), sum(p.numel() for p in divided)]
before = held()
scores = policies.score("fast", policies.batch([Tree((5, 6), ((7, 8), (9,)))]), learning=True)
during = held()
scores.sum().backward()
print("RESULT", json.dumps([before, during, held()]))
"""


def test_each_holds_its_part_of_the_layers_before_during_and_after_a_step(recipe):
    for before, during, after in sum(in_two(HELD, written(recipe()), **DIVIDED), []):
        assert before == during == after
        mine, all_of_them = before
        assert mine == pytest.approx(all_of_them / 2, rel=0.01)


REFUSED = {
    "fsdp_version": ({"FSDP_VERSION": "1"}, (), "--fsdp_version 2"),
    "offload": ({"FSDP_OFFLOAD_PARAMS": "true"}, (), "fsdp_offload_params"),
    "anew": (
        {"FSDP_ACTIVATION_CHECKPOINTING": "true"},
        (),
        "set train.gradient_checkpointing in the recipe",
    ),
    "compile": (
        {},
        ("train.compile=true",),
        "train.compile: cannot be combined with a sharded base",
    ),
    "four bits": (
        {},
        ("load_in_4bit=true", "train.precision=bfloat16"),
        "load_in_4bit: cannot be combined with a sharded base",
    ),
    "deepspeed": ({"ACCELERATE_USE_DEEPSPEED": "true"}, (), "--use_fsdp --fsdp_version 2"),
}


def test_a_model_that_is_scored_response_by_response_is_refused(recipe, tmp_path):
    folder = tiny.save_model(tmp_path / "model", architecture="mistral", sliding_window=16)
    made = recipe(f"model={folder}", "train.max_steps=2")
    for (said,) in in_two(TRAIN, 0, written(made), **DIVIDED):
        assert said.startswith("ConfigError: model: its attention window of 16 tokens is below")


REFUSALS = """
import json, os, sys
import fastslow
from fastslow import training
from fastslow.errors import FastslowError

before = dict(os.environ)
for environment, path in json.loads(sys.argv[1]):
    os.environ.update(environment)
    try:
        said = training.train(path)
    except FastslowError as error:
        said = f"{type(error).__name__}: {error}"
    print("RESULT", json.dumps(said))
    for name in environment:
        del os.environ[name]
    os.environ.update(before)
"""


def test_what_cannot_be_divided_is_refused(recipe, tmp_path):
    cases = [
        (environment, str(written(recipe(f"output_dir={tmp_path / case}", *overrides))))
        for case, (environment, overrides, _) in REFUSED.items()
    ]
    for said in in_two(REFUSALS, json.dumps(cases), **DIVIDED):
        for (case, (_, _, message)), text in zip(REFUSED.items(), said, strict=True):
            assert text.startswith("ConfigError") and message in text, case
