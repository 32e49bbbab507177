"""Custom objectives: classes in a Python file that a recipe names, or functions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from torch import Tensor

from fastslow.errors import ConfigError
from fastslow.objectives.containers import CONTAINERS, PairLogps
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_positive
from fastslow.plugins import module_in, own_code


@dataclass(frozen=True, kw_only=True)
class FunctionObjective(Objective):
    """A function of pairs' log-probs as an objective; the rewards are the DPO family's, beta * h.

    Args:
        function: called with PairLogps; returns the loss of each pair, [B], or an ObjectiveOutput.
        beta: scale of the rewards, also the inverse temperature of the chase.

    Raises ConfigError if the function returns something else.
    """

    function: Callable[[PairLogps], Any] = field(repr=False)
    name: str = ""
    beta: float = 0.1

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        if not self.name:
            name = getattr(self.function, "__name__", type(self.function).__name__)
            object.__setattr__(self, "name", name)

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        """Losses and rewards, [B]."""
        loss = self.function(logps)
        if isinstance(loss, ObjectiveOutput):
            return loss
        shape = list(logps.policy_chosen.shape)
        if not isinstance(loss, Tensor) or list(loss.shape) != shape:
            got = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ConfigError(
                f"objective: {self.name} gave {got}; it must give the loss of each pair, a tensor "
                f"of shape {shape}"
            )
        return with_rewards(loss, logps, self.beta)


def check_class(kind: type[Objective], where: str) -> None:
    """Raise ConfigError listing everything wrong with a custom class."""
    if faults := list(_faults(kind)):
        raise ConfigError(*(f"{where}: {kind.__name__} {fault}" for fault in faults))


def objectives_in(path: Path) -> dict[str, type[Objective]]:
    """The subclasses of `Objective` that a file defines, by name. The file is run.

    Raises ConfigError if the file is missing or fails, or if it defines no usable subclass.
    """
    module = module_in(path, key="objective.file")
    found = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Objective)
        and value.__module__ == module.__name__
    }
    if not found:
        raise ConfigError(
            f"objective.file: {path} defines no class that derives from "
            "fastslow.objectives.Objective"
        )
    faults = [f"objective.file: {name} in {path} {fault}" for name, kind in found.items()
              for fault in _faults(kind)]  # fmt: skip
    if faults:
        raise ConfigError(*faults)
    for kind in found.values():
        if not getattr(kind.__call__, "names_errors", False):  # Only once per class.
            kind.__call__ = _naming_errors(kind.__call__, path)  # type: ignore[method-assign]
    return found


def _naming_errors(call: Callable[..., Any], path: Path) -> Callable[..., Any]:
    """The method, with the class and file named in its errors."""

    @wraps(call)
    def named(self: Objective, logps: Any) -> Any:
        with own_code(f"objective.file: {type(self).__name__} in {path} failed", ConfigError):
            return call(self, logps)

    named.names_errors = True  # type: ignore[attr-defined]
    return named


def _faults(kind: type[Objective]) -> Iterator[str]:
    if not is_dataclass(kind):
        yield "is no dataclass; write @dataclass(frozen=True, kw_only=True) above it"
    if kind.__call__ is Objective.__call__:
        yield "defines no __call__"
    if isinstance(kind.takes, str) and kind.takes not in CONTAINERS:
        yield f"takes {kind.takes!r}; allowed are {', '.join(CONTAINERS)}"
