"""The rooms import one way, heavy libraries have one door, and the light parts stay light."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tree import syntax  # noqa: E402

SOURCE = Path(__file__).parents[2] / "src" / "fastslow"
LEVELS = [
    {"errors", "records", "trl_losses", "words"},
    {"disk_errors", "transcripts", "orphans"},
    {"atomic_io"},
    {"foreign_files", "plugins", "openai_replies", "hub"},
    {"openai_client"},
    {"config", "objectives", "dynamics", "feedback"},
    {"streams", "convert"},
    {"scoring", "adapters", "evaluation", "testing"},
    {"judges", "sampling"},
    {"training", "reports"},
    {"bench", "serve", "prompts", "harnesses"},
    {"api"},
    {"live"},
    {"cli"},
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
DOORS = {
    "peft": {"adapters"},
    "accelerate": {"training"},
    "river": {"training"},
    "scipy": {"live"},
    "lm_eval": {"harnesses"},
    "openai": {"openai_client"},
    "huggingface_hub": {"hub", "streams"},
    "sklearn": {"judges"},
    "datasets": {"streams"},
    "pyarrow": {"streams"},
    "typer": {"cli"},
    "rich": {"cli"},
    "yaml": {"config"},
    "pydantic": {"config", "serve"},
    "plotly": {"reports"},
    "sqlalchemy": {"feedback"},
    "alembic": {"feedback"},
    **dict.fromkeys(
        (
            "fastapi",
            "starlette",
            "uvicorn",
            "limits",
            "markdown_it",
            "nh3",
            "prometheus_client",
            "standardwebhooks",
        ),
        {"serve"},
    ),
    "httpx2": {"serve", "live"},
    "jinja2": {"reports", "scoring"},
    "transformers": {"adapters", "bench", "sampling", "scoring", "training"},
}
TORCH_ONLY = {"objectives", "dynamics", "testing"}
FILES = sorted(SOURCE.rglob("*.py"))


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def imports(path):
    return tuple(_imports(path))


def _imports(path):
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def faults_of(path):
    """Imports that go upwards or by no door."""
    own = room(path)
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "fastslow" and own not in ("__init__", "__main__"):
            target = rest[0] if rest else "api"  # What `import fastslow` offers.
            if target != own and LEVEL[target] >= LEVEL[own]:
                yield f"{path}: {own} imports {target}"
        elif package in DOORS:
            if own not in DOORS[package]:
                yield f"{path}: {own} imports {package}"
        elif own in TORCH_ONLY and package not in {"torch", *sys.stdlib_module_names}:
            yield f"{path}: {own} imports {package}"


def test_rooms_import_downwards_and_through_doors():
    assert [fault for path in FILES for fault in faults_of(path)] == []


def test_reports_know_run_folders_and_no_model():
    known = {n for p in FILES if room(p) == "reports" for n in imports(p) if "fastslow" in n}
    rooms = {name.split(".")[1] for name in known}
    light = {"errors", "records", "atomic_io", "disk_errors", "foreign_files"}
    assert rooms <= {"reports", "config", "evaluation"} | light


def test_only_the_named_files_know_transformers():
    users = {
        str(p.relative_to(SOURCE))
        for p in FILES
        if "transformers" in {name.split(".")[0] for name in imports(p)}
    }
    assert users == {
        "adapters/base.py", "sampling/continuations.py", "sampling/generate.py",
        "sampling/probe.py", "sampling/shared_prompts.py",
        "training/export/export.py", "bench/tiny_base.py", "adapters/library_logging.py",
        "adapters/rewards.py", "adapters/fingerprint.py",
        "scoring/attention.py", "scoring/layers.py", "adapters/fake_model.py",
    }  # fmt: skip


LIGHT = (
    "import fastslow.cli.main",
    "import fastslow, fastslow.config; fastslow.config.load_recipe({'model': 'm'})",
    "import fastslow.streams",
    "import fastslow.reports",
    "import fastslow.convert",
    "import fastslow.feedback",
    "import fastslow.serve",
)


def test_light_parts_load_without_torch():
    heavy = "{'torch', 'transformers', 'peft', 'accelerate', 'datasets', 'plotly'}"
    lines = [f"{part}; print({heavy} & set(sys.modules))" for part in LIGHT]
    assert python("import sys", *lines).splitlines() == ["set()"] * len(LIGHT)


SHOW_HELP = """
def show_help(app):
    sys.argv = ["fastslow", "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        app()
    assert "Usage" in shown.getvalue() and "Commands" in shown.getvalue()
"""
ANY_APP = """
import typer
plain = typer.Typer(no_args_is_help=True, help="Teach.")
for name in "first", "second":
    @plain.command(name)
    def command(to: str = typer.Option("there", help="Where.")): "Do something."
show_help(plain)
before, seconds = set(sys.modules), time.process_time()
from fastslow.cli.main import app
show_help(app)
print(json.dumps([sorted(set(sys.modules) - before), time.process_time() - seconds, seconds]))
"""


def test_help_is_quick_and_light():
    """It takes no more than what the libraries that it is made with take of themselves."""
    shown = python("import contextlib, io, json, sys, time", SHOW_HELP, ANY_APP)
    added, own, of_libraries = json.loads(shown)
    names = [name.split(".")[0] for name in added]
    assert set(names) - sys.stdlib_module_names == {"fastslow"}
    assert 10 < names.count("fastslow") < 40
    assert 0 < own < of_libraries


def python(*lines):
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
