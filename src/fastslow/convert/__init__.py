"""Other libraries' YAML to recipes, with a word on every key. Loads without torch."""

from fastslow.convert.convert import KINDS, Converted, convert

__all__ = ["KINDS", "Converted", "convert"]
