"""YAML to plain values and back: bounded in size, without Python tags, each key once.

Small YAML can be huge: a few lines of aliases stand for billions of values, and deep nesting
exhausts the parser's recursion. Both are refused by size before anything is built.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fastslow.errors import ConfigError

MOST_BYTES = 16 << 20
MOST_VALUES = 100_000
"""Most values in a text, with aliases counted as what they stand for."""
DEEPEST = 50
"""Most levels of lists and sections."""


def read_file(path: Path, *, what: str, most: int = MOST_BYTES) -> str:
    """The text of a file of at most `most` bytes. Raises ConfigError if it cannot be read."""
    # Only pipes made by the shell, as for `<(...)`; reading any other would wait forever.
    if path.is_fifo() and path.parts[1:2] != ("dev",):
        raise ConfigError(f"{what} cannot be read: it is no file")
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise ConfigError(f"{what} cannot be read: it is larger than {most >> 20} MB")
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} cannot be read: it is not UTF-8 ({error.reason})") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what} cannot be read: {error}") from None


def parse_yaml(text: str, *, what: str) -> Any:
    """The value of a YAML text. Raises ConfigError with the place of an error."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, what)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        where = f", line {place.line + 1}, column {place.column + 1}" if place else ""
        raise ConfigError(f"{what} is not valid YAML: {error.problem}{where}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{what} is not valid YAML: {reason}") from None
    except _TooDeep:
        raise ConfigError(f"{what} is nested too deeply; give {DEEPEST} levels at most") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        # A date, number or tag that yaml's own constructors stumble over.
        raise ConfigError(f"{what} is not valid YAML: a value cannot be read ({error})") from None


def dump_yaml(values: Mapping[str, Any]) -> str:
    """The values as YAML in ASCII, in order; text is escaped so that it stays text."""
    text: str = yaml.safe_dump(dict(values), sort_keys=False, width=10_000)
    return text


class _TooDeep(Exception):
    """There are more than DEEPEST levels."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of silently taking the last.

    It stops at DEEPEST levels, as its scanner takes time quadratic in the depth.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _TooDeep
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)  # Resolves `<<` merges.
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 reads 1e-4 as text; people mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _check_size(root: yaml.Node, what: str) -> None:
    """Raise ConfigError if a text has more values or levels than any recipe needs."""
    sizes: dict[int, tuple[int, int]] = {}
    """Values and levels of each node; an alias is the same node."""
    open_nodes: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        if id(node) in open_nodes:
            raise ConfigError(f"{what} holds an alias of what it stands in; write it out")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            parts = [measure(part) for part in _parts(node)]
            open_nodes.remove(id(node))
            values = 1 + sum(count for count, _ in parts)
            sizes[id(node)] = values, 1 + max((depth for _, depth in parts), default=0)
        return sizes[id(node)]

    values, depth = measure(root)
    if depth > DEEPEST:
        raise ConfigError(f"{what} is nested {depth} levels deep; give {DEEPEST} at most")
    if values > MOST_VALUES:
        raise ConfigError(
            f"{what} stands for more than {MOST_VALUES:,} values, by its aliases; write out what "
            "is meant"
        )


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
