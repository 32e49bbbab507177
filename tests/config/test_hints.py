"""What is said of a key that does not exist."""

import pytest

from fastslow import Recipe, load_recipe
from fastslow.config.hints import ELSEWHERE, section_at
from fastslow.config.renamed import RENAMED
from fastslow.errors import ConfigError


def problem(*overrides, **raw):
    with pytest.raises(ConfigError) as caught:
        load_recipe({"model": "m"} | raw, overrides)
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize(
    ("key", "here"),
    [
        ("lr", "write train.learning_rate"),
        ("train.lr", "write train.learning_rate"),
        ("learning_rate", "write train.learning_rate"),
        ("num_train_epochs", "write train.epochs"),
        ("max_steps", "write train.max_steps"),
        ("per_device_train_batch_size", "train.micro_batch_size splits it"),
        (
            "gradient_accumulation_steps",
            "train.batch_size counts pairs per optimiser step; train.micro_batch_size splits it",
        ),
        ("max_grad_norm", "write train.max_grad_norm"),
        ("bf16", "write train.precision=mixed"),
        ("train.fp16", "float16 is not supported"),
        ("lora.r", "write lora.rank"),
        ("lora_r", "write lora.rank"),
        ("lora_alpha", "write lora.alpha"),
        ("beta", "write objective.beta"),
        ("loss_type", "write objective.name"),
        ("ref_model", "the reference is the base or the start of the run"),
        ("precompute_ref_log_probs", "remove the key"),
        ("data.path", "write data.train"),
        ("dataset_name", "write data.train"),
        ("data.max_prompt_length", "data.max_length limits prompt plus response"),
        ("max_seq_length", "write data.max_length"),
        ("model_name_or_path", "write model"),
        ("output", "write output_dir"),
    ],
)
def test_other_libraries_spellings_get_the_key_of_a_recipe(key, here):
    line = problem(f"{key}=1")
    assert line.startswith(f"{key}: there is no such key; ") and here in line


def test_every_key_that_a_hint_names_exists():
    settings = ("objective.beta", "objective.label_smoothing", "objective.nll_weight")
    plain = {here for here in ELSEWHERE.values() if " " not in here} - set(settings)
    for key in plain | set(RENAMED.values()):
        *outer, name = key.split(".")
        judges = key.rpartition(".")[0].endswith("judge")
        path = [*outer, "llm"] if judges else outer
        assert name in section_at(path).model_fields, key


def test_no_hint_hides_a_key_that_exists():
    assert not set(ELSEWHERE) & set(Recipe.model_fields)


def test_a_key_without_its_section_gets_it():
    assert problem("rank=3").endswith("did you mean lora.rank?")
    assert problem("every=3").endswith("did you mean eval.every or checkpoint.every?")


def test_the_keys_of_a_judge_are_those_of_its_kind():
    rule = {"kind": "rule", "file": "r.py", "fil": 1}
    assert problem(filter={}, judge=rule) == (
        "judge.fil: there is no such key; did you mean 'judge.file'?"
    )
    ensemble = {"kind": "ensemble", "members": [{"kind": "rule", "file": "r.py"}, rule]}
    assert problem(filter={}, judge=ensemble).startswith("judge.members.2.fil: there is no such")


KINDS = "give one of world, rule, classifier, reward_model, llm, ensemble"


@pytest.mark.parametrize("section", ["judge", "eval.judge"])
def test_a_judge_without_a_known_kind_is_told_the_kinds(section):
    assert problem(f"{section}.file=r.py") == f"{section}.kind: is missing; {KINDS}"
    assert problem(f"{section}.kind=ruel") == f"{section}.kind: got 'ruel'; {KINDS}"
    both = problem(f"{section}={{kind: ensemble, members: [{{kind: rule, file: r}}, {{file: r}}]}}")
    assert both == f"{section}.members.2.kind: is missing; {KINDS}"


@pytest.mark.parametrize(
    ("keys", "library"),
    [
        ("dataset_name: a/b\nlearning_rate: 1e-6\nreport_to: none", "TRL"),
        ("dataset: a\nstage: dpo\ndo_train: true\npref_loss: sigmoid", "LLaMA-Factory"),
    ],
)
def test_a_yaml_of_another_library_is_told_how_it_becomes_a_recipe(tmp_path, keys, library):
    path = tmp_path / "dpo.yaml"
    path.write_text(f"model_name_or_path: me/base\noutput_dir: out\n{keys}\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert caught.value.problems == (
        f"recipe {path} is a YAML of {library}; run `fastslow convert {path} > "
        "dpo-converted.yaml` and give that",
    )


@pytest.mark.parametrize("keys", ["", "data: {train: a}", "train: {epochs: 2}\nlr: 1"])
def test_a_recipe_with_one_key_of_another_library_is_still_a_recipe(tmp_path, keys):
    path = tmp_path / "mine.yaml"
    path.write_text(f"model_name_or_path: me/base\n{keys}\n")
    with pytest.raises(ConfigError, match="model_name_or_path: there is no such key; write model"):
        load_recipe(path)


def test_a_key_may_begin_as_a_type_of_pydantic_does():
    assert problem("train.strategy=1").startswith("train.strategy: there is no such key")


class Loss:
    def __call__(self, logps):
        return logps


@pytest.mark.parametrize(
    ("section", "given", "message"),
    [
        ("objective", "dpo", "objective: got 'dpo'; it is a section; write objective.name=dpo"),
        (
            "objective",
            Loss(),
            "give objective.name and objective.file, from which a run",
        ),
        (
            "train",
            3,
            "train: got 3; it is a section of several keys; `fastslow recipe train`",
        ),
    ],
)
def test_what_is_no_section_is_told_how_to_be_one(section, given, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe({"model": "m", "data": {"train": "t"}, section: given})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("chase=off", "chase: null turns it off"),
        ("budget=none", "budget: null turns it off"),
        ("judge=false", "judge: null turns it off"),
        ("eval.judge=off", "judge: null turns it off"),
        ("lora=off", "`fastslow recipe lora` lists them"),
        ("train.device=cuda", "'auto' or 'cpu'; auto takes a GPU where there is one"),
        ("report_to=none", "'trackio' or 'mlflow'; [], or leaving it out, means none"),
        ("report_to=null", "'trackio' or 'mlflow'; [], or leaving it out, means none"),
        ("report_to=[wandb, no]", "'tensorboard', 'wandb', 'trackio' or 'mlflow'"),
        ("judge=rule", "judge: got 'rule'; it is a section; write judge.kind=rule"),
    ],
)
def test_a_value_of_another_library_is_told_ours(override, said):
    assert problem(override).endswith(said)


def test_a_file_of_pairs_is_no_recipe():
    with pytest.raises(ConfigError, match=r"give it as data.train=my/pairs.jsonl, beside model="):
        load_recipe("my/pairs.jsonl")
