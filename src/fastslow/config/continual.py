"""Sections for runs over several domains, and for retaining and detecting domains."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from fastslow.config.section import Positive, PositiveFloat, Section, UserPath, as_list
from fastslow.config.sections import budget_from_base


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
    """Importance of each weight (EWC), a `fisher.safetensors`; null weighs all equally (L2-SP)."""


class DomainConfig(Section):
    """One domain of a sequence."""

    name: Annotated[str, Field(min_length=1)]
    """Name of the domain; use the same name again for a domain that returns."""
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

    @property
    def data(self) -> dict[str, Any]:
        """What the domain changes in the recipe's section data."""
        return {"train": self.train, "eval": self.eval, "domain": self.name}


class DriftConfig(Section):
    """Ends a run, or with `continual` a domain, when the test-then-train loss drifts."""

    detector: Literal["adwin", "page_hinkley", "kswin"] = "adwin"
    """Drift detector, from river."""
    sensitivity: Annotated[float, Field(gt=0, lt=1)] = 0.002
    """adwin: delta, kswin: alpha, both probabilities of a false alarm; page_hinkley: delta, the
    tolerated change. All other detector settings are river's defaults."""
    min_pairs: Positive = 256
    """Shortest domain, in pairs."""


class ContinualConfig(Section):
    """One domain after another: each trains an adapter, and the adapters are merged (COFS-DPO,
    arXiv 2406.05534)."""

    domains: list[DomainConfig] = []
    """The domains, in order. Empty: data.train is one stream, split where `drift` is detected."""
    start: Literal["fresh", "continue", "recall"] = "fresh"
    """Where a domain's adapters start: at the base, at the previous domain's adapter, or, for a
    domain that returns, at its own earlier adapter."""
    weights: (
        Literal["uniform", "fixed", "grid", "learned", "regmean", "distilled", "routed"] | None
    ) = "distilled"
    """How the adapters become one policy after each domain. `distilled`: one adapter is distilled
    from all; `routed`: an adapter is chosen for each prompt; all others are sums. null: only the
    last adapter is used."""
    fixed: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None
    """The weights of `fixed`, in the order of the domains."""
    recompress: Positive | None = None
    """Largest rank of the merged adapter. null keeps a sum exact, with the ranks added up, and
    means lora.rank for `distilled`."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the pairs learned from that are replayed from earlier domains."""
    anchor: Literal["l2_sp", "ewc"] | None = None
    """Keep continued adapters near the previous one: all weights equally (L2-SP), or by importance
    (EWC)."""
    anchor_strength: PositiveFloat = 1.0
    """Weight of that penalty."""

    @property
    def merges(self) -> bool:
        """Whether the domains' adapters become one."""
        return self.weights not in (None, "routed")

    @property
    def sums(self) -> bool:
        """Whether the merged adapter is a weighted sum of the domains' adapters, unchanged."""
        return self.merges and self.weights not in ("regmean", "distilled")


def start_of(start: str, name: str, earlier: Sequence[str]) -> int | None:
    """Index of the earlier domain that a domain's adapters start from; None means the base."""
    if start == "continue" and earlier:
        return len(earlier) - 1
    if start == "recall" and name in earlier:
        return len(earlier) - 1 - earlier[::-1].index(name)
    return None


def domain_settings(
    whole: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    start_from: str | None,
    memory: Sequence[str],
    fisher: str | None,
    output_dir: str,
) -> dict[str, Any]:
    """The recipe of one domain, as a mapping.

    Args:
        whole: the whole recipe as JSON.
        data: what the domain changes in the section data.
        start_from: the adapter it starts from; None for a fresh start.
        memory: replay buffers of the earlier domains.
        fisher: the importance of each weight, for EWC.
        output_dir: of the domain's run.
    """
    continual, started = whole["continual"], start_from is not None
    settings = {
        **whole,
        "output_dir": output_dir,
        "data": {**whole["data"], **data},
        "continual": None,
        "reference": (whole["reference"] or "base") if started else "base",
        "budget": budget_from_base(whole["budget"]),
    }
    if started:
        settings["lora"] = {"start_from": start_from}
    if memory and continual["replay"]:
        settings["replay"] = {"memory": list(memory), "share": continual["replay"]}
    if started and continual["anchor"] is not None:
        settings["anchor"] = {"strength": continual["anchor_strength"], "fisher": fisher}
    return settings
