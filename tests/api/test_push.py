"""A run to the Hub: one commit of what `export` writes, or one clear error; no token is shown."""

import json
import os
import re
import subprocess
import sys

import pytest
import tiny
import yaml
from fake_hub import TOKEN, FakeHub

import fastslow as fs
from fastslow.errors import ConfigError, StateError, UnreachableError

FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja",
         "tokenizer.json", "tokenizer_config.json"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """A finished run."""
    return fs.train(
        {
            "model": str(model_folder),
            "output_dir": str(tmp_path_factory.mktemp("push") / "run"),
            "data": {"max_length": 96},
            "lora": {"rank": 2, "alpha": 4.0},
            "train": {"batch_size": 8, "max_steps": 1},
        },
        train_dataset=tiny.domain_rows("warm", 8),
    ).folder


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the Hub, to which this process is logged in."""
    from huggingface_hub import constants

    made = FakeHub()
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield made
    made.close()


def test_an_adapter_is_pushed_in_one_commit_and_names_nothing_of_this_machine(folder, hub):
    listed = []
    run = fs.Run.load(folder)
    pushed = run.push_to_hub("me/taught", base_model="them/base", on_files=listed.append)
    assert pushed.url == f"{hub.url}/me/taught/commit/abc" and pushed.private
    assert hub.repos == {"me/taught": True}
    ((message, files),) = hub.commits
    assert message == "Upload adapter with fastslow" and set(files) == FILES
    assert pushed.files == {name: len(content) for name, content in sorted(files.items())}
    assert [one.files for one in listed] == [pushed.files]
    weights = folder / "adapters" / run.leader / "adapter_model.safetensors"
    assert files["adapter_model.safetensors"] == weights.read_bytes()
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "them/base"
    card = files["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["base_model"] == "them/base" and head["base_model_relation"] == "adapter"
    assert 'PeftModel.from_pretrained(base, "me/taught")' in card
    assert 'AutoModelForCausalLM.from_pretrained("them/base")' in card
    for name, content in files.items():
        assert str(folder.parent).encode() not in content, name


def test_a_base_without_an_id_is_not_named(folder, hub):
    fs.Run.load(folder).push_to_hub("me/taught")
    ((_, files),) = hub.commits
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] is None and config["auto_mapping"]
    assert "base_model" not in yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    model = json.loads((folder / "inputs.json").read_text())["model"]
    assert model and str(fs.Run.load(folder).recipe.model).encode() not in b"".join(files.values())


def test_a_merged_model_is_pushed_whole(folder, hub):
    fs.Run.load(folder).push_to_hub("me/whole", merged=True, private=False)
    ((message, files),) = hub.commits
    assert message == "Upload merged model with fastslow" and hub.repos == {"me/whole": False}
    assert {"model.safetensors", "config.json", "README.md"} <= set(files)
    assert not {name for name in files if name.startswith("adapter")}


def test_a_second_push_adds_a_commit(folder, hub):
    for _ in range(2):
        fs.Run.load(folder).push_to_hub("me/taught")
    assert len(hub.commits) == 2 and hub.commits[0] == hub.commits[1]


@pytest.mark.parametrize("there, private", [(False, True), (True, False)])
def test_what_is_there_is_neither_shown_nor_hidden_by_a_push(folder, hub, there, private):
    hub.repos["me/taught"] = there
    with pytest.raises(StateError, match="me/taught is there and .*nothing was uploaded"):
        fs.Run.load(folder).push_to_hub("me/taught", private=private)
    assert hub.repos == {"me/taught": there} and hub.commits == []


def test_a_dry_run_lists_and_sends_nothing(folder, hub, cli, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    code, out, err = cli("push", folder, "me/taught", "--dry-run")
    assert code == 0 and "nothing was sent" in out and "to me/taught (private)" in err
    assert all(f"  {name}  " in err for name in FILES)
    assert hub.requests == []
    code, out, _ = cli("push", folder, "me/taught", "--dry-run", "--json", "--public")
    told = json.loads(out)
    assert set(told["files"]) == FILES and told["dry_run"] and not told["private"]


def test_the_command_lists_and_gives_the_url(folder, hub, cli):
    code, out, err = cli("push", folder, "me/taught")
    assert code == 0 and out == f"{hub.url}/me/taught/commit/abc\n"
    assert err.index("to me/taught (private)") < err.index("README.md")
    assert TOKEN not in out + err


def test_the_token_is_sent_to_the_hub_alone_and_never_on_a_command_line(folder, hub, cli):
    code, *_ = cli("push", folder, "me/taught")
    with_token = {path for _, path, sent in hub.requests if sent}
    assert code == 0 and all(not path.startswith("/upload") for path in with_token)
    code, _, err = cli("push", folder, "me/taught", "--token", TOKEN)
    assert code == 2 and "No such option" in err


@pytest.mark.parametrize(
    "path, status, message",
    [
        ("/api/repos/create", 403, "does not let this token write to me/taught"),
        ("/api/models/me/taught/commit", 403, "does not let this token write"),
        ("/api/models/me/taught/preupload", 404, "does not let this token write"),
        ("/api/models/me/taught/commit", 400, "could not be uploaded"),
    ],
)
def test_a_refusal_is_one_error_without_the_token(folder, hub, cli, path, status, message):
    hub.refuse[path] = status
    code, out, err = cli("push", folder, "me/taught")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1 and message in line and TOKEN not in out + err and "Traceback" not in err
    assert hub.commits == []


def test_a_wrong_token_is_refused(folder, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_anotheroneoftests")
    with pytest.raises(fs.FastslowError, match="status 401.*hf auth login") as caught:
        fs.Run.load(folder).push_to_hub("me/taught")
    assert "hf_another" not in str(caught.value)


def test_a_hub_that_is_away_is_one_error(folder, hub):
    hub.close()
    with pytest.raises(UnreachableError, match="me/taught could not be uploaded"):
        fs.Run.load(folder).push_to_hub("me/taught")


def test_without_a_login_or_a_network_nothing_is_exported(folder, hub, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr("fastslow.api.run.export_adapter", pytest.fail)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no token for the Hub: run `hf auth login`"):
        fs.Run.load(folder).push_to_hub("me/taught")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        fs.Run.load(folder).push_to_hub("me/taught")
    assert hub.requests == []


@pytest.mark.parametrize("repo", ["taught", "a/b/c", "me/a b", "me/../x", "/x", "me/--", ""])
def test_an_id_that_cannot_be_is_refused(folder, hub, repo):
    with pytest.raises(ConfigError, match="^repo: "):
        fs.Run.load(folder).push_to_hub(repo)
    assert hub.requests == []


def test_a_type_without_a_merge_is_refused(folder, hub):
    with pytest.raises(ConfigError, match="dtype: has no effect without merged"):
        fs.Run.load(folder).push_to_hub("me/taught", dtype="float32")


@pytest.mark.processes
def test_the_environment_alone_says_where_and_who(folder, hub, tmp_path):
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN,
                        "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0",
                        "TRANSFORMERS_OFFLINE": "0"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "fastslow", "push", str(folder), "me/taught"],
        capture_output=True, text=True, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{hub.url}/me/taught/commit/abc\n", done.stdout)
    assert len(hub.commits) == 1 and TOKEN not in done.stdout + done.stderr
