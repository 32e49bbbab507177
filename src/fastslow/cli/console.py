"""All output of the command goes through here, so that text stays text.

Names, rows and answers come from data, folders and servers. On a terminal an escape sequence in
them could move the cursor, rename the window or hide earlier output, and a bidirectional control
could reverse a line; both are shown, as `\\x1b`, not executed.
"""

import json
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

CONTROLS = re.compile(
    "["
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"  # C0 except tab and newline, DEL, C1.
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # Bidirectional.
    "\\u2028\\u2029\\ufeff\\U000e0000-\\U000e007f"  # Other line ends; invisible characters.
    "\\ud800-\\udfff"  # Halves of surrogates, which cannot be written at all.
    "]"
)


def visible(text: str) -> str:
    """The text with its control characters written out.

    >>> print(visible("calm" + chr(27) + "[2J"))
    calm\\x1b[2J
    """
    return CONTROLS.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """Print result lines to standard output, in one write, as a learner writes there too."""
    print(f"{visible(text)}\n", end="", flush=True)


def say_json(value: Any) -> None:
    """Print a result as one line of JSON to standard output."""
    text = json.dumps(value, ensure_ascii=False)
    print(CONTROLS.sub(lambda match: json.dumps(match.group())[1:-1], text), flush=True)


def tell(text: str) -> None:
    """Print what is not a result, such as a warning, to standard error."""
    print(visible(text), file=sys.stderr, flush=True)


def screen(*, stderr: bool = False, **settings: Any) -> "Console":
    """A console for tables and styles that takes no text as markup or control characters."""
    from fastslow.cli.screen import Screen

    return Screen(stderr=stderr, **settings)
