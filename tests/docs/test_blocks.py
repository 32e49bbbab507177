"""The blocks of every page run one after the other, and print what they are said to print."""

import re

import pytest
from pages import PAGES, ROOT, SHELL, blocks
from sessions import Session
from test_recipes import RUN

FILES = (
    "pairs.jsonl", "held-out.jsonl", "reviews/train.jsonl", "reviews/test.jsonl",
    "support/train.jsonl", "support/test.jsonl",
)  # fmt: skip
"""Of pairs; pages say that the reader has them."""
NUMBER = re.compile(r"[-+]?\d[\d,.:]*")


def runnable(page):
    """The blocks of a page that are commands, recipes with their command, or Python."""
    languages = (*SHELL, "yaml") if page in RUN else (*SHELL, "yaml", "python")
    return [b for b in blocks(page) if b.language in languages and "not run" not in b.marks]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_blocks_of_a_page_run(page, tmp_path):
    import tiny

    tiny.save_model(tmp_path / "path" / "to" / "model", max_position_embeddings=1024)
    for seed, name in enumerate(FILES):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        tiny.write_rows(path, tiny.rows(128 if name == "pairs.jsonl" else 32, seed=seed))
    session = Session(tmp_path)
    try:
        for block in runnable(page):
            printed = [masked(line) for line in session.run(block).splitlines()]
            missing = [
                line for line in block.shown if line != "..." and masked(line) not in printed
            ]
            assert missing == [], f"{block} does not print this, but\n" + "\n".join(printed)
    finally:
        session.close()


def masked(line):
    """A line without its numbers, and tokens, which are others every time."""
    return NUMBER.sub("#", re.sub(r"token=\S+", "token=", line)).rstrip()


def test_a_reason_is_given_for_what_is_not_run():
    others = [block for page in PAGES for block in blocks(page) if "not run" in block.marks]
    assert all(len(block.marks["not run"].split()) > 2 for block in others)
