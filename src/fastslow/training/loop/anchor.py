"""The pull of trained modules to the adapter they start from."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fastslow.adapters import Modules
from fastslow.config import AnchorConfig
from fastslow.dynamics import anchor_penalty
from fastslow.errors import ConfigError


class WeightAnchor:
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
