"""The results of a run: summary.json."""

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.config import check_policy
from fastslow.errors import StateError
from fastslow.foreign_files import check_no_links, inside, read_json

PACKAGES = ("fastslow", "torch", "transformers", "peft", "accelerate", "datasets")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The result of a run. Log-probs in nats per response, lengths in tokens, times in seconds."""

    steps: int
    pairs_seen: int
    leader: str
    """The module that the run returns."""
    swaps: int
    reference: str
    eval: dict[str, dict[str, Any] | None]
    """Held-out metrics of the leader: `start`, before the first step, and `final`."""
    ended: str
    """`complete`, or `drift` if a change of the preferences ended the run."""
    pairs_taken: int
    """Pairs read from the stream, including skipped ones."""
    prequential: dict[str, float]
    """Leader's accuracy and loss on every pair before it was learned from."""
    data: dict[str, int]
    """Rows read, invalid and skipped; pairs tied, truncated, dropped, and without a field that the
    objective needs; rows of standard input already piped in before."""
    skipped_examples: list[str]
    """The first few rows and pairs that were not used, as `file:row: reason`."""
    adapters: dict[str, str]
    """Folder of each module, relative to the run folder."""
    hashes: dict[str, str]
    """sha256 of config.yaml, of inputs.json and of each adapter's weights."""
    versions: dict[str, str]
    device: str
    wall_s: float
    memory: dict[str, int | None] = field(default_factory=dict)
    """Bytes: `estimated`, on top of the process itself, and `peak`, the peak memory of the process.
    Null for small models."""
    running: dict[str, dict[str, float]] = field(default_factory=dict)
    """The objective's running statistics per module, for the loss of held-out pairs."""
    set_aside: int = 0
    """Examples of batches skipped for a non-finite loss or gradient (`train.skip_non_finite`)."""
    warnings: list[str] = field(default_factory=list)
    """Warnings of the final evaluation."""
    budget: dict[str, Any] | None = None
    """How the leader was brought within its budget: `limit`, `strength`, `reverse_kl` (nats per
    answer), what was `tried`, and, if it was beyond, `full`, the folder of the module as learned.
    None without a budget."""
    benchmarks: list[dict[str, Any]] = field(default_factory=list)
    """Later results of other tools, each as `evaluation.Benchmark`."""
    parts: list[str] = field(default_factory=list)
    """For stages and rounds, the folder of each part, relative to the run folder; all other fields
    are those of the last part."""

    def write(self, path: Path) -> None:
        """Write the summary in one step."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        write_text(path, text, private=True)  # Skipped rows are quoted.

    @classmethod
    def read(cls, path: Path) -> "RunSummary":
        """The summary that `write` wrote. Raises StateError if it is damaged."""
        summary: RunSummary = read_json(path, cls)
        _check_leader(path, summary)
        return summary

    def adapter(self, run: Path, module: str) -> Path:
        """Folder of a module's adapter. Raises StateError if it is not inside the run's."""
        return adapter_folder(run, self.adapters[module])


@dataclass(frozen=True, slots=True)
class ContinualSummary:
    """The result of a run over several domains. Units as in RunSummary.

    Also the result of combining finished runs: then nothing was trained, and there are no domains.
    """

    domains: list[str]
    """Names in the order of training."""
    runs: list[str]
    """Folder of each domain's run, relative to the run folder."""
    policy: str
    """The final policy: combined, routed or last."""
    weights: dict[str, float] | None
    """Weight of each module of the bank in the final combination."""
    measured: list[str]
    """Names of the measured domains: the columns of `initial` and `after`."""
    initial: list[dict[str, Any]]
    """Held-out metrics of the base on each measured domain."""
    after: list[list[dict[str, Any]]]
    """The same for the policy after each trained domain."""
    metrics: dict[str, dict[str, float | None]]
    """Average, backward and forward transfer and forgetting of accuracy and, where known, reward.
    Only if every trained domain was measured."""
    reference: str
    adapters: dict[str, str]
    """Folder of each module that the policy uses, relative to the run folder."""
    steps: int
    pairs_seen: int
    hashes: dict[str, str]
    versions: dict[str, str]
    device: str
    wall_s: float
    """Seconds spent on the training of the domains."""
    warnings: list[str] = field(default_factory=list)
    """Warnings of the policy's final evaluation on each domain."""
    budget: dict[str, Any] | None = None
    """How the policy was brought within its budget, as in RunSummary; `full` is relative to the
    folder of the last combination."""
    benchmarks: list[dict[str, Any]] = field(default_factory=list)
    """Later results of other tools, each as `evaluation.Benchmark`."""
    kind: str = "continual"

    @property
    def leader(self) -> str:
        """The policy that the run returns."""
        return self.policy

    def write(self, path: Path) -> None:
        """Write the summary in one step."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        write_text(path, text, private=True)  # Skipped rows are quoted.

    @classmethod
    def read(cls, path: Path) -> "ContinualSummary":
        """The summary that `write` wrote. Raises StateError if it is damaged."""
        summary: ContinualSummary = read_json(path, cls)
        return summary

    def adapter(self, run: Path, module: str) -> Path:
        """Folder of a module's adapter. Raises StateError if it is not inside the run's."""
        return adapter_folder(run, self.adapters[module])


def read_summary(path: Path) -> RunSummary | ContinualSummary:
    """The summary of a finished run of either kind. Raises StateError if it is damaged."""
    kind = read_json(path, dict[str, Any]).get("kind")
    check_policy(path, kind)
    return ContinualSummary.read(path) if kind == "continual" else RunSummary.read(path)


def adapter_folder(run: Path, relative: str) -> Path:
    """The PEFT folder that a summary names. Raises StateError unless it and its contents are
    inside the run folder."""
    folder = inside(run, relative)
    if not folder.is_dir():
        raise StateError(f"{folder}, an adapter of the run, is missing; restore it")
    check_no_links(folder)
    return folder


def _check_leader(path: Path, summary: RunSummary) -> None:
    if summary.leader not in summary.adapters:
        raise StateError(
            f"{path} is damaged: the leader {summary.leader!r} is none of the adapters; restore it"
        )
    if missing := {"start", "final"} - summary.eval.keys():
        raise StateError(f"{path} is damaged: eval lacks {min(missing)!r}; restore it")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
