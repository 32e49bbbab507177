import sys
from pathlib import Path

import pytest
import tiny

import fastslow as fs

STUB = """#!{python}
import sys
from pathlib import Path

if "importlib.metadata" in sys.argv[2]:  # Which versions are installed?
    print(*["1.2.3"] * len(sys.argv[3:]))
else:
    Path({seen!r}).write_text("\\n".join(sys.argv[1:]))
    exec({work!r})
"""


@pytest.fixture(scope="session")
def trained(model_folder, train_file, eval_file, tmp_path_factory) -> Path:
    """A finished run; a test that writes into it takes a copy."""
    return fs.train(
        {
            "model": str(model_folder),
            "output_dir": str(tmp_path_factory.mktemp("trained") / "run"),
            "data": {"train": str(train_file), "eval": str(eval_file), "max_length": 96},
            "lora": {"rank": 2, "alpha": 4.0},
            "train": {"batch_size": 8, "learning_rate": 1e-2, "max_steps": 2},
            "eval": {"num_prompts": 0},
            "chase": None,
        }
    ).folder


@pytest.fixture
def run(trained, tmp_path) -> fs.Run:
    """The finished run in a folder of the test's own."""
    import shutil

    return fs.Run.load(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def stub(tmp_path):
    """Makes a stand-in for the Python of a tool's environment, in which every package is installed.

    It runs `work` in place of the tool, and writes its arguments to the file that comes back too.
    """

    def make(work: str) -> tuple[str, Path]:
        path, seen = tmp_path / "python", tmp_path / "arguments"
        path.write_text(STUB.format(python=sys.executable, seen=str(seen), work=work))
        path.chmod(0o755)
        return str(path), seen

    return make


@pytest.fixture(scope="session")
def routed_folder(model_folder, domain_files, tmp_path_factory) -> Path:
    """A run whose policy chooses a module for each prompt."""
    raw = tiny.continual_settings(model_folder, domain_files, ("warm", "cold"), weights="routed")
    folder = tmp_path_factory.mktemp("routed") / "run"
    return fs.train(raw | {"output_dir": str(folder)}).folder
