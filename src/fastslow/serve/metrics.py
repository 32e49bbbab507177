"""The store's numbers in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0 as CONTENT_TYPE

from fastslow.feedback.statistics import Counts

__all__ = ["CONTENT_TYPE", "as_prometheus"]

NUMBERS = {
    "prompts": "Prompts asked.",
    "answers": "Answers given.",
    "open_pairs": "Pairs that need more verdicts.",
    "waiting": "Votes still in their grace period.",
    "refused": "Votes that gave no training row.",
    "retracted": "Votes taken back.",
    "rows": "Entries of the ledger.",
    "held_out": "Held-out training rows, used for measuring only.",
}


def as_prometheus(found: Counts) -> bytes:
    """All counts, those of verdicts as labels of one metric; no person is named."""
    registry = CollectorRegistry()
    for name, meaning in NUMBERS.items():
        Gauge(f"fastslow_{name}", meaning, registry=registry).set(getattr(found, name))
    sent = Gauge("fastslow_votes", "Votes by verdict.", ["verdict"], registry=registry)
    for verdict, count in found.sent.items():
        sent.labels(verdict).set(count)
    return generate_latest(registry)
