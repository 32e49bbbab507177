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


@pytest.mark.parametrize(
    ("url", "secret", "said"),
    [
        ("https://there/hook", None, "needs its secret"),
        ("https://there/hook", "hello", "24 bytes or more in base64"),
        ("https://there/hook", "whsec_", "needs its secret"),
        ("there/hook", "aGVsbG8=", "must be https://HOST/PATH"),
        ("ftp://there/hook", "aGVsbG8=", "must be https://HOST/PATH"),
        ("https://", "aGVsbG8=", "must be https://HOST/PATH"),
        ("https://the\nre/", "aGVsbG8=", "is not a URL"),
    ],
)
def test_what_no_message_can_be_sent_with_is_refused_at_once(
    served, monkeypatch, url, secret, said
):
    monkeypatch.delenv("FASTSLOW_WEBHOOK_SECRET", raising=False)
    if secret is not None:
        monkeypatch.setenv("FASTSLOW_WEBHOOK_SECRET", secret)
    with pytest.raises(ConfigError, match=said):
        served("--webhook", url)
