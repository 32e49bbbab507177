"""Columns of numbers for millions of steps: eight bytes each, a quarter of a list's."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload


class Numbers(Sequence[float | None]):
    """A column that grows by appending; None where a step has no value. One more byte per value."""

    __slots__ = ("_known", "_values")

    def __init__(self, values: Sequence[float | None] = ()) -> None:
        self._values = array("d")
        self._known = bytearray()
        for value in values:
            self.append(value)

    def append(self, value: float | None) -> None:
        """Add a value at the end."""
        self._known.append(value is not None)
        self._values.append(0.0 if value is None else value)

    @property
    def empty(self) -> bool:
        """Whether all values are None."""
        return not any(self._known)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[float | None]:
        for known, value in zip(self._known, self._values, strict=True):
            yield value if known else None

    @overload
    def __getitem__(self, place: int) -> float | None: ...
    @overload
    def __getitem__(self, place: slice) -> list[float | None]: ...
    def __getitem__(self, place: int | slice) -> float | None | list[float | None]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        return self._values[place] if self._known[place] else None

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
