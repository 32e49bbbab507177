"""Old names and old phrases do not come back: code, messages and docs use the field's terms."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NAMES = """
    AheadReader Answering Asked Asker FreshReader Given HeldOut Judged Measuring Mixture Prepared
    Preview Race Recomputing Remembered Tally Team
    add_up carriers clip_norm evened foresee foreseen from_first given_by given_here go_back
    imagined key_variable left_out loss_memory outgrown passed_over sample_tokens strengthen unended
    weighed world_base
""".split()
"""Identifiers and keys that were renamed, as whole words, upper and lower case as written."""

PHRASES = """
    gone on with
    go on (?:after|from|with|where)
    goes on (?:after|from|with|where)
    going on (?:after|from|with|where)
    anew
    foresee\\w*
    cannot be had
    left out(?=:)
    divided over
    layers divided
    mend(?:ed|s)?
    passed over
    outgrow\\w*
    answers to learn from
    the step at hand
    change places
    asked again
    speaks? there
    people there
    weighing modules
    means nothing to
    nobody knows
    can be learned from
    memory r[au]ns? out
    ran out over
    thumbs
    nats an? (?:answer|token|response)
    pairs? a second
    one a (?:file|domain)
    what came of it
    whoever
    vocabulary of \\S+ words
""".strip().splitlines()
"""Regular expressions of whole words, in any case; a space may be a line break."""

ALLOWED = {
    # Maps the old keys to the new ones, for one release.
    ("src/fastslow/config/renamed.py", "clip_norm"),
    ("src/fastslow/config/renamed.py", "key_variable"),
    ("src/fastslow/config/renamed.py", "loss_memory"),
    ("src/fastslow/config/renamed.py", "sample_tokens"),
    # Still in the JSON of `validate`, for one release.
    ("src/fastslow/cli/validate.py", "passed_over"),
    # The old name of the column `truncated` is still read, and documented as such.
    ("src/fastslow/streams/formats.py", "unended"),
    ("docs/objectives.md", "unended"),
    ("src/fastslow/streams/columns.py", "unended"),
    # The reference lists old names beside the new ones.
    ("docs/recipe.md", "clip_norm"),
    ("docs/recipe.md", "key_variable"),
    ("docs/recipe.md", "loss_memory"),
    ("docs/recipe.md", "sample_tokens"),
}
"""Files that may have an old name. LOG.md (entries keep the names of their day) and CHANGELOG.md
(lists old names beside new ones) are not checked at all."""


CHECKED = ("src/fastslow/**/*.py", "README.md", "SECURITY.md", "CONTRIBUTING.md", "AGENTS.md",
           "docs/*.md", "benchmarks/README.md", "recipes/*", "launch/*.yaml", "launch/docker/*",
           "launch/live/*")  # fmt: skip
FILES = sorted(
    path.relative_to(ROOT).as_posix() for pattern in CHECKED for path in ROOT.glob(pattern)
)
OLD_NAME = re.compile(rf"\b(?:{'|'.join(NAMES)})\b")
OLD_PHRASE = re.compile(
    "|".join(rf"\b{phrase.strip()}(?!\w)" for phrase in PHRASES).replace(" ", r"\s+"),
    re.IGNORECASE,
)


def old_words(text):
    """Every old name or phrase with its line."""
    found = [*OLD_NAME.finditer(text), *OLD_PHRASE.finditer(text)]
    return [(match.group(0), text.count("\n", 0, match.start()) + 1) for match in found]


def test_old_names_and_phrases_do_not_come_back():
    found = [
        f"{path}:{line}: {word!r}"
        for path in FILES
        for word, line in old_words((ROOT / path).read_text(encoding="utf-8"))
        if (path, word) not in ALLOWED
    ]
    assert not found, "\n".join(found)


def test_every_exception_is_a_file():
    assert {path for path, _ in ALLOWED} <= set(FILES)


@pytest.mark.parametrize(
    "text", ["a run\ngoes on from there", "Mend the rows", "clip_norm: 1", "class Team:", "anew"]
)
def test_old_words_are_found(text):
    assert old_words(text)


@pytest.mark.parametrize("text", ["amended", "a race", "a team", "renewed", "it goes on"])
def test_other_words_are_not(text):
    assert not old_words(text)
