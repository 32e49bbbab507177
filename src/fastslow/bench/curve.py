"""Reward in training over completions and time, from the run's events."""

import time
from collections.abc import Mapping
from typing import Any


class Curve:
    """An event listener. Time and answers count from its creation; time for measuring does not
    count. The first point is before any of either, though a round samples before it is measured.

    `points` are in order: `answers` sampled for training, `seconds`, and from the held-out
    measurement `reward`, `reverse_kl`, `accuracy`, `mean_length` and `win_rate`.
    """

    MEASURED = ("reward", "reverse_kl", "accuracy", "mean_length", "win_rate")

    def __init__(self, answers_each: int) -> None:
        self.points: list[dict[str, Any]] = []
        self._each = answers_each
        self._answers = 0
        self._began = self._last = time.monotonic()
        self._measuring = 0.0
        self._measured_at: int | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        now = time.monotonic()
        kind = event["event"]
        if kind == "eval":
            self._measuring += now - self._last
            repeated = event["moment"] == "final" and self._measured_at == event["step"]
            if not (repeated or (self.points and event["moment"] == "start")):
                self._add(event, now)
            self._measured_at = event["step"] if event["moment"] == "eval" else None
        elif kind == "answers":
            self._answers += event["prompts"] * self._each
        elif kind == "step":
            self._answers = max(self._answers, event.get("answers", 0))
        if kind != "progress" or not event["task"].startswith("measuring"):
            self._last = now

    def _add(self, event: Mapping[str, Any], now: float) -> None:
        seconds = round(now - self._began - self._measuring, 2)
        spent = {"answers": self._answers, "seconds": seconds}
        if event["moment"] == "start":
            spent = {"answers": 0, "seconds": 0.0}
        self.points.append({**spent, **{key: event[key] for key in self.MEASURED}})
