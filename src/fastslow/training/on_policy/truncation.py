"""The warning that most sampled completions were cut off."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

LEAST = 16
"""Completions below which there is no warning."""


def truncation_warning(section: str, *, cut: int, of: int, longest: int, room: int) -> str | None:
    """A warning if more than half of the completions were cut off, otherwise None.

    Args:
        section: the section of the recipe that samples.
        cut: number of completions that were cut off.
        of: number of completions.
        longest: the section's max_new_tokens.
        room: data.max_length.
    """
    if of < LEAST or 2 * cut <= of:
        return None
    return (
        f"{cut} of {of} completions were cut off at {section}.max_new_tokens = {longest}, and the "
        f"judge compared them unfinished: raise it; data.max_length = {room} limits prompt plus "
        "completion"
    )


@dataclass(slots=True)
class TruncationWatch:
    """Warns once per run if most completions were cut off; the fields are those of the warning.

    Completions come few at a time, so they are added up in counts, which checkpoints keep.
    """

    section: str
    longest: int
    room: int
    _new_warnings: list[str] = field(default_factory=list)

    def see(self, truncated: Sequence[bool], counts: Counter[str]) -> None:
        """Count some completions."""
        counts.update(watched=len(truncated), watched_cut=sum(truncated))
        if counts["watched"] < LEAST or counts["told_of_cut"]:
            return
        cut, of = counts.pop("watched_cut"), counts.pop("watched")
        warning = truncation_warning(
            self.section, cut=cut, of=of, longest=self.longest, room=self.room
        )
        if warning:
            counts["told_of_cut"] = 1
            self._new_warnings.append(warning)

    def take(self) -> list[str]:
        """New warnings since the last call."""
        taken, self._new_warnings = self._new_warnings, []
        return taken
