"""The sections of runs over several domains, and of what retains or detects them."""

from typing import Annotated, Literal

from pydantic import Field

from fastslow.config.section import Positive, PositiveFloat, Section, UserPath, as_list


class ReplayConfig(Section):
    """Pairs of earlier domains mixed into the stream."""

    memory: list[UserPath]
    """Files of pairs, such as the `memory.jsonl` of earlier runs."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of all pairs learned from that are replayed."""


class AnchorConfig(Section):
    """A penalty that keeps the adapters near their start (L2-SP, EWC)."""

    strength: PositiveFloat
    """Weight of the penalty, which is half the (weighted) squared distance."""
    fisher: UserPath | None = None
    """Importance of each weight (EWC), a `fisher.safetensors`; null weighs all alike (L2-SP)."""


class DomainConfig(Section):
    """One domain of a sequence."""

    name: Annotated[str, Field(min_length=1)]
    """Its name; a domain that returns has the same name again."""
    train: UserPath | list[UserPath]
    """Its pairs, in the forms data.train takes."""
    eval: UserPath | list[UserPath] | None = None
    """Its held-out pairs."""

    @property
    def train_sources(self) -> list[str]:
        return as_list(self.train)

    @property
    def eval_sources(self) -> list[str]:
        return as_list(self.eval)


class DriftConfig(Section):
    """Ends a run, or with `continual` a domain, when the test-then-train loss drifts."""

    detector: Literal["adwin", "page_hinkley", "kswin"] = "adwin"
    """Drift detector, from river."""
    sensitivity: Annotated[float, Field(gt=0, lt=1)] = 0.002
    """adwin: delta, kswin: alpha, both probabilities of a false alarm; page_hinkley: delta, the
    change that is tolerated. The detectors' other settings are river's defaults."""
    min_pairs: Positive = 256
    """Shortest domain, in pairs."""


class ContinualConfig(Section):
    """One domain after another: each trains an adapter, and the adapters are merged (COFS-DPO,
    arXiv 2406.05534)."""

    domains: list[DomainConfig] = []
    """The domains in order. Empty: data.train is one stream, cut where `drift` is detected."""
    start: Literal["fresh", "continue", "recall"] = "fresh"
    """Where a domain's adapters start: from the base, from the adapter before, or, for a domain
    that returns, from its own earlier one."""
    weights: Literal["uniform", "fixed", "grid", "learned", "routed"] | None = "learned"
    """How the adapters are merged after each domain; null: the last adapter alone is used."""
    fixed: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None
    """The weights of `fixed`, in the order of the domains."""
    recompress: Positive | None = None
    """Largest rank of the merged adapter; null keeps it exact, with the ranks added up."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the pairs learned from that are replayed from earlier domains."""
    anchor: Literal["l2_sp", "ewc"] | None = None
    """Keep continued adapters near the one before: all weights alike, or by importance."""
    anchor_strength: PositiveFloat = 1.0
    """Weight of that penalty."""
