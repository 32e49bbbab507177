"""The result of one check."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """What was tested, and the result."""

    name: str
    passed: bool
    said: str
    """In words, with the numbers and the threshold."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    applied: bool = True
    """False if there was too little to test on, as `said` explains; it counts as passed then."""
    asks: bool = False
    """True if a failure leaves the update to a person."""
