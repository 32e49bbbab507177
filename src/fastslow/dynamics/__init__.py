"""How trained modules move relative to each other. Imports torch alone."""

from fastslow.dynamics.anchor import anchor_penalty
from fastslow.dynamics.chasing import Race, chase_terms
from fastslow.dynamics.moving_reference import follow

__all__ = ["Race", "anchor_penalty", "chase_terms", "follow"]
