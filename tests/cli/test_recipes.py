"""How commands take recipes, and the commands that explain them."""

import sys

import pytest

from fastslow.cli import main
from fastslow.cli.arguments import recipe_of
from fastslow.config import recipe_names, recipe_text
from fastslow.errors import ConfigError


def command(monkeypatch, capsys, *arguments):
    """Exit code, stdout and stderr of the command, in this process."""
    monkeypatch.setattr(sys, "argv", ["fastslow", *arguments])
    monkeypatch.setattr("warnings.showwarning", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        main.run()
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def test_a_recipe_may_be_named_given_or_left_out(tmp_path, monkeypatch):
    settings = ["model=m", "data.train=x"]
    assert recipe_of(["sentiment-ofs", *settings]).output_dir == "runs/sentiment-ofs"
    assert recipe_of(settings).output_dir == "runs/fastslow"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=3.yaml").write_text("model: m\nseed: 3\n")
    assert recipe_of(["lr=3.yaml"]).seed == 3


def test_a_second_recipe_is_no_setting():
    with pytest.raises(ConfigError, match="override 'rounds': write it as section.key=value"):
        recipe_of(["reward", "rounds", "model=m"])


@pytest.mark.parametrize("verb", ["train", "train-reward", "validate"])
def test_nothing_at_all_is_refused(verb, monkeypatch, capsys):
    code, _, err = command(monkeypatch, capsys, verb)
    assert code == 2 and err.startswith("error: give a recipe (a YAML file, or a name that")


def test_a_reward_model_is_trained_whatever_the_recipe_says(monkeypatch):
    from fastslow.cli import train_reward

    given = []
    monkeypatch.setattr(train_reward, "train", lambda arguments, _: given.append(arguments))
    train_reward.train_reward(["model=m"], False)
    assert recipe_of(given[0]).task == "reward"


def test_an_old_name_is_warned_of_in_one_line_and_once(monkeypatch, capsys):
    settings = ["eval.samples=3", "eval.samples=4", "train.batch_size=0"]
    code, _, err = command(monkeypatch, capsys, "validate", "model=m", *settings)
    warning, error = err.splitlines()
    assert warning == "warning: eval.samples is called eval.num_prompts now; rename it"
    assert code == 2 and error.startswith("error: train.batch_size")


def test_other_warnings_are_shown_as_before(monkeypatch):
    seen = []
    monkeypatch.setattr("warnings.showwarning", lambda *given, **_: seen.append(given[1]))
    main.show_warnings_plainly()
    import warnings

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [("always", None, Warning, None, 0)])
        warnings.warn("elsewhere", FutureWarning, stacklevel=1)
    assert seen == [FutureWarning]


def test_recipes_are_listed_one_a_line_and_printed_by_name(monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, "recipes")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == recipe_names()
    assert command(monkeypatch, capsys, "recipes", "rounds")[1] == recipe_text("rounds")
    code, _, err = command(monkeypatch, capsys, "recipes", "round")
    assert code == 2 and "did you mean 'rounds'" in err


def test_keys_are_explained(monkeypatch, capsys):
    assert "default 0.3" in command(monkeypatch, capsys, "recipe", "chase.slow_ratio")[1]
    code, _, err = command(monkeypatch, capsys, "recipe", "chase.slow_ration")
    assert code == 2 and "did you mean 'chase.slow_ratio'?" in err


def test_settings_of_objectives_are_explained(monkeypatch, capsys):
    _, out, _ = command(monkeypatch, capsys, "recipe", "objective")
    assert "objective.name  (text; default dpo)" in out and "objective.beta  (default 0.1)" in out
    _, out, _ = command(monkeypatch, capsys, "recipe", "objective.gamma_beta_ratio")
    assert out.startswith("objective.gamma_beta_ratio  (a setting of these objectives)\n")
    assert "simpo" in out and "ipo," not in out
    assert "default 0" in command(monkeypatch, capsys, "recipe", "objective.nll_weight")[1]
    code, _, err = command(monkeypatch, capsys, "recipe", "objective.bta")
    assert code == 2 and "no objective has such a setting; did you mean 'beta'?" in err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--learning_rate", "write train.learning_rate=..."),
        ("--lora-r", "write lora.rank"),
        ("--data.train", "write data.train=..."),
        ("--every", "write eval.every=... or checkpoint.every=..."),
    ],
)
def test_a_setting_given_as_an_option_is_told_how_it_is_written(option, said, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    code, _, err = command(monkeypatch, capsys, "train", option, "1e-3")
    assert code == 2 and f"No such option: {option}. Settings have no dashes: {said}" in err
    code, _, err = command(monkeypatch, capsys, "train", "--nonsense")
    assert code == 2 and "No such option: --nonsense" in err and "Settings" not in err
