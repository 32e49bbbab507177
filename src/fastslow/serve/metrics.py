"""The store's numbers in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0 as CONTENT_TYPE

from fastslow.feedback.statistics import Counts

__all__ = ["CONTENT_TYPE", "as_prometheus"]

NUMBERS = {
    "prompts": "Prompts that were asked.",
    "answers": "Answers that were given.",
    "open_pairs": "Pairs that lack verdicts.",
    "waiting": "Votes in their grace.",
    "refused": "Votes that gave no training row.",
    "retracted": "Votes that were taken back.",
    "rows": "Entries of the ledger.",
    "held_out": "Training rows that are only measured with.",
}


def as_prometheus(found: Counts) -> bytes:
    """All numbers, with those of the verdicts under one name; nobody is named."""
    registry = CollectorRegistry()
    for name, meaning in NUMBERS.items():
        Gauge(f"fastslow_{name}", meaning, registry=registry).set(getattr(found, name))
    sent = Gauge("fastslow_votes", "Votes by verdict.", ["verdict"], registry=registry)
    for verdict, count in found.sent.items():
        sent.labels(verdict).set(count)
    return generate_latest(registry)
