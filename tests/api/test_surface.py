"""What `import fastslow` offers: all listed, all there, and nothing heavy until it is used."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints, is_typeddict

import fastslow as fs
from fastslow.training.state import events


def test_everything_listed_is_there_and_documented():
    assert dir(fs) == sorted(fs.__all__)
    assert {"Learner", "Chase", "Run", "batches", "combine", "train"} <= {*dir(fs)}
    for name in fs.__all__:
        value = getattr(fs, name)
        if name != "__version__":
            assert inspect.getdoc(value), name


def test_methods_say_what_they_give():
    for kind in (fs.Learner, fs.Run, fs.Policy):
        for name, value in inspect.getmembers(kind, callable):
            if not name.startswith("_"):
                assert inspect.getdoc(value), f"{kind.__name__}.{name}"


def test_importing_is_light():
    script = (
        "import sys, fastslow as fs; dir(fs); fs.Recipe, fs.Pair, fs.ConfigError; "
        "print({'torch', 'transformers', 'peft', 'datasets', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(fs, "Trainer")


def test_the_page_lists_every_event():
    kinds = {
        kind
        for value in vars(events).values()
        if is_typeddict(value)
        for kind in get_args(get_type_hints(value)["event"])
    }
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
    table = page.split("## Events")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {kind for row in rows for kind in re.findall(r"`(\w+)`", row)} - {"event"} == kinds
