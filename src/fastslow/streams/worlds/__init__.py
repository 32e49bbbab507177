"""Worlds with a known reward, in a small readable English. Loads without torch."""

from fastslow.streams.worlds.files import write_stream, write_world
from fastslow.streams.worlds.world import World

__all__ = ["World", "write_stream", "write_world"]
