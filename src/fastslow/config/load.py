"""YAML and dotted overrides in, a checked Recipe out, with every fault named at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from shlex import quote
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from fastslow.config.hints import (
    hint,
    is_branch,
    is_foreign,
    judge_kinds,
    library_of,
    section_at,
    shown_path,
)
from fastslow.config.parts import part_settings, stage_label
from fastslow.config.recipe import Recipe
from fastslow.config.renamed import REMOVED, new_name, with_new_names
from fastslow.config.section import SECRET
from fastslow.config.shipped import nearest_recipe, recipe_names, recipe_text
from fastslow.config.stages import stage_settings
from fastslow.config.yaml_text import parse_yaml, read_file
from fastslow.errors import ConfigError, shown

Check = Callable[[Mapping[str, Any]], Iterable[str]]
"""Finds faults in a raw recipe that the schema cannot; one line per fault."""


def load_recipe(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    checks: Sequence[Check] = (),
) -> Recipe:
    """A recipe with `section.key=value` overrides applied.

    Args:
        source: a YAML file, the name of a recipe that comes with fastslow, or a mapping.
        overrides: settings that replace the recipe's.
        checks: find faults that the schema cannot.

    Raises ConfigError with all faults of schema, overrides and `checks` together, or, if there are
    none, those of its stages, rounds or domains.
    """
    raw = dict(source) if isinstance(source, Mapping) else _read(source)
    raw, problems = with_new_names(raw)
    for override in overrides:
        problems += _override(raw, override)
    recipe, faults = _checked(raw, checks)
    problems += faults
    if recipe is not None and not problems:
        problems += _part_problems(recipe, checks)
    if recipe is None or problems:
        raise ConfigError(*problems)
    return recipe


def part_recipe(settings: Mapping[str, Any], label: str, *, checks: Sequence[Check] = ()) -> Recipe:
    """The recipe of one part of a run. Raises ConfigError with all its faults, after the label."""
    recipe, faults = _checked(settings, checks)
    if recipe is None or faults:
        raise ConfigError(*(f"{label}: {fault}" for fault in faults))
    return recipe


def part_recipes(recipe: Recipe, checks: Sequence[Check] = ()) -> dict[str, Recipe]:
    """Each part's recipe by its label, as far as known before any of them is trained.

    Empty for a single run. Raises ConfigError with the faults of all parts.
    """
    checked = {label: _checked(raw, checks) for label, raw in part_settings(recipe).items()}
    if faults := {label: lines for label, (_, lines) in checked.items() if lines}:
        raise ConfigError(*faults_of_parts(faults, len(checked)))
    return {label: part for label, (part, _) in checked.items() if part is not None}


def stage_recipe(
    recipe: Recipe, index: int, *, start_from: str, output_dir: str | None = None
) -> Recipe:
    """The recipe of one stage of a recipe.

    Args:
        recipe: with stages.
        index: of the stage, from 0.
        start_from: adapter of the previous stage; unused for the first.
        output_dir: of the stage's run; the recipe's own by default.

    Raises ConfigError with all its faults.
    """
    settings = stage_settings(
        recipe.model_dump(mode="json"),
        recipe.stages,
        index,
        start_from=start_from,
        output_dir=output_dir or recipe.output_dir,
    )
    return part_recipe(settings, stage_label(recipe, index))


def _part_problems(recipe: Recipe, checks: Sequence[Check]) -> list[str]:
    try:
        parts = part_recipes(recipe, checks)
    except ConfigError as error:
        return list(error.problems)
    read = [s for r in parts.values() for s in (*r.data.train_sources, *r.data.eval_sources)]
    if recipe.stages and read.count("-") > 1:
        return [
            "stages: standard input (-) can be read once only, but several stages would; give "
            "files to all or to all but one"
        ]
    return []


def faults_of_parts(faults: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Faults of `count` parts, by label: a fault of all stands alone, others follow the label.

    The label of a run without parts is empty.
    """
    places: dict[str, list[str]] = {}
    for label, lines in faults.items():
        for fault in lines:
            places.setdefault(fault, []).append(label)
    shared = [fault for fault, labels in places.items() if 1 < count == len(labels)]
    return [
        fault if fault in shared or not label else f"{label}: {fault}"
        for fault, labels in places.items()
        for label in (labels[:1] if fault in shared else labels)
    ]


def _checked(raw: Mapping[str, Any], checks: Sequence[Check]) -> tuple[Recipe | None, list[str]]:
    """The recipe, if it can be made, and all faults."""
    recipe: Recipe | None = None
    problems: list[str] = []
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        faults = (line for item in error.errors() for line in _problems(item))
        problems += dict.fromkeys(faults)  # A union names the same fault once for each branch.
    return recipe, problems + [line for check in checks for line in check(raw)]


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every default written out; `load_recipe` reads it back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; for lists of mappings the index is part of the key.

    >>> flat({"train": {"epochs": 2}, "seed": 0, "stages": [{"name": "sft"}]})
    {'train.epochs': 2, 'seed': 0, 'stages.1.name': 'sft'}
    """
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(place): item for place, item in enumerate(value, 1)}
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


OF_VALUES = {
    "train.device": "; auto takes a GPU where there is one",
    "report_to": "; [], or leaving it out, means none",
}
"""Advice on values that a key does not take."""
DATA_FILES = (".jsonl", ".csv", ".parquet", ".gz")
"""Suffixes that no recipe has."""
LIBRARIES = {"trl": "TRL", "llama-factory": "LLaMA-Factory"}


def _read(source: str | Path) -> dict[str, Any]:
    """The mapping in a file or a shipped recipe; a file takes precedence."""
    path, name = Path(source), str(source)
    if path.suffix in DATA_FILES:
        raise ConfigError(
            f"recipe {path}: is a file of data; give it as data.train={path}, beside model=..., or "
            "give a YAML file"
        )
    if name in recipe_names() and not path.is_file():
        text = recipe_text(name)
    else:
        try:
            text = read_file(path, what=f"recipe {shown(name)}")
        except FileNotFoundError:
            raise ConfigError(f"recipe {path} does not exist{nearest_recipe(name)}") from None
    raw = parse_yaml(text, what=f"recipe {path}")
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"recipe {path} must hold sections and keys, not a {_kind(raw)}")
    if is_foreign(raw):
        raise ConfigError(
            f"recipe {path} is a YAML of {LIBRARIES[library_of(raw)]}; run `fastslow convert "
            f"{quote(name)} > {quote(path.stem)}-converted.yaml` and give that"
        )
    return raw


def _override(raw: dict[str, Any], override: str) -> list[str]:
    """Apply one override to the raw recipe; returns what is wrong with it."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        return [f"override {shown(override)}: write it as section.key=value"]
    try:
        # A lone dash is standard input, not YAML's empty list item.
        value = text if text == "-" else parse_yaml(text, what=f"override {shown(override)}")
    except ConfigError as error:
        return list(error.problems)
    path = new_name(key.strip()).split(".")
    nested: dict[str, Any] = {}
    _set(nested, path, value)
    nested, problems = with_new_names(nested)
    if ".".join(path) in REMOVED:
        return problems
    _set(raw, path, reduce(lambda section, part: section[part], path, nested))
    return problems


def _set(raw: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        child = raw.get(part)
        # Copied, so that the caller's mapping is never changed.
        raw[part] = dict(child) if isinstance(child, Mapping) else {}
        raw = raw[part]
    raw[path[-1]] = value


def _problems(item: Any) -> list[str]:
    names = [str(part) for part in item["loc"]]
    keys = [name for name in names if not is_branch(name)]
    path = ".".join(shown_path(item["loc"]))
    kind = item["type"]
    branch = next(filter(is_branch, names), "")
    of_names = "literal[" in branch
    one_only = branch.startswith("literal[") and isinstance(item["input"], list)
    if of_names and (one_only or kind == "list_type"):
        return []  # The union's other branch names what is allowed.
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = item["ctx"].get("tag")
        what = "is missing" if tag is None else f"got {shown(tag)}"
        return [f"{path}.kind: {what}; give one of {', '.join(judge_kinds())}"]
    if kind == "extra_forbidden":
        return [f"{path}: there is no such key{hint(item['loc'])}"]
    if kind == "missing":
        in_list = any(isinstance(part, int) for part in item["loc"])
        return [
            f"{path}: is missing; give it" + ("" if in_list else f" in the recipe or as {path}=...")
        ]
    if kind == "value_error":
        return str(item["ctx"]["error"]).splitlines()
    if kind in ("model_type", "model_attributes_type"):
        advice = f"{_advice(path, item['input'])}{_off(keys, item['input'])}"
        return [f"{path}: got {shown(item['input'])}; it is a section{advice}"]
    message = item["msg"][0].lower() + item["msg"][1:]
    if branch and not of_names:
        message = "input should be text or a list of texts"
    value = "" if kind == SECRET else f"got {shown(item['input'])}; "
    advice = OF_VALUES.get(path) or _off(keys, item["input"])
    return [f"{path}: {value}{message}{advice}"]


def _advice(section: str, given: Any) -> str:
    if section == "objective" and isinstance(given, str):
        return f"; write objective.name={given}"
    if section.endswith("judge") and given in judge_kinds():
        return f"; write {section}.kind={given}"
    if section == "objective" and callable(given):
        return (
            "; for one of your own give objective.name and objective.file, from which a run can "
            "resume, or hand the object to fastslow.Learner"
        )
    return f" of several keys; `fastslow recipe {section}` lists them"


def _off(keys: Sequence[str], given: Any) -> str:
    """Advice that null turns a section off, for values that mean this."""
    *outer, name = keys
    field = section_at(outer).model_fields.get(name)
    optional = field is not None and type(None) in get_args(field.annotation)
    # YAML reads off and no as false.
    off = given is False or (isinstance(given, str) and given.lower() in ("none", "off"))
    return f"; {name}: null turns it off" if optional and off else ""


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list) else type(value).__name__
