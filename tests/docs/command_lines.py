"""What a shell would be asked to run, and what is wrong with it before it is."""

import argparse
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from pages import RECIPE_VERBS, ROOT

from fastslow.cli.main import app
from fastslow.config import load_recipe, recipe_names
from fastslow.config.reference import describe
from fastslow.errors import ConfigError
from fastslow.objectives import objective_problems

SEPARATORS = frozenset({";", "&&", "||", "|", "&"})
ASSIGNMENT = re.compile(r"[A-Z_]+=")
CAPTURE = re.compile(r"[A-Z_]+=\$\(")
OTHERS = frozenset("cat cd cp mkdir export source curl jq git uv docker hf vllm trl".split())
"""Programs that are not this project's: what they are given is their own affair."""
Words = list[str]


def simple_commands(script: str) -> Iterator[Words]:
    """The words of each simple command of a script, without assignments and redirections."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words: Words = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                words.append(word)
                continue
            if words and CAPTURE.match(words[0]):
                words = []
            while words and ASSIGNMENT.match(words[0]):
                del words[0]
            if words:
                yield _without_redirections(words)
            words = []


def _without_redirections(words: Words) -> Words:
    kept, skip = [], False
    for word in words:
        if skip or set(word) <= set("<>&"):
            skip = not skip
        else:
            kept.append(word)
    return kept


def fault(words: Words, *, whole: bool = True) -> str | None:
    """What is wrong with a command, or None.

    Args:
        words: the command, `...` standing for what a reader fills in.
        whole: whether it can be run as it is; one that a sentence names may lack arguments.
    """
    program, *rest = words
    program = program.rpartition("/")[2]  # As of an environment: tools/lm-eval/bin/pip.
    if program in OTHERS:
        return None
    if program not in CHECKS:
        return f"{program}: no such program is known here"
    return CHECKS[program](rest, whole)


def _of_fastslow(words: Words, whole: bool) -> str | None:
    of_options = {place + 1 for place, word in enumerate(words) if word.startswith("--")}
    words = [word for place, word in enumerate(words) if word != "..." or place in of_options]
    command = typer.main.get_command(app)
    context, verbs = None, []
    try:
        while hasattr(command, "resolve_command"):
            context = context or command.make_context("fastslow", list(words))
            if not words or words[0].startswith("-"):
                return None
            name, found, words = command.resolve_command(context, words)
            verbs.append(name)
            command, context = found, found.make_context(name, list(words), parent=context)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        lacks = type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError")
        return None if lacks and not whole else f"{type(error).__name__}: {error.format_message()}"
    return _of_recipe(context.params) if verbs[0] in RECIPE_VERBS else None


def _of_recipe(given: dict) -> str | None:
    """Keys that no recipe has."""
    words = [*(given.get("arguments") or []), *(given.get("overrides") or [])]
    names = [word for word in words if "=" not in word]
    settings = [word for word in words if "=" in word and word != "section.key=value"]
    open_ones = [word.removesuffix("=...") for word in settings if word.endswith("=...")]
    settings = [word for word in settings if not word.endswith("=...")]
    source = names[0] if names and names[0] in recipe_names() else {"model": "m"}
    if isinstance(source, dict) and names and re.fullmatch(r"[a-z][a-z-]*", names[0]):
        return f"{names[0]}: no such recipe comes with fastslow"
    try:
        for key in open_ones:
            describe(key)
        load_recipe(source, settings, checks=[objective_problems])
    except ConfigError as error:
        return "; ".join(error.problems)
    return None


def _of_torchrun(words: Words, whole: bool) -> str | None:
    from torch.distributed.run import get_args_parser

    return _of_launcher(get_args_parser(), words, whole)


def _of_accelerate(words: Words, whole: bool) -> str | None:
    from accelerate.commands.launch import launch_command_parser

    verb, *rest = words
    if verb != "launch":
        return f"accelerate {verb}: only launch is known here"
    return _of_launcher(launch_command_parser(), rest, whole)


def _of_launcher(parser: argparse.ArgumentParser, words: Words, whole: bool) -> str | None:
    """The launcher's own options, a file of settings that they name, and what is launched."""
    module = words.index("-m") + 1
    try:
        parsed = parser.parse_args(words[: module + 1])
    except SystemExit:
        return f"{' '.join(words[:module])} is refused"
    settings = getattr(parsed, "config_file", None)
    if settings and not (ROOT / settings).is_file():
        return f"{settings}: no such file"
    return _of_module(words[module:], whole)


def _of_python(words: Words, whole: bool) -> str | None:
    if words[0] == "-m":
        return _of_module(words[1:], whole)
    script = ROOT / words[0]
    return _lacks_options(script, words[1:]) if script.is_file() else f"{words[0]}: no such file"


def _of_module(words: Words, whole: bool) -> str | None:
    """A module that is run: it exists, and its file, package or what it imports of the benchmarks
    knows the options."""
    module, *rest = words
    if module == "fastslow":
        return _of_fastslow(rest, whole)
    sys.path.insert(0, str(ROOT))
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    finally:
        sys.path.remove(str(ROOT))
    if spec is None or spec.origin is None:
        return f"{module}: no such module"
    path = Path(spec.origin)
    return _lacks_options(path.parent if path.name == "__init__.py" else path, rest)


def _lacks_options(where: Path, words: Words) -> str | None:
    files = sorted(where.glob("*.py")) if where.is_dir() else [where]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    imported = re.findall(r"^from (benchmarks(?:\.\w+)+) import", text, re.M)
    shared = [ROOT / f"{module.replace('.', '/')}.py" for module in imported]
    text += "".join(path.read_text(encoding="utf-8") for path in shared if path.is_file())
    options = [word for word in words if word.startswith("--")]
    names = {option: option.removeprefix("--").replace("-", "_") for option in options}
    unknown = [
        option
        for option, name in names.items()
        if f'"{option}"' not in text and not re.search(rf"^    {name}: ", text, re.M)
    ]
    return f"{where.name}: does not know {', '.join(unknown)}" if unknown else None


def _of_pytest(words: Words, whole: bool) -> str | None:
    paths = [word.split("::")[0] for word in words if word.startswith(("tests", "src"))]
    missing = [path for path in paths if not (ROOT / path).exists()]
    return f"{', '.join(missing)}: no such test" if missing else None


def _of_make(words: Words, whole: bool) -> str | None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    unknown = [word for word in words if word not in targets]
    return f"make: no target {', '.join(unknown)}" if unknown else None


def _of_pip(words: Words, whole: bool) -> str | None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"(?:^|\s)(?:fastslow|\.)\[([\w,]+)\]", " ".join(words))
    extras = {extra for group in named for extra in group.split(",")}
    unknown = sorted(extras - set(project["optional-dependencies"]))
    return f"fastslow has no extra {', '.join(unknown)}" if unknown else None


CHECKS: dict[str, Callable[[Words, bool], str | None]] = {
    "fastslow": _of_fastslow,
    "torchrun": _of_torchrun,
    "accelerate": _of_accelerate,
    "python": _of_python,
    "pytest": _of_pytest,
    "make": _of_make,
    "pip": _of_pip,
}
