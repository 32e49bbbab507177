"""The rooms of training/, sizes that stay readable, and the page that shows the tree."""

import ast
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tree import PAGE, syntax, with_tree  # noqa: E402

SOURCE = Path(__file__).parents[2] / "src" / "fastslow"
TRAINING = SOURCE / "training"
LEVELS = [
    {"distributed", "data", "state"},
    {"policies", "tracking"},
    {"preflight", "memory", "growth"},
    {"on_policy", "budget"},
    {"loop"},
    {"context"},
    {"stages", "rounds", "continual", "export", "build"},
    {"run"},
    {"__init__"},
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
FILES = sorted(SOURCE.rglob("*.py"))
MOST_FILES, MOST_LINES, LONGEST_FUNCTION = 14, 350, 60


def room(path):
    return path.relative_to(TRAINING).parts[0].removesuffix(".py")


def test_rooms_of_training_import_downwards():
    upwards = []
    for path in sorted(TRAINING.rglob("*.py")):
        for node in ast.walk(syntax(path)):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module and module.startswith("fastslow.training."):
                target, own = module.split(".")[2], room(path)
                if target != own and LEVEL[target] >= LEVEL[own]:
                    upwards.append(f"{path}: {own} imports {target}")
    assert upwards == []


def test_no_room_of_training_is_crowded():
    folders = [folder for folder in TRAINING.iterdir() if (folder / "__init__.py").exists()]
    assert max(len(list(folder.glob("[!_]*.py"))) for folder in folders) <= MOST_FILES


def test_files_and_functions_are_short():
    # A released migration is a record: it is never changed again.
    files = [path for path in FILES if path.parent.name != "versions"]
    long = [str(path) for path in files if len(path.read_text().splitlines()) > MOST_LINES]
    for path in files:
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if node.end_lineno - node.lineno >= LONGEST_FUNCTION:
                    long.append(f"{path}: {node.name}")
    assert long == []


def test_the_page_shows_the_tree_of_today():
    text = PAGE.read_text(encoding="utf-8")
    assert with_tree(text) == text, "run python tests/imports/tree.py"
