"""What `fastslow serve` makes of its command line."""

import pytest
from typer.testing import CliRunner

from fastslow.cli.main import app
from fastslow.errors import ConfigError
from fastslow.serve import Settings, server

URL = "http://engine/v1"
TEMPLATE = "data.chat_template_kwargs={enable_thinking: false}"


@pytest.fixture
def served(monkeypatch, tmp_path):
    """What is served by a command line."""
    found = []
    monkeypatch.setattr(server, "serve", lambda serving, **named: found.append((serving, named)))

    def run(*arguments):
        said = CliRunner().invoke(app, ["serve", str(tmp_path), *arguments])
        if said.exception is not None:
            raise said.exception
        return found[-1]

    return run


def test_an_engine_is_told_what_the_template_is_given_beside_a_learner_or_not(served):
    learning = ("model=big", "train.batch_size=4", TEMPLATE)
    serving, named = served("--engine", URL, "--learn", *learning)
    assert serving.answers.template_settings == {"enable_thinking": False}
    assert serving.answers.overrides == [] and named["learning"] == [*learning]
    serving, named = served("--engine", URL, "data.chat_template_kwargs.enable_thinking=false")
    assert serving.answers.template_settings == {"enable_thinking": False}
    assert serving.answers.overrides == [] and named["learning"] is None
    serving, _ = served("--engine", URL)
    assert serving.answers.template_settings == {}


def test_the_longest_answer_can_be_set(served):
    serving, _ = served("model=big", "--answer-tokens", "300")
    assert serving.settings.answer_tokens == 300
    serving, _ = served("model=big")
    assert serving.settings.answer_tokens == Settings().answer_tokens == 1024
    with pytest.raises(SystemExit):
        served("model=big", "--answer-tokens", "0")


def test_other_settings_are_still_of_a_model_here(served):
    serving, _ = served("--engine", URL, "model=big", TEMPLATE)
    assert serving.answers.overrides == ["model=big"], "which is refused"
    serving, _ = served("model=big", TEMPLATE)
    assert serving.answers.overrides == ["model=big", TEMPLATE]
    assert serving.answers.template_settings == {}
    with pytest.raises(ConfigError, match="train.batch_size"):
        served("--engine", URL, "--learn", "model=big", "train.batch_size=none of it")
