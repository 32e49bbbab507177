"""Run, bank and adapter folders that are damaged or lie: they work, or are one error of ours.

Nothing that they name is run, and nothing beside them is copied, changed or shown.
"""

import json
import os
import random
import shutil

import pytest
import tiny
import torch
import yaml
from bounded import fault
from safetensors.torch import load_file, save_file

import fastslow as fs
from fastslow.adapters import Factors, Modules, load_base, strip_modules
from fastslow.reports import write_report

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COUNT = 200
SECRET = "SESAME-OPEN"
REWARDS = {"kind": "reward_model"}
DAMAGES = [
    "remove", "text", "value", "value", "value", "value", "link", "folder link", "weights",
    "weights", "shape", "cut", "code", "code", "folder", "fifo", "stray",
]  # fmt: skip
CODE = "from pathlib import Path\nPath({mark!r}).write_text('ran')\n"
VALUES = [
    None, True, -1, 0, 3.5, float("nan"), 10**40, "", "x", "\x1b[2J", [], {}, [[]], {"a": []},
    "../private", "{private}", "/etc/passwd", "y" * 3000, ["{private}"], "\ud800",
]  # fmt: skip
TEXTS = ["", "[]", "{", "null", "3", '"x"', "[" * 50_000, "{}", "\x00", '{"a": ' + "9" * 5000 + "}"]


@pytest.fixture(scope="module")
def origins(model_folder, train_file, eval_file, continual_run, tmp_path_factory):
    """A folder of each kind."""
    run = tmp_path_factory.mktemp("origins") / "run"
    recipe = {
        "model": str(model_folder),
        "output_dir": str(run),
        "data": {"train": str(train_file), "eval": str(eval_file), "max_length": 96},
        "lora": {"rank": 2, "alpha": 4.0},
        "train": {"batch_size": 8, "learning_rate": 1e-2, "max_steps": 2},
        "eval": {"num_prompts": 1, "max_new_tokens": 2, "max_pairs": 2},
    }
    fs.train(recipe)
    return {
        "run": run,
        "domains": continual_run[0],
        "bank": continual_run[0] / "bank",
        "adapter": run / "adapters" / "fast",
    }


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def places(value):
    """Every container in JSON, with the keys or indices in it."""
    if isinstance(value, dict):
        yield from ((value, key) for key in value)
    elif isinstance(value, list):
        yield from ((value, index) for index in range(len(value)))
    else:
        return
    for part in value.values() if isinstance(value, dict) else value:
        yield from places(part)


def damage(folder, private, code, draw, damages):
    """Do one thing to a folder; what."""
    named = [path for path in files_of(folder) if path.suffix in (".json", ".yaml", ".jsonl")]
    weights = [path for path in files_of(folder) if path.suffix == ".safetensors"]
    kind = draw.choice(damages)
    path = draw.choice(weights if kind in ("weights", "shape") and weights else named or weights)
    if kind == "remove":
        path.unlink()
    elif kind == "text":
        path.write_text(draw.choice(TEXTS))
    elif kind == "value":
        change_value(path, private, draw)
    elif kind == "link":
        path.unlink()
        path.symlink_to(private / "secret.txt")
    elif kind == "folder link":
        inner = [p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink()] or [folder]
        path = draw.choice(inner)
        shutil.rmtree(path)
        path.symlink_to(private)
    elif kind in ("weights", "shape") and path.suffix == ".safetensors":
        tensors = load_file(path)
        floats = sorted(key for key in tensors if tensors[key].is_floating_point())
        key = draw.choice(floats or ["x"])
        if kind == "shape" or not floats:
            tensors[key] = torch.zeros(draw.choice([(1,), (3, 5), (0, 2)]))
        else:
            tensors[key].view(-1)[0] = draw.choice([float("nan"), float("inf")])
        save_file(tensors, path, metadata={"format": "pt"})
    elif kind == "cut":
        raw = path.read_bytes()
        path.write_bytes(raw[: draw.randrange(len(raw) + 1)])
    elif kind == "code":
        path = name_code(folder, code, draw)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "fifo":
        path.unlink()
        os.mkfifo(path)
    else:
        (path.parent / draw.choice(["x.py", "x.bin", "pytorch_model.bin"])).write_text("import os")
    return f"{kind} {path.relative_to(folder)}"


def change_value(path, private, draw):
    """Put something else at a random place of a file of YAML or JSON."""
    lines = path.suffix == ".jsonl"
    try:
        text = path.read_text()
        if path.suffix == ".yaml":
            values = yaml.safe_load(text)
        else:
            values = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
        holder, key = draw.choice(list(places(values)))
    except (ValueError, IndexError, yaml.YAMLError):
        return  # Another damage came first.
    value = draw.choice(VALUES)
    if isinstance(value, str):
        value = value.replace("{private}", str(private))
    if draw.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = value
    if path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(values))
    else:
        path.write_text("\n".join(map(json.dumps, values)) if lines else json.dumps(values))


def name_code(folder, code, draw):
    """Have a config.yaml name Python."""
    configs = [path for path in files_of(folder) if path.name == "config.yaml"]
    if not configs:
        return folder
    path = draw.choice(configs)
    try:
        config = yaml.safe_load(path.read_text())
        rule = {"kind": "rule", "file": str(code)}
        change = draw.choice([
            {"eval": config["eval"] | {"judge": rule}},
            {"objective": {"name": "Mine", "file": str(code)}},
            {"judge": rule, "online": {"max_new_tokens": 2}},
            {"trust_remote_code": True},
        ])  # fmt: skip
        path.write_text(yaml.safe_dump(config | change))
    except (TypeError, KeyError, ValueError, yaml.YAMLError):
        pass
    return path


def ways(kind, folder, out, base):
    """How folders of a kind are opened."""
    if kind == "adapter":

        def attach():
            try:
                Modules.load(base, {"x": folder}, trainable=())
            finally:
                strip_modules(base)

        return {"factors": lambda: Factors.read(folder), "load": attach}
    combine = {
        weights: lambda weights=weights: fs.combine([folder], out, weights)
        for weights in ("uniform", "learned", "routed")
    }
    if kind == "bank":
        return combine
    return combine | {
        "eval": lambda: fs.Run.load(folder).evaluate(),
        "eval of own rows": lambda: fs.Run.load(folder).evaluate(tiny.rows(2)),
        "sample": lambda: fs.Run.load(folder).generate(["Hi"], max_new_tokens=2),
        "score": lambda: fs.Run.load(folder).score(tiny.rows(2)),
        "export": lambda: fs.Run.load(folder).export(out),
        "merge": lambda: fs.Run.load(folder).merge_and_unload(out),
        "report": lambda: write_report([folder], out / "report.html"),
        "pandas": lambda: list(fs.Run.load(folder).events()),
        "judge": lambda: fs.check_judge(
            {"kind": "reward_model", "folder": str(folder)}, tiny.rows(2)
        ),
    }


def state_of(folder):
    return {str(path): path.read_bytes() for path in files_of(folder)}


def fuzz(origins, base, at, *, count, damages=DAMAGES, seed=23):
    """What went wrong with some folders, a text each."""
    draw, faults, worked = random.Random(seed), [], 0
    private, mark, code = at / "private", at / "ran", at / "evil.py"
    private.mkdir()
    shutil.copytree(origins["adapter"], private / "fast")
    (private / "secret.txt").write_text(SECRET)
    code.write_text(CODE.format(mark=str(mark)))
    before = state_of(private)
    for number in range(count):
        kind = draw.choice(["run", "run", "domains", "bank", "adapter"])
        folder, out = at / str(number) / "folder", at / str(number) / "out"
        shutil.copytree(origins[kind], folder)
        done = []
        for _ in range(draw.randint(1, 2)):
            if not folder.is_symlink() and files_of(folder):
                done.append(damage(folder, private, code, draw, damages))
        way, call = draw.choice(list(ways(kind, folder, out, base).items()))
        ended = []

        def opened(call=call, ended=ended):
            call()
            ended.append(True)

        found = fault(opened, seconds=60)
        worked += bool(ended)
        if mark.exists():
            found = "code was run"
            mark.unlink()
        if state_of(private) != before:
            found, before = "what is outside was changed", state_of(private)
        if any(SECRET.encode() in path.read_bytes() for path in files_of(at / str(number) / "out")):
            found = "what is outside was copied"
        if found:
            faults.append(f"{number}, {kind}, {way}, {done}: {found}")
            print(faults[-1])
        shutil.rmtree(at / str(number))
    return faults, worked


@pytest.fixture
def base(model_folder):
    return load_base(str(model_folder))


def test_every_folder_works_or_is_refused(origins, base, tmp_path):
    faults, worked = fuzz(origins, base, tmp_path, count=COUNT)
    assert not faults, f"{len(faults)} of {COUNT}\n" + "\n".join(faults)
    assert 0.1 * COUNT < worked < 0.9 * COUNT


def test_a_build_that_follows_links_and_runs_code_is_caught(origins, base, tmp_path, monkeypatch):
    monkeypatch.setattr("fastslow.config.guest.as_guest", lambda recipe: recipe)
    for place in ("state.summary", "export.open_run"):
        monkeypatch.setattr(f"fastslow.training.{place}.check_no_links", lambda *_: None)
    faults, _ = fuzz(origins, base, tmp_path, count=60, damages=["link", "folder link", "code"])
    assert any("code was run" in said for said in faults), faults
