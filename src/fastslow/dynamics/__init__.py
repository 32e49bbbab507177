"""How trained modules move relative to each other. Imports torch only."""

from fastslow.dynamics.anchor import anchor_penalty
from fastslow.dynamics.chasing import LeaderSelector, chase_terms
from fastslow.dynamics.moving_reference import ema_update

__all__ = ["LeaderSelector", "anchor_penalty", "chase_terms", "ema_update"]
