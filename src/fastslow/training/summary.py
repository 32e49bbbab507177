"""What a run has to say for itself at its end: summary.json."""

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastslow.durable import write_text

PACKAGES = ("fastslow", "torch", "transformers", "peft", "accelerate", "datasets")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The result of a run. Log-probs in nats a response, lengths in tokens, times in seconds."""

    steps: int
    pairs_seen: int
    leader: str
    """The module that is the run's answer."""
    swaps: int
    reference: str
    eval: dict[str, Any]
    """Held-out measurements of the leader: `start`, before the first step, and `final`."""
    prequential: dict[str, float]
    """Leader's accuracy and loss on every pair before it was learned."""
    data: dict[str, int]
    """Rows read and bad; pairs tied, cut and dropped."""
    left_out: list[str]
    """The first few rows and pairs that were not used, as `file:row: reason`."""
    adapters: dict[str, str]
    """Folder of each module, relative to the run folder."""
    hashes: dict[str, str]
    """sha256 of config.yaml, of inputs.json and of each adapter's weights."""
    versions: dict[str, str]
    device: str
    wall_s: float

    def write(self, path: Path) -> None:
        """Write the summary in one step."""
        write_text(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "RunSummary":
        """The summary that `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def versions() -> dict[str, str]:
    """Of Python and the packages a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
