"""Iterables of preference pairs with a domain and a position, resumable. Loads without torch."""

from fastslow.streams.files import Source, Unreadable, file_fingerprint, open_sources
from fastslow.streams.formats import RowError, pairs_of_row, row_of_pair
from fastslow.streams.prompts import read_prompts
from fastslow.streams.replay import ReplayStream, is_replayed
from fastslow.streams.reservoir import Reservoir
from fastslow.streams.stream import PairStream, RowCounts

__all__ = [
    "PairStream",
    "ReplayStream",
    "Reservoir",
    "RowCounts",
    "RowError",
    "Source",
    "Unreadable",
    "file_fingerprint",
    "is_replayed",
    "open_sources",
    "pairs_of_row",
    "read_prompts",
    "row_of_pair",
]
