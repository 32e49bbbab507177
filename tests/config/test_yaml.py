"""YAML that is odd: one short line, whatever it is."""

import os

import pytest

from fastslow.config import load_recipe
from fastslow.config.yaml_text import DEEPEST, parse_yaml
from fastslow.errors import ConfigError

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(8)
)
ODD = {
    "seed: 2001-99-99": "month must be in 1..12",
    "seed: !!int abc": "invalid literal",
    "seed: !!bool maybe": "maybe",
    "seed: !!timestamp x": "not valid YAML",
    f"seed: {'9' * 5000}": "4300 digits",
    f"seed: 0x{'f' * 5000}": "too large to show",
    "seed: !!python/object/apply:os.system [echo]": "could not determine a constructor",
    "model: " + "[" * 3000 + "]" * 3000: f"nested too deeply; give {DEEPEST} levels",
    "model: " + "{a: " * 80 + "}" * 80: "nested too deeply",
    BOMB: "stands for more than 100,000 values",
    "model: &a [*a]": "alias of what it stands in",
    "\tseed: 1": "found character",
    "seed: 1\nseed: 2": "'seed' is given twice",
    "1: 2": "is not a name",
    "seed: \x07": "special characters are not allowed",
    "- a": "must hold sections and keys, not a list",
    "just words": "must hold sections and keys, not a str",
    "objective: {name: mine, file: 3}": "objective.file: got 3; give the path",
    "model: m\ntrain: {batch_size: 99999999999999999999}": "less than or equal to",
}


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("way", ["file", "override"])
def test_odd_yaml_is_refused_in_one_line(tmp_path, text, way):
    from fastslow.objectives import objective_problems

    path = tmp_path / "recipe.yaml"
    if way == "override" and text.startswith("seed: ") and "\n" not in text:
        path.write_text("model: m\n")
        overrides = [text.replace(": ", "=", 1)]
    else:
        path.write_text(text + "\n")
        overrides = []
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, overrides, checks=[objective_problems])
    message = str(caught.value)
    assert ODD[text] in message and len(message) < 1000, message


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, message in [
        ("folder", "Is a directory"), ("pipe", "it is no file"), ("bytes", "it is not UTF-8"),
        ("none", "does not exist"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            load_recipe(tmp_path / name)


def test_healthy_yaml_is_read_as_before():
    text = "a: 1e-4\nb: &x {c: [1, 2]}\nd: *x\ne: {<<: *x, f: null}\ng: 2001-01-02\n"
    found = parse_yaml(text, what="x")
    assert found["a"] == 1e-4 and found["d"] == {"c": [1, 2]} == found["b"]
    assert found["e"] == {"c": [1, 2], "f": None} and found["g"].year == 2001
    assert parse_yaml("", what="x") is None
