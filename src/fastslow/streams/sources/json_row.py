"""The JSON of one row, decoded: what no row can be made of comes out with its reason."""

import json
from typing import Any

from fastslow.streams.sources.source import TOO_LONG, Row, Unreadable

DEEPEST = 64
"""Lists and objects inside one another. Nobody nests rows deeper, and Python's own limit would end
the run at a place that knows nothing of rows."""
TOO_DEEP = f"nested deeper than {DEEPEST} levels"


def decode_row(text: bytes | None) -> Row:
    """The row in some bytes of JSON; None is one that was too long to be kept."""
    if text is None:
        return TOO_LONG
    row = decode_value(text)
    if isinstance(row, dict | Unreadable):
        return row
    hint = "; a file that is one array is named .json" if isinstance(row, list) else ""
    return Unreadable(f"a {type(row).__name__}, not an object with columns{hint}")


def decode_value(text: bytes) -> Any:
    """What some bytes of JSON say, or Unreadable where that is nothing that a row may hold."""
    try:
        value = _DECODER.decode(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Unreadable(f"not UTF-8 (byte {error.start} of the line)")
    except json.JSONDecodeError as error:
        said = "a comma at the end" if _ends_in_comma(error) else error.msg
        return Unreadable(f"not JSON ({said}, character {error.pos} of the line)")
    except RecursionError:
        return Unreadable(TOO_DEEP)
    except ValueError as error:
        return Unreadable(f"not usable JSON ({error})")
    if text.count(b"{") + text.count(b"[") > DEEPEST and _is_deeper(value, DEEPEST):
        return Unreadable(TOO_DEEP)
    # Only an escape can smuggle half a character in, as text that holds one is no UTF-8.
    if b"\\ud" in text.lower() and not _is_unicode(value):
        return Unreadable("half a character (a lone surrogate), which is no Unicode")
    return value


def lacks_its_end(text: bytes) -> bool:
    """Whether some bytes are JSON as far as they go, but more would have to follow."""
    try:
        _DECODER.decode(text.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        return error.pos >= len(error.doc) or error.msg.startswith("Unterminated string")
    except (ValueError, RecursionError):
        pass
    return False


def _ends_in_comma(error: json.JSONDecodeError) -> bool:
    """Whether the line is a value and, as in an array that was cut into lines, a comma."""
    return error.msg == "Extra data" and error.doc[error.pos :].strip() == ","


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
"""JSON as rows have it: two values of one key are an error, where Python takes the last."""


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in value)


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
