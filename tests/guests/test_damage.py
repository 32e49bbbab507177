"""Damaged files of a folder: one error that names the file, whatever opens it."""

import json
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

import fastslow as fs
from fastslow.adapters import load_base
from fastslow.errors import ConfigError, FastslowError, StateError
from fastslow.foreign_files import misfit, read_json
from fastslow.training.state.checkpoint import read_newest

DAMAGE = {
    "empty": "", "list": "[]", "half": "{", "null": "null", "number": "3", "text": '"x"',
    "deep": "[" * 100_000, "digits": '{"steps": ' + "9" * 5000 + "}", "bytes": "\udcff\udcfe",
    "no facts": "{}",
}  # fmt: skip


def refused(cli, *arguments):
    """The one message of a command that is refused."""
    code, _, err = cli(*arguments)
    lines = err.strip().splitlines()
    assert code in (1, 2) and lines and lines[-1].startswith("error: "), err
    assert "Traceback" not in err and len(lines[-1]) < 2000
    return lines[-1]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_summary_is_named(foreign, cli, tmp_path, damage):
    folder = foreign()
    text = DAMAGE[damage]
    (folder / "summary.json").write_bytes(text.encode(errors="surrogateescape"))
    for command in (("sample", folder, "Hi"), ("report", folder), ("export", folder, "--to", "x")):
        assert "summary.json" in refused(cli, *command)
    with pytest.raises(StateError, match="summary.json"):
        fs.Run.load(folder)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_adapter_configuration_is_named(foreign, cli, damage):
    folder = foreign()
    for path in folder.glob("adapters/*/adapter_config.json"):
        path.write_bytes(DAMAGE[damage].encode(errors="surrogateescape"))
    assert "adapters/" in refused(cli, "sample", folder, "Hi", "--max-new-tokens", 2)


def test_facts_of_a_wrong_kind_are_named(foreign):
    folder = foreign()
    path = folder / "summary.json"
    whole = json.loads(path.read_text())
    for change, message in [
        ({"adapters": ["fast"]}, "'adapters' is a list, not an object"),
        ({"adapters": {"fast": 3}}, "adapters"),
        ({"leader": "x"}, "the leader 'x' is none of the adapters"),
        ({"steps": "many"}, "'steps' is text, not a whole number"),
        ({"eval": {}}, "eval lacks 'final'"),
        ({"wrong": 1}, "'wrong' is unknown"),
        ({"parts": "x"}, "'parts' is text, not a list"),
    ]:
        path.write_text(json.dumps(whole | change))
        with pytest.raises(StateError, match="damaged") as caught:
            fs.Run.load(folder)
        assert message in str(caught.value)
    path.write_text(json.dumps({key: whole[key] for key in whole if key != "swaps"}))
    with pytest.raises(StateError, match="'swaps' is missing"):
        fs.Run.load(folder)


@pytest.mark.parametrize("damage", ["list", "half", "null", "deep", "no facts"])
def test_a_run_with_damaged_inputs_does_not_resume(foreign, recipe, damage):
    folder = foreign()
    (folder / "inputs.json").write_text(DAMAGE[damage])
    (folder / "summary.json").unlink()
    made = fs.load_recipe(folder / "config.yaml", [f"output_dir={folder}"])
    with pytest.raises(StateError, match="inputs.json|model of the run"):
        fs.train(made)


@pytest.mark.parametrize("damage", ["list", "half", "null", "deep", "no facts", "empty"])
def test_a_checkpoint_with_a_damaged_manifest_is_skipped(foreign, damage):
    folder = foreign() / "checkpoints"
    for path in folder.glob("*/manifest.json"):
        path.write_text(DAMAGE[damage])
    found, skipped = read_newest(folder)
    assert found is None and skipped and all("no readable manifest" in why for why in skipped)


def test_stray_files_in_a_checkpoint_are_left_alone(foreign):
    folder = foreign() / "checkpoints"
    before, _ = read_newest(folder)
    for path in list(folder.iterdir()):
        (path / "stray.safetensors").write_text("x")
        (path / "folder").mkdir()
    found, skipped = read_newest(folder)
    assert (
        not skipped
        and found.facts == before.facts
        and found.tensors.keys() == before.tensors.keys()
    )


@pytest.mark.parametrize("name", ["../../config.yaml", "/etc/hostname"])
def test_a_manifest_names_only_what_is_beside_it(foreign, name):
    folder = foreign() / "checkpoints"
    for path in folder.glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        manifest["sha256"][name] = "0" * 64
        path.write_text(json.dumps(manifest))
    found, skipped = read_newest(folder)
    assert found is None and "which is not in it" in skipped[0]


def test_an_adapter_that_is_gone_is_named(foreign, cli, tmp_path):
    folder = foreign()
    shutil.rmtree(folder / "adapters")
    for command in (("export", folder, "--to", tmp_path / "x"), ("sample", folder, "Hi")):
        assert "adapters/fast, an adapter of the run, is missing" in refused(cli, *command)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(foreign, cli, tmp_path, model_folder, number):
    folder = foreign()
    for path in folder.glob("adapters/*/adapter_model.safetensors"):
        tensors = load_file(path)
        key = sorted(tensors)[-1]
        tensors[key].view(-1)[3] = number
        save_file(tensors, path, metadata={"format": "pt"})
    for command in (
        ("sample", folder, "Hi"),
        ("export", folder, "--to", tmp_path / "x", "--merged"),
        ("combine", folder, "--to", tmp_path / "x", "--weights", "uniform"),
    ):
        assert "not finite" in refused(cli, *command)
    base = tmp_path / "base"
    shutil.copytree(model_folder, base)
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"][0] = number
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"not finite, in model\.norm\.weight"):
        load_base(str(base))


def test_large_finite_weights_are_taken():
    from fastslow.adapters.whole_model import check_finite

    check_finite("model", [("w", torch.full((100,), 3e38)), ("n", torch.ones(2, dtype=torch.int8))])
    with pytest.raises(ConfigError, match="in w"):
        check_finite("model", [("w", torch.tensor([1.0, float("-inf")]))])


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", ["list", "half", "null", "no facts"])
def test_a_damaged_model_is_one_error(model_folder, tmp_path, train_file, name, damage):
    base = tmp_path / "base"
    shutil.copytree(model_folder, base)
    (base / name).write_text(DAMAGE[damage])
    recipe = {
        "model": str(base),
        "output_dir": str(tmp_path / "run"),
        "data": {"train": str(train_file)},
    }
    try:
        fs.train(
            recipe
            | {"train": {"max_steps": 1}, "data": {"train": str(train_file), "max_length": 96}}
        )
    except FastslowError as error:
        assert len(str(error)) < 2000
    else:
        assert name == "tokenizer_config.json"


def test_json_is_read_as_asked(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": [1, 2.5, null]}')
    assert read_json(path, dict[str, list[float | None]]) == {"a": [1, 2.5, None]}
    for shape in (dict[str, list[int | None]], dict[str, str], list[int], int):
        with pytest.raises(StateError, match="x.json is damaged"):
            read_json(path, shape)
    assert misfit(True, int) and misfit(True, float) and not misfit(1, float)
    path.unlink()
    path.mkdir()
    with pytest.raises(StateError, match="it is no file"):
        read_json(path, dict)
    assert tiny.rows(1)
