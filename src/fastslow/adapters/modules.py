"""LoRA modules on one frozen base: attach, activate, freeze, save.

PEFT's own switching changes what trains: activating one module turns off the gradients of all
others, and leaving `disable_adapter()` turns them on for frozen ones. `Modules.using` therefore
sets only what PEFT's layers look at, so that several modules can be scored alternately and trained
in one backward pass. A step switches ten times, and PEFT's own switching takes longer than a small
model's layers on a GPU.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from torch import Tensor, nn

from fastslow.adapters.factors import Factors, combine
from fastslow.adapters.linear import DirectLinear, as_one_matrix, make_direct
from fastslow.adapters.lora_folder import HEAD_KEY, check_lora_folder
from fastslow.adapters.lora_layers import (
    dropouts_of,
    lora_layers_of,
    parameters_of,
    put_factors,
    scale_by,
)
from fastslow.adapters.odd_layers import odd_layers
from fastslow.adapters.on_base import put_on
from fastslow.adapters.revision import OF_REVISION
from fastslow.adapters.saving import write_module
from fastslow.adapters.targets import checked_targets
from fastslow.adapters.whole_model import check_finite, one_error
from fastslow.errors import ConfigError

BASE = "base"
"""Names the bare model where a module's name is expected."""


class Modules:
    """Named LoRA modules on one base; the `trainable` ones are trained.

    Made by `attach` or `load`. Outside `using`, the bare base is active.

    Args:
        model: the base with the modules on it.
        trainable: names of the modules that are trained.
        start: name of a frozen module that all others are on top of: each one's policy is its own
            update plus the start's.
    """

    def __init__(
        self, model: PeftModel, *, trainable: tuple[str, ...], start: str | None = None
    ) -> None:
        self.model = model
        self.trainable = trainable
        self.start = start
        self._parameters = {name: parameters_of(model, name) for name in model.peft_config}
        causal_lm: Any = model.get_base_model()
        if isinstance(causal_lm.get_output_embeddings(), BaseTunerLayer):
            raise ConfigError(
                "lora.target_modules: the output layer cannot have a module, as its logits are "
                "computed in blocks; name other layers or use all-linear"
            )
        self._settle()

    @classmethod
    def attach(
        cls,
        base: Any,
        names: tuple[str, ...],
        *,
        frozen: tuple[str, ...] = (),
        start: tuple[str, Path] | None = None,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        targets: str | list[str] = "all-linear",
        seed: int = 0,
    ) -> "Modules":
        """Fresh modules that all start from the same weights and, B being 0, change nothing yet.

        `names` are trainable, `frozen` are not. `start` is the name and the PEFT folder of a frozen
        module that all are on top of. Raises ConfigError if a target matches no layer of the base,
        and for a start that is not plain LoRA or is for another base.
        """
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]
            lora_dropout=dropout,
            target_modules=targets,
            exclude_modules=odd_layers(base) if targets == "all-linear" else None,
            task_type="CAUSAL_LM",
            revision=getattr(base, OF_REVISION, None),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            with checked_targets(base, targets):
                model = get_peft_model(base, config, adapter_name=names[0])
            for name in (*names[1:], *frozen):
                model.add_adapter(name, config)
        if start is not None:
            check_lora_folder(start[1], summed=True)
            put_on(model, *start, base)
        modules = cls(model, trainable=names, start=start[0] if start else None)
        for name in (*names[1:], *frozen):
            modules.copy(names[0], name)
        return modules

    @classmethod
    def load(
        cls,
        base: Any,
        folders: dict[str, Path],
        *,
        trainable: tuple[str, ...],
        heads: bool = False,
    ) -> "Modules":
        """Modules from PEFT folders, by name, trainable and frozen ones side by side.

        With `heads` all must be reward models, each with a head, and otherwise none may be. Raises
        ConfigError for a folder that holds no LoRA adapter in safetensors for this base.
        """
        model: Any = None
        for name, folder in folders.items():
            check_lora_folder(folder, head=heads)
            model = put_on(model, name, folder, base)
        modules = cls(model, trainable=trainable)
        for name in folders if heads else ():
            modules.add_head(name)
            weights = folders[name] / "adapter_model.safetensors"
            with one_error(f"adapter {folders[name]}"), safe_open(weights, "pt") as file:
                modules.head(name).data.copy_(file.get_tensor(HEAD_KEY))
            check_finite(f"adapter {folders[name]}", modules.tensors(name).items())
        return modules

    def _settle(self) -> None:
        """Reset the layers after a change by PEFT, which adds modules in training mode and switches
        the gradients of existing ones."""
        self._layers = lora_layers_of(self.model)
        for layer in self._layers:
            make_direct(layer)
        self.model.eval()
        self._dropouts = {layer: dropouts_of(layer) for layer in self._layers}
        self._activate(BASE, self._layers, learning=False)
        for key, parameters in self._parameters.items():
            for parameter in parameters.values():
                parameter.requires_grad_(key in self.trainable)

    def add(self, name: str, folder: Path) -> None:
        """Add a frozen module from a PEFT folder.

        Raises ConfigError for a folder that holds no LoRA adapter in safetensors for this base.
        """
        check_lora_folder(folder)
        put_on(self.model, name, folder, self.causal_lm)
        self._parameters[name] = parameters_of(self.model, name)
        self._settle()

    def add_fresh(self, name: str) -> None:
        """Add a frozen module that changes nothing yet, with the first one's settings."""
        self.model.add_adapter(name, self.config(self.names[0]))
        self._parameters[name] = parameters_of(self.model, name)
        self._settle()

    def remove(self, name: str) -> None:
        """Remove a frozen module; afterwards none is active."""
        self._activate(self.trainable[0], self._layers, learning=False)  # PEFT warns of others.
        self.model.delete_adapter(name)
        del self._parameters[name]
        self._settle()

    @property
    def causal_lm(self) -> Any:
        """The transformers model, with the modules' layers inside."""
        return self.model.get_base_model()

    @property
    def lora_layers(self) -> tuple[nn.Module, ...]:
        """The layers that modules change."""
        return tuple(self._layers)

    @property
    def names(self) -> tuple[str, ...]:
        """Every module, trainable or not."""
        return tuple(self._parameters)

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """The tensors of one module by their full name in the model."""
        return self._parameters[name]

    def config(self, name: str) -> LoraConfig:
        """The LoRA settings of one module."""
        config = self.model.peft_config[name]
        assert isinstance(config, LoraConfig)
        return config

    def is_on_top(self, name: str) -> bool:
        """Whether the module's policy is the start's update plus its own."""
        return self.start is not None and name not in (BASE, self.start)

    def add_head(self, name: str) -> None:
        """Add a scalar head to a module, initialised to 0.

        It is one of the module's tensors from then on.
        """
        embedding = self.causal_lm.get_input_embeddings().weight
        width = self.causal_lm.config.get_text_config().hidden_size
        weight = torch.zeros(1, width, device=embedding.device, requires_grad=True)
        head = nn.Parameter(weight, requires_grad=name in self.trainable)
        self._parameters[name][_head_key(name)] = head

    def has_head(self, name: str) -> bool:
        """Whether a module has a head."""
        return _head_key(name) in self._parameters[name]

    def head(self, name: str) -> nn.Parameter:
        """The weight of a module's head, [1, d]."""
        return self._parameters[name][_head_key(name)]

    def copy(self, source: str, target: str) -> None:
        """Copy one module's weights to another; both must have been made in the same order."""
        pairs = zip(
            self._parameters[source].values(), self._parameters[target].values(), strict=True
        )
        for source_tensor, target_tensor in pairs:
            target_tensor.data.copy_(source_tensor.data)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The module's weights, detached, by their full name in the model."""
        return {key: parameter.detach() for key, parameter in self._parameters[name].items()}

    def digest(self, *names: str) -> str:
        """A hash that is the same only for modules with the same weights."""
        sha = sha256()
        for name in names:
            for tensor in self.tensors(name).values():
                sha.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return sha.hexdigest()

    def load_tensors(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Load weights that `tensors` returned."""
        for key, parameter in self._parameters[name].items():
            parameter.data.copy_(tensors[key])

    def load_factors(self, name: str, factors: Factors) -> None:
        """Set a module's update from factors. Raises ConfigError if their rank is larger."""
        put_factors(self.causal_lm, name, factors.layers)

    @contextmanager
    def using(
        self, name: str, *, learning: bool = False, within: nn.Module | None = None
    ) -> Iterator[None]:
        """Inside, the model answers with the named module, or as the bare model for BASE.

        With `learning`, the module's dropout is on, otherwise off. `within` is the part of the
        model that is needed; None is all of it.
        """
        layers = self._layers if within is None else lora_layers_of(within)
        self._activate(name, layers, learning=learning)
        try:
            yield
        finally:
            self._activate(BASE, layers, learning=False)

    def put_between(
        self, name: str, tensors: Mapping[str, Tensor], strength: float, *, start: str = BASE
    ) -> None:
        """Set a module to `strength` of the way from `start` to `tensors`, its full weights.

        From the base, or from the start that the module is on top of, its update is multiplied by
        `strength`, through the factors B. From another module, their weights are interpolated.
        """
        for key, parameter in self._parameters[name].items():
            if start not in (BASE, self.start):
                begin = self._parameters[start][key.replace(f".{name}.", f".{start}.")]
                parameter.data.copy_(torch.lerp(begin.detach(), tensors[key], strength))
            elif "lora_B" in key:
                parameter.data.copy_(tensors[key] * strength)

    def set_scale(self, name: str, factor: float) -> None:
        """Scale the update of the named module by `factor`; 1 is the original scale."""
        for layer in self._layers:
            if name in layer.lora_A:
                layer.set_scale(name, factor)

    @contextmanager
    def rank_scales(self, name: str, factors: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, every rank of the named module is scaled by a factor, which gradients reach.

        `factors` holds [r] values for each layer of the module, by its name in the causal LM.
        """
        with ExitStack() as stack:
            for layer, module in self.causal_lm.named_modules():
                if not isinstance(module, LoraLayer) or layer not in factors:
                    continue
                layer_factors = factors[layer]
                direct = isinstance(module, DirectLinear) and not self.is_on_top(name)
                if direct and len(layer_factors) > max(module.weight.shape):
                    stack.enter_context(as_one_matrix(module, name, layer_factors))
                else:
                    handle = module.lora_A[name].register_forward_hook(scale_by(layer_factors))
                    stack.callback(handle.remove)
            yield

    def _activate(self, name: str, layers: list[Any], *, learning: bool) -> None:
        switch: dict[str, Any] = {"_disable_adapters": name == BASE}
        if name != BASE:
            switch["_active_adapter"] = [self.start, name] if self.is_on_top(name) else [name]
        for layer in layers:
            vars(layer).update(switch)
            for key, dropout in self._dropouts[layer]:
                dropout.train(learning and key == name)

    def save(self, name: str, folder: Path) -> None:
        """Write one module as an ordinary PEFT folder, created if needed; it must be empty.

        With a head it is that of a sequence classifier with one label. A module on top of a start
        is written as the exact sum of the two.
        """
        if not self.is_on_top(name):
            self._save_alone(name, folder)
            return
        with TemporaryDirectory() as scratch:
            parts = [part for part in (self.start, name) if part]
            for part in parts:
                self._save_alone(part, Path(scratch) / part)
            sums = [Factors.read(Path(scratch) / part) for part in parts]
            combine(sums, [1.0, 1.0]).write(folder)

    def _save_alone(self, name: str, folder: Path) -> None:
        head = self.head(name) if self.has_head(name) else None
        write_module(self.model, name, folder, head=head)

    def merge(self, name: str) -> Any:
        """Merge one module into the base's weights; removes all modules."""
        with self.using(name):
            return self.model.merge_and_unload(adapter_names=[name])


def _head_key(name: str) -> str:
    return f"head.{name}.weight"
