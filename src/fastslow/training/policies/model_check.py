"""Whether a recipe's modules fit its base, found before anything is trained and without numbers."""

from fastslow.adapters import (
    Modules,
    check_quantization,
    load_config,
    meta_modules,
    model_folder,
    untouched_experts,
)
from fastslow.adapters.lora_folder import NOT_SUMMED
from fastslow.config import PART_BEFORE, Recipe
from fastslow.errors import ConfigError
from fastslow.training.policies.loading import make_modules

SHOWN = 2
"""Weights that are named."""


def check_model(recipe: Recipe, *, critic: bool, summed: bool) -> list[str]:
    """Put a run's modules on its base; warnings about them.

    Nothing is said of a base whose weights are quantised or not on this machine.

    Args:
        recipe: of one run; an adapter of a part before is not there yet.
        critic: whether there is a module with a head besides.
        summed: whether modules will be summed.

    Raises ConfigError where the base is not whole, the modules do not fit it or, `summed`, are no
    products of two factors.
    """
    trusted = {"trust_remote_code": recipe.trust_remote_code}
    config = load_config(recipe.model, **trusted)
    check_quantization(config)
    folder = model_folder(recipe.model)
    if recipe.lora.start_from == PART_BEFORE or not (folder and any(folder.glob("*.safetensors"))):
        return []
    if getattr(config, "quantization_config", None) is not None:
        return []  # Their tensors have other names and shapes until they are unpacked.
    modules = meta_modules(
        recipe.model, lambda base: make_modules(recipe, base, critic=critic), **trusted
    )
    settings = modules.config(modules.trainable[0])
    odd = [key for key in NOT_SUMMED if getattr(settings, key, None)]
    if summed and odd:
        raise ConfigError(
            f"continual.weights: got {_weights(recipe)}, but the modules of this base cannot be "
            f"summed ({', '.join(odd)}): its experts are no linear layers; name linear layers in "
            "lora.target_modules, such as [q_proj, k_proj, v_proj, o_proj], or set "
            "continual.weights to null or routed"
        )
    return expert_warnings(recipe, modules)


def expert_warnings(recipe: Recipe, modules: Modules) -> list[str]:
    """A warning where experts are left alone although all layers were asked for; or none."""
    if recipe.lora.target_modules != "all-linear" or recipe.lora.start_from is not None:
        return []
    names = untouched_experts(modules.causal_lm)
    if not names:
        return []
    more = ", ..." if len(names) > SHOWN else ""
    return [
        f"the experts carry no module: all-linear reaches linear layers, and {len(names)} weights "
        f"of experts are none ({', '.join(names[:SHOWN])}{more}); they stay as they are"
    ]


def _weights(recipe: Recipe) -> str:
    return repr(recipe.continual.weights) if recipe.continual else "a sum"
