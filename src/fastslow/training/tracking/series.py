"""Events to the numbers that a tracker draws, under our names and those of TRL.

`train/` is what a step measured, `eval/` what held-out data did, as trackers have it of TRL's runs.
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
"""Of our metrics what TRL calls otherwise."""
TRL_REWARDS = {
    "margin": "rewards/margins",
    "chosen_log_ratio": "rewards/chosen",
    "rejected_log_ratio": "rewards/rejected",
}
"""What TRL takes times beta; ours are in nats."""
OF_LEADER = ("learning_rate", "grad_norm")
"""Metrics of a module that TRL, which has one, gives of the run."""
UNSAFE = re.compile(r"[^\w./ -]")
"""What a tracker may refuse in a name; domains are named by data."""


class Series:
    """The numbers of one run's events.

    Args:
        modules: in their order; who leads is the place in it.
        beta: of the objective, None where it has none.
        rewards: whether a reward model is trained, whose log-probs are rewards.
    """

    def __init__(self, modules: list[str], beta: float | None, *, rewards: bool) -> None:
        self._modules = modules
        self._beta = beta
        self._rewards = rewards

    def numbers(self, event: Mapping[str, Any]) -> dict[str, float]:
        """What is drawn of an event, by name; empty where there is nothing."""
        kind = event["event"]
        if kind == "measured":
            return dict(_numeric("domains", event["results"]))
        if kind == "budget":
            return dict(_numeric("budget", {"reverse_kl": event["reverse_kl"],
                                            "strength": event["strength"]}))  # fmt: skip
        if kind not in ("step", "eval"):
            return {}
        place = "train" if kind == "step" else "eval"
        found = dict(_numeric(place, {k: v for k, v in event.items() if k != "step"}))
        if event["leader"] in self._modules:
            found[f"{place}/leader"] = self._modules.index(event["leader"])
        return found | dict(_numeric(place, dict(self._as_trl(event))))

    def _as_trl(self, event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        yield from ((name, event.get(key)) for key, name in TRL_NAMES.items()
                    if key == "accuracy" or not self._rewards)  # fmt: skip
        for key, name in TRL_REWARDS.items():
            if self._beta is not None and not self._rewards and event.get(key) is not None:
                yield name, self._beta * event[key]
        leader = event.get("modules", {}).get(event["leader"], {})
        yield from ((key, leader[key]) for key in OF_LEADER if key in leader)


def _numeric(place: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in flat(values).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield UNSAFE.sub("_", f"{place}/{key.replace('.', '/')}"), value
