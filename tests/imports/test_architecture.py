"""The rooms import one way, heavy libraries have one door, and the light parts stay light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "fastslow"
LEVELS = [
    {"errors", "records", "atomic_io"},
    {"plugins", "openai_client"},
    {"config", "objectives", "dynamics", "streams"},
    {"scoring", "adapters", "evaluation", "testing"},
    {"judges", "sampling"},
    {"training", "reports"},
    {"bench"},
    {"api"},
    {"cli"},
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
DOORS = {
    "peft": {"adapters"},
    "accelerate": {"training"},
    "river": {"training"},
    "openai": {"openai_client"},
    "sklearn": {"judges"},
    "datasets": {"streams"},
    "pyarrow": {"streams"},
    "typer": {"cli"},
    "rich": {"cli"},
    "yaml": {"config"},
    "pydantic": {"config"},
    "plotly": {"reports"},
    "jinja2": {"reports", "scoring"},
    "transformers": {"adapters", "bench", "sampling", "scoring", "training"},
}
TORCH_ONLY = {"objectives", "dynamics", "testing"}
FILES = sorted(SOURCE.rglob("*.py"))


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_rooms_import_downwards_and_through_doors(path):
    own = room(path)
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "fastslow" and own not in ("__init__", "__main__"):
            target = rest[0] if rest else "api"  # What `import fastslow` offers.
            assert target == own or LEVEL[target] < LEVEL[own], f"{own} imports {target}"
        elif package in DOORS:
            assert own in DOORS[package], f"{own} imports {package}"
        elif own in TORCH_ONLY:
            assert package == "torch" or package in sys.stdlib_module_names


def test_reports_know_run_folders_and_no_model():
    known = {n for p in FILES if room(p) == "reports" for n in imports(p) if "fastslow" in n}
    rooms = {name.split(".")[1] for name in known}
    assert rooms <= {"reports", "errors", "records", "config", "evaluation"}


def test_only_the_named_files_know_transformers():
    users = {
        str(p.relative_to(SOURCE))
        for p in FILES
        if "transformers" in {name.split(".")[0] for name in imports(p)}
    }
    assert users == {
        "adapters/base.py", "sampling/generate.py", "training/export/export.py",
        "bench/tiny_base.py", "adapters/library_logging.py", "adapters/rewards.py",
        "scoring/attention.py", "scoring/layers.py", "adapters/fake_model.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "import fastslow.cli.main",
        "import fastslow, fastslow.config; fastslow.config.load_recipe({'model': 'm'})",
        "import fastslow.streams",
        "import fastslow.reports",
    ],
)
def test_light_parts_load_without_torch(statement):
    heavy = "{'torch', 'transformers', 'peft', 'accelerate', 'datasets', 'plotly'}"
    script = f"import sys; {statement}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_help_is_quick_and_light():
    script = (
        "import sys\nfrom fastslow.cli.main import app\nsys.argv = ['fastslow', '--help']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    times = []
    for _ in range(3):
        begun = os.times()
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
        ended = os.times()  # Of the processor, which other tests may be busy with.
        times.append(sum(ended[2:4]) - sum(begun[2:4]))
    assert 0.05 < min(times) < 0.5
