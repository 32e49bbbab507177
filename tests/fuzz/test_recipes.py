"""Recipes that nobody would write: each is a Recipe or one short error, and nothing is run."""

import random

import pytest
import tiny
import yaml
from bounded import fault

from fastslow.config import dump_recipe, load_recipe, recipe_names, recipe_text
from fastslow.objectives import objective_problems

pytestmark = pytest.mark.slow

COUNT = 500
RULE = "{kind: rule, file: r.py}"
OF_OURS = [
    "{judge: {kind: rule, file: r.py}, online: {num_generations: 2, max_new_tokens: 8}}",
    "{judge: {kind: llm, url: 'http://127.0.0.1:1/v1', model: m}, rounds: {count: 2}}",
    "{eval: {judge: {kind: ensemble, members: [" + RULE + ", {kind: world, file: w}]}}}",
    "{stages: [sft, {name: preferences, train: {batch_size: 4}}]}",
    "{chase: null, continual: {domains: [{name: a, train: rows.jsonl, eval: rows.jsonl}]}}",
    "{objective: {name: dpo + 0.2 * sft, beta: 0.2}, moving_reference: {every: 4}}",
    "{task: reward, chase: null}",
    "{filter: {max_new_tokens: 8}, judge: {kind: classifier, data: rows.jsonl}}",
    "{anchor: {strength: 0.1}, lora: {start_from: adapter}, drift: {}}",
]
VALUES = [
    None, True, -1, 0, 1, 3.5, 1e308, float("inf"), float("nan"), 2**31, 2**63, 10**40, "", "x",
    "-", "y" * 5000, [], {}, [[]], [None], ["a", "b"], {"a": 1}, {"kind": "rule"}, "1e400",
    "${HOME}", "../..", "/etc/passwd", "http://[", "dpo + 0.2 *", "\x00", "\x1b[2J", "[red]",
    "é" * 300, [{"name": "a"}], "base", "previous", "2001-99-99",
    "file:x", "!!python/name:os.system",
]  # fmt: skip
LINES = [
    "seed: 2001-99-99", "seed: !!int abc", "seed: !!bool maybe", "seed: !!float x", "seed: 1:2:3",
    "seed: " + "9" * 5000, "seed: 0x" + "f" * 5000, "seed: !!binary '%'", "seed: !!timestamp x",
    "seed: !!set {1, 2}", "seed: !!omap [a: 1]", "model: " + "[" * 3000 + "]" * 3000,
    "model: " + "{a: " * 400 + "}" * 400, "\tseed: 1", "seed: 1\nseed: 2", "? [a, b]\n: 1",
    "1: 2", "null: 3", "<<: 4", "<<: [{a: 1}, 5]", "seed: &a [*a]", "seed: *nothing", "%YAML 9.9",
    "---\n---\n", "seed: !!python/object/apply:os.system ['touch PWNED']", "- a", "'", "a: b: c",
    "seed: !!python/name:os.system", "x: &x {y: *x}", "seed: \u2028", "seed: \x85", "seed: \x07",
    "a: &a [1,1,1,1,1,1,1,1,1]\n" + "\n".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(9)),
]  # fmt: skip


def bases():
    """Valid recipes, as mappings over rows that are there."""
    common = {"model": "model", "data": {"train": "rows.jsonl", "max_length": 96}}
    own = [common | yaml.safe_load(text) for text in OF_OURS]
    own = [
        {k: v for k, v in each.items() if k != "data" or "continual" not in each} for each in own
    ]
    shipped = [yaml.safe_load(recipe_text(name)) for name in recipe_names()]
    return [{"model": "model"} | recipe for recipe in shipped] + own


def places(value):
    """Every container in a recipe, with the keys or indices in it."""
    if isinstance(value, dict):
        yield from ((value, key) for key in value)
        parts = list(value.values())
    elif isinstance(value, list):
        yield from ((value, index) for index in range(len(value)))
        parts = value
    else:
        return
    for part in parts:
        yield from places(part)


def changed(recipe, others, draw):
    """A recipe with one thing wrong, maybe."""
    recipe = yaml.safe_load(yaml.safe_dump(recipe))
    holder, key = draw.choice(list(places(recipe)))
    kind = draw.choice(["value", "value", "rename", "remove", "add", "section", "move"])
    if kind == "value":
        holder[key] = draw.choice(VALUES)
    elif kind == "remove":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[f"{key}"[:-1] + draw.choice("aex_")] = holder.pop(key)
    elif kind == "add" and isinstance(holder, dict):
        holder[draw.choice(["lr", "judge", "kind", "beta", "file", "x.y", "É", "__class__"])] = (
            draw.choice(VALUES)
        )
    else:
        other = draw.choice(others)
        name = draw.choice(list(other))
        recipe[name if kind == "section" else draw.choice(list(recipe))] = other[name]
    return recipe


def text_of(recipe, draw):
    """Its bytes, maybe odd ones."""
    raw = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=draw.random() < 0.5).encode()
    kind = draw.choice(["", "", "", "line", "line", "cut", "flip", "bytes", "utf-16"])
    if kind == "line":
        line = draw.choice(LINES).encode()
        raw = raw + line if draw.random() < 0.5 else line + b"\n" + raw
    elif kind == "cut":
        raw = raw[: draw.randrange(len(raw))]
    elif kind == "flip":
        spoilt = bytearray(raw)
        for _ in range(3):
            spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
        raw = bytes(spoilt)
    elif kind == "bytes":
        raw = draw.randbytes(draw.randrange(200))
    elif kind == "utf-16":
        raw = raw.decode().encode("utf-16")
    return raw


def override(recipe, draw):
    """A dotted setting."""
    value = draw.choice([*map(str, VALUES), *(line.partition(": ")[2] for line in LINES)])
    key = draw.choice(
        [*recipe, "train.batch_size", "objective.beta", "judge.kind", "a..b", "", "."]
    )
    return f"{key}{draw.choice(['=', '=', '=', ''])}{value}"


def check(path, overrides):
    """Everything that is checked of a recipe before there is a model."""
    recipe = load_recipe(path, overrides, checks=[objective_problems])
    again = path.with_name("again.yaml")
    again.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(again) == recipe


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what the recipes name."""
    tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(8))
    (tmp_path / "r.py").write_text("def score(prompt, answer): return 1.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    return tmp_path


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_recipe_is_one_or_is_refused_in_a_few_words(here):
    draw, known, faults, taken = random.Random(17), bases(), [], 0
    path = here / "recipe.yaml"
    for number in range(COUNT):
        recipe = draw.choice(known)
        for _ in range(draw.randint(0, 3)):
            recipe = changed(recipe, known, draw) if recipe else recipe
        raw = text_of(recipe, draw)
        path.write_bytes(raw)
        overrides = [override(recipe, draw)] if draw.random() < 0.4 else []
        ended = []

        def call(overrides=overrides, ended=ended):
            check(path, overrides)
            ended.append(True)

        if found := fault(call, seconds=30):
            faults.append(f"{number}: {found}\n{raw[:400]!r} {overrides!r}")
        taken += bool(ended)
    assert not faults, f"{len(faults)} of {COUNT}\n" + "\n\n".join(faults[:20])
    assert 0.05 * COUNT < taken < 0.7 * COUNT  # Both ends are tried.
    assert not (here / "PWNED").exists()


def test_the_recipes_that_are_changed_are_valid(here):
    for recipe in bases():
        path = here / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        assert load_recipe(path, checks=[objective_problems])


def test_a_build_that_lets_an_exception_out_is_caught(here, monkeypatch):
    monkeypatch.setattr("fastslow.config.load.parse_yaml", lambda text, what: yaml.safe_load(text))
    (here / "recipe.yaml").write_text("model: x\nseed: 2001-99-99\n")
    found = fault(lambda: check(here / "recipe.yaml", []))
    assert found is not None and found.startswith("ValueError")
