"""How trained modules move relative to each other. Imports torch alone."""

from fastslow.dynamics.chasing import Race, chase_terms

__all__ = ["Race", "chase_terms"]
