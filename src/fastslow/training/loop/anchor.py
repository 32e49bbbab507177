"""The pull of trained modules to the adapter they start from, and what each weight is worth."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fastslow.adapters import Modules
from fastslow.config import AnchorConfig
from fastslow.dynamics import anchor_penalty
from fastslow.errors import ConfigError
from fastslow.objectives import Objective
from fastslow.scoring import Encoded
from fastslow.training.loop.logps import logps_of, prepare
from fastslow.training.policies.policies import Policies


class Anchor:
    """Penalises a module's distance from a frozen one of the same shape.

    Raises ConfigError when the importances are for other weights.
    """

    def __init__(self, config: AnchorConfig, modules: Modules, frozen: str) -> None:
        self._strength = config.strength
        self._modules = modules
        self._anchors = list(modules.tensors(frozen).values())
        self._importance: list[Tensor] | None = None
        if config.fisher is not None:
            own = [key.replace(f".{frozen}.", ".") for key in modules.tensors(frozen)]
            self._importance = _importances(Path(config.fisher), own, self._anchors)

    def penalty(self, name: str) -> Tensor:
        """The penalty of one module's present weights, a scalar."""
        weights = list(self._modules.parameters(name).values())
        return anchor_penalty(weights, self._anchors, self._importance, strength=self._strength)


def _importances(path: Path, names: list[str], like: list[Tensor]) -> list[Tensor]:
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"anchor.fisher: {path} cannot be read: {error}") from None
    shapes = {name: tensor.shape for name, tensor in zip(names, like, strict=True)}
    if {name: tensor.shape for name, tensor in stored.items()} != shapes:
        raise ConfigError(f"anchor.fisher: {path} is of other weights than lora.start_from")
    return [stored[name].to(tensor.device) for name, tensor in zip(names, like, strict=True)]


def fisher_information(
    policies: Policies,
    name: str,
    reference: str,
    objective: Objective,
    pairs: Sequence[Encoded],
) -> dict[str, Tensor]:
    """Mean squared gradient of each weight of a module over pairs, one pair at a time.

    The likelihood is that of the preferences: the objective's loss is its negative logarithm. This
    is the empirical Fisher information, at the observed labels and without dropout. Keys carry no
    module name.
    """
    parameters = policies.modules.parameters(name)
    sums = {key: torch.zeros_like(value) for key, value in parameters.items()}
    for item in pairs:
        prepared = prepare(policies, objective, [item], reference=reference)
        score = partial(policies.measure, name, learning=True, dropout=False)
        loss = objective(logps_of(prepared, objective, score)).loss.sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for key, gradient in zip(parameters, gradients, strict=True):
            sums[key] += gradient.square()
    return {key.replace(f".{name}.", "."): total / len(pairs) for key, total in sums.items()}
