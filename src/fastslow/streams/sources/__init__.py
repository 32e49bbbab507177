"""Where rows come from: files, folders, the hub, standard input. Numbered, lazy, resumable."""

from fastslow.streams.sources.expand import open_sources, source_warnings
from fastslow.streams.sources.file import file_fingerprint, folder_fingerprint
from fastslow.streams.sources.followed import Followed
from fastslow.streams.sources.hub import HubDataset
from fastslow.streams.sources.ledger import waiting_votes
from fastslow.streams.sources.live import KEPT, StandardInput, repeated_rows
from fastslow.streams.sources.source import (
    WAITING,
    LiveSource,
    Row,
    Source,
    Unreadable,
    Waiting,
    continues,
    fingerprints_of,
    keys_of,
)

__all__ = [
    "KEPT",
    "WAITING",
    "Followed",
    "HubDataset",
    "LiveSource",
    "Row",
    "Source",
    "StandardInput",
    "Unreadable",
    "Waiting",
    "continues",
    "file_fingerprint",
    "fingerprints_of",
    "folder_fingerprint",
    "keys_of",
    "open_sources",
    "repeated_rows",
    "source_warnings",
    "waiting_votes",
]
