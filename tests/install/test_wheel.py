"""The wheel, installed where the checkout is out of reach.

A wheel is built from a source archive, and that from a copy of the tracked files, as a release
would be. Environments are made by `environments`, which downloads nothing.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest
import tiny

sys.path.insert(0, str(Path(__file__).parent))

from environments import LONGEST_S, Environment, surroundings  # noqa: E402

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = ["pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "src"]
EXTRAS = ("report", "drift", "judge", "serve")
JUDGE = ["judge.kind=classifier", "filter.num_generations=2", "--data", "pairs.jsonl.gz"]
BUILD = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="links and commands are POSIX's here"),
]


def copy_sources(to):
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, to / name)


def build(source, to):
    """The wheel of a folder or a source archive."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", to]
    command = [sys.executable, "-m", "pip", "wheel", *options, source]
    subprocess.run(list(map(str, command)), check=True, timeout=LONGEST_S)
    (wheel,) = to.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A source archive."""
    folder = tmp_path_factory.mktemp("sources")
    copy_sources(folder)
    subprocess.run(
        [sys.executable, "-c", BUILD],
        cwd=folder,
        check=True,
        timeout=LONGEST_S,
        capture_output=True,
    )
    (made,) = (folder / "dist").glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(archive, tmp_path_factory):
    return build(archive, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """A new environment with the wheel and what it requires, and no extra."""
    environment = Environment(tmp_path_factory.mktemp("fresh") / "env", PROJECT["dependencies"])
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def folder(fresh, model_folder, train_file, tmp_path_factory):
    """A folder of a user: a recipe, and the run that a few steps of it left."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(train_file, home / "pairs.jsonl.gz")
    (home / "recipe.yaml").write_text(
        json.dumps(
            {
                "model": str(model_folder),
                "output_dir": "run",
                "data": {"train": "pairs.jsonl.gz", "max_length": 96},
                "lora": {"rank": 4, "alpha": 8.0},
                "train": {"batch_size": 8, "learning_rate": 1e-2, "max_steps": 3},
                "eval": {"num_prompts": 0},
            }
        )
    )
    done = fresh.run("fastslow", "train", "recipe.yaml", cwd=home)
    assert done.returncode == 0, done.stderr
    return home


def shipped(root):
    """The files below src that are no leftovers."""
    files = (p for p in root.rglob("*") if p.is_file())
    return {
        file.relative_to(root).as_posix()
        for file in files
        if "__pycache__" not in file.parts and ".egg-info" not in str(file)
    }


def test_it_holds_every_file_of_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    files = {name for name in names if ".dist-info/" not in name}
    assert files == shipped(ROOT / "src")
    for kind in ("recipes/*.yaml", "reports/*.jinja", "reports/*.css", "reports/*.js", "py.typed",
                 "serve/web/*.js", "serve/web/index.html"):  # fmt: skip
        assert any(Path(name).match(f"fastslow/{kind}") for name in files), kind
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_source_archive_holds_the_package_and_no_tests(archive):
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {f"src/{name}" for name in shipped(ROOT / "src")} <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]


def test_it_says_who_it_is(fresh, tmp_path):
    done = fresh.run("fastslow", "--version", cwd=tmp_path)
    assert done.stdout == f"fastslow {PROJECT['version']}\n", done.stderr
    where = fresh.run("python", "-c", "import fastslow; print(fastslow.__file__)", cwd=tmp_path)
    assert Path(where.stdout).is_relative_to(fresh.packages)
    assert fresh.pip("check").returncode == 0


def test_its_recipes_come_with_it(fresh, tmp_path):
    done = fresh.run("fastslow", "recipes", cwd=tmp_path)
    kept = list((ROOT / "src/fastslow/recipes").glob("*.yaml"))
    assert kept and all(path.stem in done.stdout for path in kept)
    copied = fresh.run("fastslow", "recipes", kept[0].stem, cwd=tmp_path)
    assert copied.stdout == kept[0].read_text()


def test_it_trains(folder):
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["steps"] == 3 and len(tiny.adapters(folder / "run")) == 2


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("report", ["report", "run"]),
        ("serve", ["serve", "live"]),
        ("serve", ["learn", "live", "model=base"]),
        ("judge", ["judge", "recipe.yaml", *JUDGE, "judge.data=texts.jsonl"]),
        ("drift", ["train", "recipe.yaml", "output_dir=other", "drift.detector=adwin"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_lacks_an_extra_names_it_in_one_line(fresh, folder, extra, command):
    done = fresh.run("fastslow", *command, cwd=folder)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ")
    assert f"pip install 'fastslow[{extra}]'" in line


@pytest.fixture
def with_extra(wheel, request, tmp_path):
    """A new environment with the wheel and one of its extras."""
    extra = PROJECT["optional-dependencies"][request.param]
    environment = Environment(tmp_path / "env", [*PROJECT["dependencies"], *extra])
    environment.install(f"{wheel}[{request.param}]")
    return environment


@pytest.mark.parametrize("with_extra", ["report"], indirect=True)
def test_with_report_a_page_is_written(with_extra, folder, tmp_path):
    done = with_extra.run("fastslow", "report", folder / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("with_extra", ["drift"], indirect=True)
def test_with_drift_a_run_looks_for_it(with_extra, folder, tmp_path):
    to = tmp_path / "run"
    command = ["train", "recipe.yaml", f"output_dir={to}", "drift.detector=adwin"]
    done = with_extra.run("fastslow", *command, cwd=folder)
    assert done.returncode == 0 and (to / "summary.json").exists(), done.stderr


@pytest.mark.parametrize("with_extra", ["judge"], indirect=True)
def test_with_judge_a_classifier_judges(with_extra, folder, tmp_path):
    texts = [{"text": f"a {word} day", "label": n} for n in (0, 1)
             for word in (tiny.GOOD if n else tiny.BAD) for _ in range(2)]  # fmt: skip
    data = tiny.write_rows(tmp_path / "texts.jsonl", texts)
    command = ["judge", "recipe.yaml", *JUDGE, f"judge.data={data}"]
    done = with_extra.run("fastslow", *command, cwd=folder)
    assert done.returncode == 0 and "agreement" in done.stdout, done.stderr
    assert with_extra.run("python", "-c", "import openai", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("with_extra", ["serve"], indirect=True)
def test_with_serve_the_page_is_served(with_extra, tmp_path):
    command = [with_extra.bin / "fastslow", "serve", tmp_path / "live", "--port", "0"]
    server = subprocess.Popen(
        command, cwd=tmp_path, env=surroundings(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        said = next(filter(None, (re.search(r"serving on (\S+);", x) for x in server.stdout)), None)
        assert said is not None
        for name in ("", "web/main.js", "web/style.css"):
            with urllib.request.urlopen(f"{said[1]}/{name}", timeout=30) as reply:
                assert reply.status == 200
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)


def pack_older(to):
    """A wheel of an older release, with a module that is no more."""
    about = "fastslow-0.0.1.dist-info"
    files = {
        "fastslow/__init__.py": "",
        "fastslow/gone.py": "",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: fastslow\nVersion: 0.0.1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
    path = to / "fastslow-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in {**files, f"{about}/RECORD": record}.items():
            packed.writestr(name, text)
    return path


def test_an_older_one_makes_way_and_nothing_else_is_changed(wheel, tmp_path):
    environment = Environment(tmp_path / "env", [*PROJECT["dependencies"], "scikit-learn"])
    environment.install(pack_older(tmp_path))
    assert (environment.packages / "fastslow" / "gone.py").exists()
    before = environment.versions()
    environment.install(wheel)
    after = environment.versions()
    assert before - after == {"fastslow-0.0.1"}
    assert after - before == {f"fastslow-{PROJECT['version']}"}
    assert not (environment.packages / "fastslow" / "gone.py").exists()
    done = environment.run("fastslow", "--version", cwd=tmp_path)
    assert done.stdout == f"fastslow {PROJECT['version']}\n"
