"""Notices that the preferences have changed, from the loss on pairs not learned yet.

The detectors are river's; this is the only door to it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from statistics import fmean, variance
from typing import Any

from fastslow.config import DriftConfig
from fastslow.errors import ConfigError

RECENT = 64
"""Pairs over which a rise is judged, and how long an alarm may wait for one to show."""
CLEAR = 3.0
"""Standard errors by which the loss must have risen: the detectors test at every pair, so that one
of their alarms alone means little."""
KEPT = 4096
"""Losses after which the detector is renewed from the last COMPARED ones. River's detectors can be
saved by pickling only, so a checkpoint holds what they have heard, which must not grow for ever."""
COMPARED = 5 * RECENT


class DriftDetector:
    """Detects a rise of the test-then-train loss.

    Only a rise counts, as a falling loss means learning. Raises ConfigError where river is missing.
    """

    def __init__(self, config: DriftConfig) -> None:
        if find_spec("river") is None:
            raise ConfigError("drift: needs river; install it with pip install 'fastslow[drift]'")
        self._config = config
        self._detector = _make(config)
        self._losses: list[float] = []
        """What the detector has heard."""
        self._count = 0
        """Pairs so far."""
        self._alarm = 0
        """Pairs that the last alarm still counts for."""
        self.found = False
        """Whether the domain has ended."""

    def update(self, losses: Sequence[float]) -> bool:
        """Take in the losses of some pairs, nats; whether the domain has ended."""
        for loss in losses:
            if len(self._losses) >= KEPT:
                self._renew(self._losses[-COMPARED:])
            self._losses.append(loss)
            self._count += 1
            self._detector.update(loss)
            self._alarm = RECENT if self._detector.drift_detected else self._alarm - 1
            enough = self._count >= self._config.min_pairs
            self.found = self.found or (enough and self._alarm > 0 and self._has_risen())
        return self.found

    def _renew(self, losses: list[float]) -> None:
        """Begin with a detector that has heard some losses."""
        self._detector, self._losses = _make(self._config), losses
        for loss in losses:
            self._detector.update(loss)

    def _has_risen(self) -> bool:
        """Whether the last RECENT pairs clearly lost more than those before on average."""
        late, early = self._losses[-RECENT:], self._losses[-COMPARED:-RECENT]
        if len(early) < 2:
            return False
        error = math.sqrt(variance(late) / len(late) + variance(early) / len(early))
        return fmean(late) - fmean(early) > CLEAR * error

    def state(self) -> dict[str, Any]:
        """What the detector has heard and found, as JSON; at most KEPT losses."""
        return {
            "losses": list(self._losses),
            "count": self._count,
            "alarm": self._alarm,
            "found": self.found,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Be where `state()` was."""
        self._renew(list(state["losses"]))
        self._count, self._alarm, self.found = state["count"], state["alarm"], state["found"]


def _make(config: DriftConfig) -> Any:
    from river import drift

    kinds: dict[str, Callable[[], Any]] = {
        "adwin": lambda: drift.ADWIN(delta=config.sensitivity),
        "page_hinkley": lambda: drift.PageHinkley(delta=config.sensitivity, mode="up"),
        "kswin": lambda: drift.KSWIN(alpha=config.sensitivity, seed=0),
    }
    return kinds[config.detector]()
