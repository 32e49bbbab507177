"""kill -9 at seeded moments of a live learner, and what it leaves in the end.

A moment is a number: the learner counts its writes to the store, before and after each commit, and
its steps on the disk, and is killed at that one. The next one takes up where it was killed.
"""

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import fork_server
from kills import MORTAL

from fastslow.atomic_io import file_hash
from fastslow.feedback import Store, updates
from fastslow.feedback.places import adapter_folder

FARTHEST = 60
"""Moments after which a learner is killed at the latest: more than an update has."""
ATTEMPTS = (
    MORTAL
    + """
from fastslow.config import load_recipe
from fastslow.feedback import Store
from fastslow.live.run import learn
from fastslow.training.state import checkpoint
folder, recipe, told = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

def attempt(mortal):
    for name in ("mkdir", "fsync", "replace", "rename"):
        mortal.before(os, name)
    mortal.in_a_file(checkpoint)
    write = Store.write

    def written(self, work, *given, **named):
        if mortal.point("before " + work.__name__):
            mortal.die()
        found = write(self, work, *given, **named)
        if mortal.point("after " + work.__name__):
            mortal.die()
        return found

    Store.write = written
    learn(folder, load_recipe(recipe), store_url=None, once=True, say=lambda text: None)

live_and_die(told, attempt)
"""
)


def lives(folder: Path, recipe: Path, numbers: list[int]) -> list[tuple[int, int, str]]:
    """Exit code, moment and where it was, of one learner after the other; 0 is never killed."""
    told = folder / "told"
    given = "".join(f"{number}\n" for number in numbers)
    done = fork_server.run("-c", ATTEMPTS, folder, recipe, told, input=given)
    assert done.returncode == 0, done.stderr
    found = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert all(code in (0, -9) for code, *_ in found), done.stderr
    return found


def left_in(folder: Path) -> tuple[list, dict]:
    """What was learned of which rows and what became of it; the files of all adapters, hashed."""
    with Store(folder) as store, store.read() as connection:
        history = updates.history(connection)
        rows = [[row.seq for row in updates.rows_of(connection, one.id)] for one in history]
        found = [
            (one.id, one.parent, one.state, one.adapter, own)
            for one, own in zip(history, rows, strict=True)
        ]
    adapters = {
        path.parent.name: file_hash(path)
        for path in sorted(folder.glob("adapters/*/adapter_model.safetensors"))
    }
    return found, adapters


def check_served(folder: Path) -> None:
    """What answers is whole, at any time."""
    with Store(folder) as store, store.read() as connection:
        for one in updates.served(connection):
            for update in (one.now, one.before):
                if update is not None:
                    weights = adapter_folder(folder, update.adapter) / "adapter_model.safetensors"
                    assert file_hash(weights) == update.adapter_sha256, update


def kill_often(start: Path, recipe: Path, to: Path, *, kills: int, seed: int) -> Counter[str]:
    """Learn all votes of a live folder once undisturbed and again and again with kills, `kills` in
    all; where they were killed. What is left must be the same each time."""
    whole = shutil.copytree(start, to / "whole")
    ((code, *_),) = lives(whole, recipe, [0])
    assert code == 0
    expected, draw, at = left_in(whole), random.Random(seed), Counter[str]()
    shutil.rmtree(whole)
    while at.total() < kills:
        folder = shutil.copytree(start, to / "killed")
        finished = False
        while not finished:
            found = lives(folder, recipe, [draw.randint(1, FARTHEST) for _ in range(3)])
            at.update(where for code, _, where in found if code)
            check_served(folder)
            finished = found[-1][0] == 0
        assert left_in(folder) == expected, f"killed at {at}"
        shutil.rmtree(folder)
    return at
