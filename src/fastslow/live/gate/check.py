"""The result of one check."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """What was tested and what came out."""

    name: str
    passed: bool
    said: str
    """In words, with the numbers and the threshold."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    applied: bool = True
    """False where there was too little to test on, which `said` tells; it is passed then."""
    asks: bool = False
    """Whether failing it leaves the update to a person."""
