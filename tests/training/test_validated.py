"""What validation accepts, training finishes: shipped recipes with small changes, drawn by a seed.

A draw is refused at once with an error of ours, or it trains to its end.
"""

import random

import pytest
import tiny

from fastslow import load_recipe, training
from fastslow.config import recipe_names
from fastslow.errors import ConfigError, DataError
from fastslow.objectives import objective_problems
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.preflight import check_parts

RULE = "def score(prompt, answer):\n    return answer.count('a') - len(answer) / 50\n"
SMALL = {
    "": [
        "train.max_steps=2", "train.batch_size=4", "train.micro_batch_size=2",
        "train.precision=float32", "data.max_length=128", "lora.rank=2", "data.shuffle=0",
        "eval.max_pairs=4", "eval.num_prompts=2", "eval.num_generations=1", "eval.max_new_tokens=4",
    ],
    "rounds": [
        "rounds.count=2", "rounds.prompts_per_round=8", "rounds.max_new_tokens=4",
        "rounds.num_generations=2",
    ],
    "online": [
        "online.num_generations=2", "online.steps_per_generation=1", "online.num_iterations=2",
        "online.max_new_tokens=4", "train.micro_batch_size=null",
    ],
    "online_kl": ["online_kl.max_new_tokens=4"],
}  # fmt: skip
"""What makes a recipe small, by the section that it must have."""
JUDGE = "judge={{kind: rule, file: {rule}}}"
CHANGES = {
    "": [
        ["data.max_length=96"], ["data.max_length=24"], ["data.max_length=12"],
        ["eval.max_new_tokens=128"], ["eval.num_prompts=0", "eval.max_new_tokens=500"],
        ["eval.every=1"], ["reference=base"], ["reference=previous"],
        ["moving_reference={{every: 1}}"], ["online_kl={{weight: 0.01, max_new_tokens: 4}}"],
        ["lora.dropout=0.1"], ["lora.target_modules=[q_proj]"], ["chase=null"],
        ["chase={{speeds: 3}}"], ["objective.name=kto"], ["objective.name=sft"],
        ["objective.name=plackett_luce"], ["objective.name=sppo"], ["objective.name=rloo"],
        ["objective.name=bco", "train.micro_batch_size=null"], ["train.schedule=constant"],
        ["train.warmup_steps=1"], ["train.warmup_steps=9"], ["train.epochs=2"],
        ["train.max_steps=null"], ["train.gradient_checkpointing=true"], ["train.batch_size=1"],
        ["train.micro_batch_size=null"], ["data.label_delay=4"], ["data.skip=8"],
        ["data.skip=500"], ["data.shuffle=8"], ["data.replay_buffer_size=0"], ["drift={{}}"],
        ["anchor={{strength: 1.0}}"], ["filter={{max_new_tokens: 4}}", JUDGE],
        ["replay={{memory: [{train}], share: 0.5}}"], ["data.train={ties}"], ["data.eval={ties}"],
        ["data.train={shown}"], ["eval.judge={{kind: rule, file: {rule}}}"],
    ],
    "one run": [
        ["stages=[sft, preferences]"], ["stages=[sft, {{name: preferences, reference: base}}]"],
        ["stages=[{{name: sft, data: {{train: {shown}}}}}, preferences]"],
        ["stages=[sft, {{name: preferences, rounds: {{count: 2}}}}]"],
        ["stages=[sft, {{name: preferences, anchor: {{strength: 1.0}}}}]"],
    ],
    "continual": [
        ["continual.start=continue"], ["continual.start=recall"], ["continual.weights=grid"],
        ["continual.weights=routed"], ["continual.weights=null"], ["continual.weights=uniform"],
        ["continual.start=continue", "continual.weights=null", "continual.anchor=ewc"],
        ["continual.start=recall", "continual.anchor=l2_sp"], ["continual.replay=0.5"],
        ["continual.recompress=1"], ["continual.weights=fixed", "continual.fixed=[1, -1, 0.5]"],
        ["data.max_length=96", "eval.max_new_tokens=128"],
        ["continual.domains=[]", "drift={{}}", "data.train={train}", "train.schedule=constant"],
    ],
    "rounds": [
        ["rounds.momentum=0.3"], ["rounds.momentum=0.3", "rounds.recompress=2"],
        ["rounds.beta=[0.1, 0.2]"], ["rounds.offline_fraction=0.5"], ["rounds.pick=all"],
        ["rounds.prompts={shown}"], ["reference=base", "moving_reference={{every: 1}}"],
    ],
    "online": [
        ["online.num_generations=1"], ["online.overlap=true"], ["online.offline_fraction=0.5"],
        ["online.top_p=0.9"], ["objective.name=dpo"], ["objective.name=ppo"],
    ],
}  # fmt: skip
"""Small changes, by the section that the recipe must have for them."""
DRAWS = 48


@pytest.fixture(scope="module")
def files(tmp_path_factory, domain_files):
    """Files that recipes and changes name."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "rule.py").write_text(RULE)
    rows = tiny.rows(24, seed=3)
    ties = [row | {"verdict": "tie"} for row in rows]
    shown = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    return {
        "rule": str(folder / "rule.py"),
        "train": str(tiny.write_rows(folder / "train.jsonl", rows)),
        "eval": str(tiny.write_rows(folder / "eval.jsonl", tiny.rows(8, seed=4))),
        "ties": str(tiny.write_rows(folder / "ties.jsonl", ties)),
        "shown": str(tiny.write_rows(folder / "shown.jsonl", shown)),
    } | {
        f"domain{number}": f"{{name: {name}, train: {made['train']}, eval: {made['eval']}}}"
        for number, (name, made) in enumerate(domain_files.items(), 1)
    }


def sections(name):
    """The sections of a recipe, by which changes to it are found."""
    several = "continual" in PLAIN[name] or "rounds" in PLAIN[name]
    own = [key for key in ("continual", "rounds", "online", "online_kl") if key in PLAIN[name]]
    return ["", *([] if several else ["one run"]), *own]


def _plain(name):
    import yaml

    from fastslow.config import recipe_text

    return yaml.safe_load(recipe_text(name))


PLAIN = {name: _plain(name) for name in recipe_names()}


def drawn(number):
    """A recipe's name and the changes to it, as texts with the files' names open."""
    draw = random.Random(f"validated/{number}")
    # The parts of several runs are what this is about; the others share most of their code.
    several = [name for name, raw in PLAIN.items() if "continual" in raw or "rounds" in raw]
    name = draw.choice(several if number % 3 else sorted(PLAIN))
    known = sections(name)
    own = [change for key in known[1:] for change in CHANGES.get(key, [])]
    changes = [draw.choice(own), *draw.sample(CHANGES[""], draw.randint(0, 2))]
    small = [line for key in known for line in SMALL.get(key, [])]
    return name, small, [line for change in changes for line in change]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(DRAWS))
def test_what_is_accepted_trains_to_its_end(number, files, model_folder, tmp_path):
    name, small, changes = drawn(number)
    given = [f"model={model_folder}", f"output_dir={tmp_path / 'run'}"]
    if "continual" in PLAIN[name]:
        small = [*small, "continual.domains=[{domain1}, {domain2}, {domain1}]"]
    else:
        given += [f"data.train={files['train']}", f"data.eval={files['eval']}"]
    if "judge" in PLAIN[name]:
        given.append(f"judge.file={files['rule']}")
    settings = given + [line.format(**files) for line in [*small, *changes]]
    try:
        recipe = load_recipe(name, settings, checks=[objective_problems])
        check_parts(recipe, ProcessGroup())
    except (ConfigError, DataError) as error:
        assert len(str(error)) < 2000, changes
        return
    summary = training.train(recipe)
    assert summary is not None and summary.steps > 0, changes
