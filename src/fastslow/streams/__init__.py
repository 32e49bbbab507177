"""Iterables of labelled examples with a domain and a position, resumable. Loads without torch."""

from fastslow.streams.columns import RowError
from fastslow.streams.formats import json_text, row_of, unused_columns
from fastslow.streams.labels import examples_of_row
from fastslow.streams.replay import ReplayStream, is_replayed
from fastslow.streams.reservoir import Reservoir
from fastslow.streams.rows import fault_of, read_examples, read_prompts
from fastslow.streams.sources import (
    WAITING,
    HubDataset,
    Source,
    Unreadable,
    Waiting,
    file_fingerprint,
    folder_fingerprint,
    open_sources,
    source_warnings,
)
from fastslow.streams.stream import ExampleStream, RowCounts

__all__ = [
    "WAITING",
    "ExampleStream",
    "HubDataset",
    "ReplayStream",
    "Reservoir",
    "RowCounts",
    "RowError",
    "Source",
    "Unreadable",
    "Waiting",
    "examples_of_row",
    "fault_of",
    "file_fingerprint",
    "folder_fingerprint",
    "is_replayed",
    "json_text",
    "unused_columns",
    "open_sources",
    "read_examples",
    "read_prompts",
    "row_of",
    "source_warnings",
]
