"""Converts events to the numbers that trackers plot, under fastslow's names and TRL's.

`train/` holds the metrics of steps, `eval/` those of held-out data, as in TRL's runs.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fastslow.config import flat

TRL_NAMES = {
    "accuracy": "rewards/accuracies",
    "chosen_logp": "logps/chosen",
    "rejected_logp": "logps/rejected",
}
"""Metrics that TRL names differently."""
TRL_REWARDS = {
    "margin": "rewards/margins",
    "chosen_log_ratio": "rewards/chosen",
    "rejected_log_ratio": "rewards/rejected",
}
"""Metrics that TRL multiplies by beta; fastslow's are in nats."""
OF_LEADER = ("learning_rate", "grad_norm")
"""Metrics of a module that TRL, which has only one, reports for the run."""
UNSAFE = re.compile(r"[^\w./ -]")
"""Characters that a tracker may refuse in a name; names of domains come from the data."""


class Series:
    """The numbers of one run's events.

    Args:
        modules: in order; the leader is reported as its index.
        beta: of the objective; None if it has none.
        rewards: True if a reward model is trained, whose log-probs are rewards.
    """

    def __init__(self, modules: list[str], beta: float | None, *, rewards: bool) -> None:
        self._modules = modules
        self._beta = beta
        self._rewards = rewards

    def numbers(self, event: Mapping[str, Any]) -> dict[str, float]:
        """The numbers to plot for an event, by name; empty if there are none."""
        kind = event["event"]
        if kind == "measured":
            return dict(_numeric("domains", event["results"]))
        if kind == "budget":
            return dict(_numeric("budget", {"reverse_kl": event["reverse_kl"],
                                            "strength": event["strength"]}))  # fmt: skip
        if kind not in ("step", "eval"):
            return {}
        prefix = "train" if kind == "step" else "eval"
        metrics = dict(_numeric(prefix, {k: v for k, v in event.items() if k != "step"}))
        if event["leader"] in self._modules:
            metrics[f"{prefix}/leader"] = self._modules.index(event["leader"])
        return metrics | dict(_numeric(prefix, dict(self._as_trl(event))))

    def _as_trl(self, event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        yield from ((name, event.get(key)) for key, name in TRL_NAMES.items()
                    if key == "accuracy" or not self._rewards)  # fmt: skip
        for key, name in TRL_REWARDS.items():
            if self._beta is not None and not self._rewards and event.get(key) is not None:
                yield name, self._beta * event[key]
        leader = event.get("modules", {}).get(event["leader"], {})
        yield from ((key, leader[key]) for key in OF_LEADER if key in leader)


def _numeric(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in flat(values).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield UNSAFE.sub("_", f"{prefix}/{key.replace('.', '/')}"), value
