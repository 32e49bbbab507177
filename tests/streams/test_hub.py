"""Datasets of the hub, from a stand-in: subset, split, revision; what is not there is one error."""

import json
import os
import re
import subprocess
import sys

import pytest
from fake_hub_data import FakeDatasetHub

from fastslow.errors import DataError
from fastslow.streams import open_sources

OLD, NEW = "1" * 40, "2" * 40
CARD = b"""---
configs:
- config_name: hard
  data_files:
  - {split: train, path: hard/train.jsonl}
  - {split: test, path: hard/test.jsonl}
- config_name: easy
  data_files:
  - {split: train, path: easy/train.jsonl}
---
"""


def rows(name, count):
    made = [{"prompt": "p", "chosen": f"{name} {i}", "rejected": "r"} for i in range(count)]
    return "".join(json.dumps(row) + "\n" for row in made).encode()


def pairs(name):
    return {"README.md": CARD, "hard/train.jsonl": rows(f"{name} hard", 3),
            "hard/test.jsonl": rows(f"{name} test", 1), "easy/train.jsonl": rows(f"{name} easy", 2),
            }  # fmt: skip


READ = {
    "me/plain": ["plain 0", "plain 1"],
    "me/pairs:easy/train": ["new easy 0", "new easy 1"],
    "me/pairs:hard/test": ["new test 0"],
    f"me/pairs@{OLD}:hard/train": ["old hard 0", "old hard 1", "old hard 2"],
    f"me/pairs@{NEW}:hard/test": ["new test 0"],
}
REFUSED = {
    "me/pairs": r"several subsets, so name one, as :SUBSET/SPLIT; \['hard', 'easy'\]",
    "me/pairs:easy/test": r"Bad split: test. Available splits: \['train'\]",
    "me/pairs@none:hard/train": "Revision 'none' doesn't exist",
    "me/none": "doesn't exist on the Hub",
}
ASK = """
import json, sys
from fastslow.errors import DataError
from fastslow.streams import open_sources

for spec in sys.argv[1:]:
    (source,) = open_sources([spec])
    try:
        said = [row["chosen"] for _, row in source.rows()]
    except DataError as error:
        said = str(error)
    print(json.dumps([spec, said, source.fingerprint(), source.name]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Of each text: its rows or the error, its fingerprint and its name.

    In a process of its own, as the libraries read once where the hub is.
    """
    hub = FakeDatasetHub({
        "me/plain": {OLD: {"train.jsonl": rows("plain", 2)}},
        "me/pairs": {OLD: pairs("old"), NEW: pairs("new")},
    })  # fmt: skip
    env = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0",
        "HF_HOME": str(tmp_path_factory.mktemp("hub")),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", ASK, *READ, *REFUSED], env=env, capture_output=True, text=True
    )
    hub.close()
    assert done.returncode == 0, done.stderr
    return {spec: rest for spec, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("spec", READ)
def test_a_subset_a_split_and_a_revision_are_read(answers, spec):
    assert answers[spec][0] == READ[spec]


def test_the_fingerprint_names_the_commit_and_the_subset(answers):
    pinned = f"me/pairs@{OLD}:hard/train"
    assert answers["me/pairs:easy/train"][1] == ["me/pairs", "train", NEW, "easy"]
    assert answers[pinned][1:] == [["me/pairs", "train", OLD, "hard"], pinned]


@pytest.mark.parametrize("spec", REFUSED)
def test_what_is_not_there_is_one_error(answers, spec):
    said = answers[spec][0]
    assert re.search(REFUSED[spec], said) and said.startswith(spec) and "\n" not in said


@pytest.mark.parametrize(
    "spec", ["me/pairs@", "me/pairs:a/b/c", "me/pairs:train[:10%]", "@v1:train"]
)
def test_a_text_that_is_no_id_is_no_dataset(spec):
    with pytest.raises(DataError):
        open_sources([spec])
