"""Iterables of labelled examples with a domain and a position, resumable. Loads without torch."""

from fastslow.streams.columns import RowError
from fastslow.streams.formats import example_warnings, json_text, row_of
from fastslow.streams.labels import examples_of_row
from fastslow.streams.replay import ReplayStream, is_replayed
from fastslow.streams.reservoir import Reservoir
from fastslow.streams.rows import fault_of, read_examples, read_prompts
from fastslow.streams.sources import (
    KEPT,
    WAITING,
    Followed,
    HubDataset,
    Source,
    StandardInput,
    Unreadable,
    Waiting,
    continues,
    file_fingerprint,
    fingerprints_of,
    folder_fingerprint,
    keys_of,
    open_sources,
    repeated_rows,
    source_warnings,
)
from fastslow.streams.stream import ExampleStream, RowCounts

__all__ = [
    "KEPT",
    "WAITING",
    "ExampleStream",
    "Followed",
    "HubDataset",
    "ReplayStream",
    "Reservoir",
    "RowCounts",
    "RowError",
    "Source",
    "StandardInput",
    "Unreadable",
    "Waiting",
    "continues",
    "example_warnings",
    "examples_of_row",
    "fault_of",
    "file_fingerprint",
    "fingerprints_of",
    "folder_fingerprint",
    "is_replayed",
    "json_text",
    "keys_of",
    "open_sources",
    "read_examples",
    "read_prompts",
    "repeated_rows",
    "row_of",
    "source_warnings",
]
