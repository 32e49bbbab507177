"""Where rows come from: files, folders, the hub, standard input. Numbered, lazy, resumable."""

from fastslow.streams.sources.expand import open_sources, source_warnings
from fastslow.streams.sources.file import file_fingerprint, folder_fingerprint
from fastslow.streams.sources.hub import HubDataset
from fastslow.streams.sources.source import (
    WAITING,
    LiveSource,
    Row,
    Source,
    Unreadable,
    Waiting,
)

__all__ = [
    "WAITING",
    "HubDataset",
    "LiveSource",
    "Row",
    "Source",
    "Unreadable",
    "Waiting",
    "file_fingerprint",
    "folder_fingerprint",
    "open_sources",
    "source_warnings",
]
