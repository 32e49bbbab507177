"""The image: made of what is here, of the versions that are tested, for a user who may do little.

No image is built here: whether one builds and runs as its file says was not tried.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = ROOT / "launch" / "docker"
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.fixture(scope="module")
def steps():
    """The instructions of the Dockerfile in order: (NAME, the rest on one line)."""
    lines = (HOME / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if line and not line.startswith("#"))
    whole = re.sub(r" *\\\n *", " ", text).splitlines()
    return [tuple(line.split(" ", 1)) for line in whole]


@pytest.fixture(scope="module")
def last_stage(steps):
    """What the image itself is made by; stages before it are left behind."""
    start = max(n for n, (name, _) in enumerate(steps) if name == "FROM")
    return steps[start:]


def values(steps, name):
    return [rest for step, rest in steps if step == name]


def test_it_is_made_of_files_that_are_sent_to_it(steps):
    kept = (HOME / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        word
        for rest in values(steps, "COPY")
        if not rest.startswith("--from=")
        for word in rest.split()[:-1]
    ]
    assert copied and kept[0] == "*"
    for word in copied:
        assert (ROOT / word).exists() and f"!{word}" in kept, word


def test_it_has_the_versions_that_are_tested(steps):
    arguments = dict(rest.split("=", 1) for rest in values(steps, "ARG"))
    assert f"TORCH := {arguments['TORCH']}\n" in MAKEFILE
    assert arguments["TORCH_BACKEND"] == "cpu"
    (install,) = (rest for rest in values(steps, "RUN") if "constraints-run.txt" in rest)
    assert "--require-hashes" in install and "--no-deps" in install


def test_its_python_can_run_fastslow(steps):
    bases = {rest.split()[0] for rest in values(steps, "FROM")}
    (version,) = {re.fullmatch(r"python:(3\.\d+)-slim", base)[1] for base in bases}
    assert tuple(map(int, version.split("."))) >= (3, 11)


def test_it_is_no_root_and_writes_to_its_folders_alone(last_stage):
    (user,) = values(last_stage, "USER")
    uid, gid = user.split(":")
    assert "0" not in (uid, gid)
    (made,) = (rest for rest in values(last_stage, "RUN") if "install --directory" in rest)
    assert f"--uid {uid} " in made and f"--owner {uid} --group {gid} --mode 700" in made
    (folder,) = values(last_stage, "WORKDIR")
    assert folder in made.split()
    after = [name for name, _ in last_stage[last_stage.index(("USER", user)) :]]
    assert "RUN" not in after and "COPY" not in after
    # A home that is read-only would stop the libraries that cache files there.
    assert any("HOME=/tmp" in rest.split() for rest in values(last_stage, "ENV"))


def test_what_builds_it_stays_behind(last_stage):
    assert all(rest.startswith("--from=") for rest in values(last_stage, "COPY"))
    assert not [rest for rest in values(last_stage, "RUN") if "pip" in rest]


def test_arguments_reach_the_command(last_stage):
    assert values(last_stage, "ENTRYPOINT") == ['["fastslow"]']
