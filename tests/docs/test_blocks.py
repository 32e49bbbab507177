"""The blocks of every page run one after the other, and print what they are said to print."""

import re
import shutil

import pytest
from pages import PAGES, blocks
from sessions import Session

FILES = (
    "pairs.jsonl", "held-out.jsonl", "reviews/train.jsonl", "reviews/test.jsonl",
    "support/train.jsonl", "support/test.jsonl",
)  # fmt: skip
"""Of pairs; pages say that the reader has them."""
NUMBER = re.compile(r"[-+]?\d[\d,.:]*")


@pytest.fixture
def session(tmp_path):
    """With a tiny model and the files that a reader is said to have."""
    import tiny

    tiny.save_model(tmp_path / "path" / "to" / "model", max_position_embeddings=1024)
    for seed, name in enumerate(FILES):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        tiny.write_rows(path, tiny.rows(128 if name == "pairs.jsonl" else 32, seed=seed))
    session = Session(tmp_path)
    yield session
    session.close()


def to_run(page):
    """The blocks of a page that are run."""
    return [block for block in blocks(page) if block.is_run]


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if to_run(p)], ids=lambda p: p.name)
def test_the_blocks_of_a_page_run(page, session):
    for block in to_run(page):
        for program in ("curl", "jq"):
            if f"{program} " in block.script and shutil.which(program) is None:
                pytest.skip(f"COMMANDS OF {block} NOT RUN: {program} is missing")
        printed = [masked(line) for line in session.run(block).splitlines()]
        shown = [line for line in block.shown if line != "..."]
        missing = [line for line in shown if masked(line) not in printed]
        assert missing == [], f"{block} does not print this, but\n" + "\n".join(printed)


def masked(line):
    """A line without its numbers, and tokens, which are others every time."""
    return NUMBER.sub("#", re.sub(r"token=\S+", "token=", line)).rstrip()


def test_a_reason_is_given_for_what_is_not_run():
    others = [block for page in PAGES for block in blocks(page) if "not run" in block.marks]
    assert all(len(block.marks["not run"].split()) > 2 for block in others)
