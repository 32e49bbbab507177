"""Caches the margins of policies on votes: what answers now was a candidate before."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from fastslow.adapters import BASE
from fastslow.api.learner import Learner
from fastslow.live.choice import Row, margins

MOST_KEPT = 32
"""Most policies whose margins are kept: the most recently used ones."""


class KeptMargins:
    """Margins of policies over a learner's base for the preferred answers of votes."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._known = OrderedDict[Path, dict[bytes, float]]()

    def of(self, policy: str, folder: Path | None, rows: Sequence[Row]) -> list[float]:
        """A policy's margin on each row, nats.

        Args:
            policy: its name among the learner's modules.
            folder: its adapter's folder, which never changes; None is the base, with margins 0.
        """
        if policy == BASE or folder is None:
            return [0.0] * len(rows)
        known = self._known.setdefault(folder, {})
        self._known.move_to_end(folder)
        keys = [_key(row) for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
        computed = margins(self._learner, policy, [*new.values()])
        known.update(zip(new, computed, strict=True))
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        return [known[key] for key in keys]


def _key(row: Row) -> bytes:
    return blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=16).digest()
