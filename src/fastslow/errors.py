"""Three kinds of errors: in the request, in the data, or in a run's state on disk.

Every message names the value, what is allowed, and how to fix it.
"""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 2000
"""Characters of the longest message."""


class FastslowError(Exception):
    """Any error that fastslow raises on purpose; its text is meant for the user."""

    def __init__(self, text: str = "") -> None:
        super().__init__(shortened(text, LONGEST))


class ConfigError(FastslowError):
    """A recipe or an argument asks for something that cannot be done.

    `problems` holds one line per fault, so that all can be fixed at once.

    >>> print(ConfigError("seed: must be 0 or more", "model: is missing"))
    2 problems:
      - seed: must be 0 or more
      - model: is missing
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        if len(problems) == 1:
            text = problems[0]
        else:
            text = "\n  - ".join([f"{len(problems)} problems:", *problems])
        super().__init__(text)


class DataError(FastslowError):
    """The preference data cannot be read, or too much of it is unusable."""


class EncodingError(DataError):
    """A prompt or a conversation cannot be encoded as it was given."""


class StateError(FastslowError):
    """A run folder, a checkpoint or the training itself is in a state that cannot continue."""


class NonFiniteError(StateError):
    """A loss or a gradient is not finite; nothing was updated."""


class UnreachableError(StateError):
    """A server that the run needs does not respond. Finished work is on disk."""


class RefusedError(UnreachableError):
    """A server responds but refuses the request; a retry would not help."""


class ReplyError(UnreachableError):
    """A server responds with something that is not an answer. Finished work is on disk."""


class JudgeError(UnreachableError):
    """A judge fails. Finished judgements are on disk."""


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and its end, where messages say what to do.

    >>> shortened("a" * 60 + "z", 40)
    'aaaaaa... (52 left out) ...aaz'
    """
    if len(text) <= most:
        return text
    head, tail = 2 * (most - 30) // 3, (most - 30) // 3
    return f"{text[:head]}... ({len(text) - head - tail} left out) ...{text[-tail:]}"


def shown(value: object) -> str:
    """A user's value as shown in messages."""
    try:
        return shortened(repr(value), 200)
    except (ValueError, RecursionError):  # Too many digits, or nested too deeply.
        return f"a {type(value).__name__} too large to show"


def did_you_mean(
    given: str,
    allowed: Iterable[str],
    *,
    otherwise: str = "",
    cutoff: float = 0.5,
    prefix: str = "",
) -> str:
    """The end of a message about an unknown name: the nearest known one, or `otherwise`.

    `prefix` goes before the name in the message.

    >>> did_you_mean("ipp", ["dpo", "ipo"])
    "; did you mean 'ipo'?"
    >>> did_you_mean("dop", ["dpop", "dpo"])
    "; did you mean 'dpo'?"
    """
    names = list(allowed)
    # Two swapped letters after the first are nearer than one more, which the ratio prefers.
    pairs = range(2, len(given))
    swapped = {given[: i - 1] + given[i] + given[i - 1] + given[i + 1 :] for i in pairs}
    close = [name for name in names if name in swapped]
    close = close or get_close_matches(given, names, n=1, cutoff=cutoff)
    return f"; did you mean {prefix + close[0]!r}?" if close else otherwise
