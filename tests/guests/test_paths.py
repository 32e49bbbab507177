"""Paths of a folder stay inside it, nothing is written through a link, and texts are private."""

import json
import os
import shutil
import stat

import pytest
import tiny

import fastslow as fs
from fastslow.atomic_io import new_folder, write_text
from fastslow.errors import StateError
from fastslow.foreign_files import inside

ROUTES = {
    "export": lambda folder, to: ("export", folder, "--to", to),
    "export merged": lambda folder, to: ("export", folder, "--to", to, "--merged"),
    "sample": lambda folder, to: ("sample", folder, "Hi", "--max-new-tokens", 2),
    "eval": lambda folder, to: ("eval", folder, "--num-prompts", 0),
    "combine": lambda folder, to: ("combine", folder, "--to", to, "--weights", "uniform"),
}


@pytest.fixture
def private(tmp_path, origin):
    """A folder beside the run with an adapter and a secret."""
    folder = tmp_path / "private"
    shutil.copytree(origin / "adapters" / "fast", folder)
    (folder / "id_rsa").write_text("KEY")
    return folder


@pytest.mark.parametrize("path", ["{private}", "../private", "adapters/../../private", "", "\0"])
def test_an_adapter_outside_is_refused_by_all_that_read_it(foreign, private, cli, tmp_path, path):
    folder = foreign()
    summary = json.loads((folder / "summary.json").read_text())
    named = path.format(private=private)
    summary["adapters"] = dict.fromkeys(summary["adapters"], named)
    (folder / "summary.json").write_text(json.dumps(summary))
    for route, command in ROUTES.items():
        code, _, err = cli(*command(folder, tmp_path / "out"))
        assert code in (1, 2) and err.startswith("error: ") and err.count("\n") == 1, (route, err)
        assert not (tmp_path / "out").exists(), route


@pytest.mark.parametrize("what", ["adapters", "adapters/fast", "adapters/fast/README.md"])
def test_a_link_below_a_run_is_refused(foreign, private, cli, tmp_path, what):
    folder = foreign()
    place = folder / what
    target = private / "id_rsa" if what.endswith(".md") else private
    if place.is_dir():
        shutil.rmtree(place)
    if what == "adapters":
        (private / "fast").mkdir()
        shutil.copytree(private, private / "fast", dirs_exist_ok=True, ignore=lambda *_: ["fast"])
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    for route, command in ROUTES.items():
        code, _, err = cli(*command(folder, tmp_path / "out"))
        assert code == 1 and "is a link" in err, (route, err)
        assert not (tmp_path / "out").exists(), route


def test_a_run_folder_may_itself_be_a_link(origin, tmp_path, cli):
    (tmp_path / "latest").symlink_to(origin)
    code, _, err = cli("export", tmp_path / "latest", "--to", tmp_path / "out")
    assert code == 0, err


def test_only_the_two_files_of_an_adapter_are_exported(foreign, cli, tmp_path):
    folder = foreign()
    (folder / "adapters" / "fast" / "modeling_x.py").write_text("print('hi')")
    assert cli("export", folder, "--to", tmp_path / "out", "--module", "fast")[0] == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "modeling_x.py" not in names
    assert {"adapter_config.json", "adapter_model.safetensors"} < names


def test_links_in_a_bank_are_refused(continual_run, private, cli, tmp_path):
    bank = tmp_path / "bank"
    shutil.copytree(continual_run[0] / "bank", bank)
    (bank / "03-x").symlink_to(private)
    code, _, err = cli("combine", bank, "--to", tmp_path / "out", "--weights", "uniform")
    assert code == 1 and "03-x is a link" in err
    (bank / "03-x").unlink()
    (bank / "01-warm" / "memory.jsonl").unlink()
    (bank / "01-warm" / "memory.jsonl").symlink_to(private / "id_rsa")
    code, _, err = cli("combine", bank, "--to", tmp_path / "out", "--weights", "uniform")
    assert code == 1 and "memory.jsonl is a link" in err


@pytest.mark.parametrize("name", ["events.jsonl", "checkpoints", ".lock", ".config.yaml.draft"])
def test_a_run_does_not_write_through_a_link(recipe, tmp_path, name):
    made = recipe("train.max_steps=1")
    outside = tmp_path / "outside"
    (tmp_path / "run").mkdir()
    if name == "checkpoints":
        outside.mkdir()
    else:
        outside.write_text("mine")
    (tmp_path / "run" / name).symlink_to(outside)
    with pytest.raises(StateError, match="is a link"):
        fs.train(made)
    assert list(outside.iterdir()) == [] if outside.is_dir() else outside.read_text() == "mine"


def test_files_and_folders_take_the_place_of_links(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for name in ("a.txt", ".a.txt.draft"):
        (tmp_path / name).symlink_to(outside)
    write_text(tmp_path / "a.txt", "new")
    assert outside.read_text() == "mine" and not (tmp_path / "a.txt").is_symlink()
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("b", ".b.draft"):
        (tmp_path / name).symlink_to(kept)
    with new_folder(tmp_path / "b") as draft:
        (draft / "file").write_text("new")
    assert list(kept.iterdir()) == [] and (tmp_path / "b" / "file").read_text() == "new"


def test_a_report_takes_the_place_of_a_link(foreign, tmp_path, cli):
    folder, outside = foreign(), tmp_path / "outside"
    outside.write_text("mine")
    (folder / "report.html").symlink_to(outside)
    assert cli("report", folder)[0] == 0
    assert outside.read_text() == "mine" and "<html" in (folder / "report.html").read_text()


def test_what_holds_users_texts_is_private(origin, continual_run, recipe, tmp_path):
    old = os.umask(0o022)
    try:
        run = fs.train(
            recipe("train.max_steps=1", "eval.num_prompts=1").model_dump(mode="json")
            | {"data": {"max_length": 96}},
            train_dataset=tiny.rows(8),
            eval_dataset=tiny.rows(4),
        ).folder
    finally:
        os.umask(old)
    texts = ["samples.json", "memory.jsonl", "events.jsonl", "summary.json", "data/train.jsonl"]
    texts += [path.relative_to(run) for path in run.glob("checkpoints/*/state.json")]
    assert len(texts) > 5
    for name in texts:
        assert stat.S_IMODE((run / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE((run / "config.yaml").stat().st_mode) == 0o644
    for path in continual_run[0].glob("bank/*/memory.jsonl"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "path", ["/etc", "..", "a/../..", "C:/x", "\\\\host\\share", "a\\..\\b", "\0"]
)
def test_what_is_not_inside_is_refused(tmp_path, path):
    with pytest.raises(StateError, match="does not lie in it"):
        inside(tmp_path, path)


def test_what_is_inside_is_found(tmp_path):
    assert inside(tmp_path, "adapters/fast") == tmp_path / "adapters" / "fast"
    assert inside(tmp_path, ".") == tmp_path
