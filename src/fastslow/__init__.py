"""fastslow: teach a language model from a stream of human preferences, online.

`fastslow.train(recipe)` runs a recipe and returns its summary; everything else is in the rooms
named in docs/architecture.md. Importing this module is cheap: torch loads with the first use.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastslow.config import Recipe, load_recipe
    from fastslow.training import train

__version__ = version("fastslow")
__all__ = ["Recipe", "__version__", "load_recipe", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from fastslow.training import train

        return train
    if name in ("Recipe", "load_recipe"):
        import fastslow.config

        return getattr(fastslow.config, name)
    raise AttributeError(f"module 'fastslow' has no attribute {name!r}")
