"""Untrusted text in a page of Markdown: it stays text, on one line.

Names of domains, files and modules come from data and from folders. In a code span nothing is
markup, a link or HTML; its fence is longer than any in the text.
"""

import math
import re
from collections.abc import Iterable, Sequence

from fastslow.errors import shortened

LONGEST = 200
"""Largest number of characters shown."""


def code(text: object) -> str:
    """A text as a code span that is also safe in a table.

    >>> print(code("a`b|c"))
    `` a`b\\|c ``
    >>> print(code("one" + chr(10) + "# two"))
    `one\\n# two`
    """
    shown = shortened(str(text), LONGEST)
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    if not plain.strip():
        return "(empty)"
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    gap = " " if "`" in plain else ""
    # A table consumes the backslash before a bar, and renderers differ on two backslashes.
    barred = plain.replace("\\|", "\\x7c").replace("|", "\\|")
    return f"{fence}{gap}{barred}{gap}{fence}"


def number(value: object, digits: int = 3) -> str:
    """A number of a summary, or a dash if there is none.

    >>> number(0.77912), number(None), number("<b>"), number(12)
    ('0.779', '-', '-', '12')
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    finite = isinstance(value, float) and math.isfinite(value)
    return f"{value:.{digits}f}" if finite else "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are already Markdown, below its head; empty without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])
