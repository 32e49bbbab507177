"""The warning that most sampled completions were cut off."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

LEAST = 16
"""Completions below which nothing is said."""


def truncation_warning(section: str, *, cut: int, of: int, longest: int, room: int) -> str | None:
    """A warning where more than half of some completions were cut off; None where not.

    Args:
        section: of the recipe that samples.
        cut: how many completions were cut off.
        of: how many there were.
        longest: the section's max_new_tokens.
        room: data.max_length.
    """
    if of < LEAST or 2 * cut <= of:
        return None
    return (
        f"{cut} of {of} completions were cut off at {section}.max_new_tokens = {longest}, and the "
        f"judge compared what there was of them: raise it; data.max_length = {room} limits prompt "
        "plus completion"
    )


@dataclass(slots=True)
class TruncationWatch:
    """Says once in a run that most completions were cut off; the fields as of the warning.

    What it has seen is kept in counts that a checkpoint has: few at a time are added up.
    """

    section: str
    longest: int
    room: int
    _untold: list[str] = field(default_factory=list)

    def see(self, truncated: Sequence[bool], counts: Counter[str]) -> None:
        """Look at some completions."""
        counts.update(watched=len(truncated), watched_cut=sum(truncated))
        if counts["watched"] < LEAST or counts["told_of_cut"]:
            return
        cut, of = counts.pop("watched_cut"), counts.pop("watched")
        told = truncation_warning(
            self.section, cut=cut, of=of, longest=self.longest, room=self.room
        )
        if told:
            counts["told_of_cut"] = 1
            self._untold.append(told)

    def take(self) -> list[str]:
        """What is to be said since the last call."""
        taken, self._untold = self._untold, []
        return taken
