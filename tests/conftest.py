import gc
import os
import sys
from pathlib import Path

# Tiny tensors are quickest on one thread; set before torch loads, and for every child process.
# Nothing heavy is imported here, as the process that hands tests to workers would wait for it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

import fork_server  # noqa: E402
from loopback import loopback  # noqa: E402, F401

FAST = "not slow"
SHARED = Path(__file__).parents[2] / "shared"


def pytest_report_header(config):
    """Which part of the tests this is."""
    chosen = config.option.markexpr
    how = "the first of each command fresh" if fork_server.COLD else "forked, but for a few"
    return [
        f"tests: {'the fast ones; `make slow` runs the others' if chosen == FAST else chosen}",
        f"Python processes: {how}",
    ]


def pytest_collection_finish(session):
    # What the tests have imported stays; passing over it in every collection takes a tenth longer.
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    fork_server.allowed = item.get_closest_marker("processes") is not None
    fork_server.seen.clear()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A tiny Llama with a chat template."""
    import tiny

    return tiny.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def train_file(tmp_path_factory) -> Path:
    import tiny

    folder = tmp_path_factory.mktemp("train")
    return tiny.write_rows(folder / "train.jsonl.gz", tiny.rows(96, seed=1))


@pytest.fixture(scope="session")
def eval_file(tmp_path_factory) -> Path:
    import tiny

    return tiny.write_rows(tmp_path_factory.mktemp("eval") / "eval.jsonl", tiny.rows(24, seed=2))


@pytest.fixture
def recipe(model_folder, train_file, eval_file, tmp_path):
    """Makes a small recipe; keyword arguments replace whole sections or single keys."""
    from fastslow import load_recipe

    def make(*overrides: str, **sections):
        raw = {
            "model": str(model_folder),
            "output_dir": str(tmp_path / "run"),
            "data": {"train": str(train_file), "eval": str(eval_file), "max_length": 96},
            "lora": {"rank": 4, "alpha": 8.0},
            "train": {"batch_size": 8, "learning_rate": 1e-2},
            "eval": {"num_prompts": 0, "max_new_tokens": 4},
            "checkpoint": {"every": 4},
        }
        return load_recipe(raw | sections, overrides)

    return make


@pytest.fixture(scope="session")
def domain_files(tmp_path_factory) -> dict[str, dict[str, str]]:
    """Files of pairs of three domains, of which two contradict each other."""
    import tiny

    folder = tmp_path_factory.mktemp("domains")
    files = {}
    for seed, name in enumerate(tiny.ASKED):
        train = tiny.domain_rows(name, 32, seed=seed)
        held_out = tiny.domain_rows(name, 8, seed=50 + seed)
        files[name] = {
            "train": str(tiny.write_rows(folder / f"{name}.jsonl", train)),
            "eval": str(tiny.write_rows(folder / f"{name}-test.jsonl", held_out)),
        }
    return files


@pytest.fixture
def continual(model_folder, domain_files, tmp_path):
    """Makes a recipe over domains; keyword arguments are its `continual` section."""
    import tiny

    from fastslow import load_recipe

    def make(*overrides: str, names=("warm", "cold"), **section):
        raw = tiny.continual_settings(model_folder, domain_files, names, **section)
        return load_recipe({"output_dir": str(tmp_path / "run")} | raw, overrides)

    return make


@pytest.fixture(scope="session")
def continual_run(model_folder, domain_files, tmp_path_factory):
    """A finished run over two domains, and its summary."""
    import tiny

    from fastslow import training

    raw = tiny.continual_settings(model_folder, domain_files, ("warm", "cold"), weights="uniform")
    folder = tmp_path_factory.mktemp("continual") / "run"
    changes = {"output_dir": str(folder), "eval": {"num_prompts": 2, "max_new_tokens": 4}}
    return folder, training.train(raw | changes)


@pytest.fixture
def cli(monkeypatch, capsys):
    """Runs a command here; gives its exit code, and what it wrote to stdout and stderr."""
    from fastslow.cli import main

    def call(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["fastslow", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main.run()
            raise SystemExit(0)
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return call


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and a real model."""
    if not (SHARED / "models" / "base-6m").is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: {SHARED} is missing")
    return SHARED


@pytest.fixture(autouse=True)
def _unseeded():
    """Every test starts from a different global generator: nothing may lean on its state."""
    import torch

    torch.seed()
