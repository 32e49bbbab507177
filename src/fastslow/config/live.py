"""Learning from votes while a server answers: size of updates, promotion, the gate."""

from typing import Literal

from fastslow.config.section import (
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    Share,
)


class GateConfig(Section):
    """Tests that an update must pass before it serves answers. An update that fails is quarantined
    with its numbers, and the previous adapter keeps answering."""

    kl_to_champion: PositiveFloat | None = None
    """Largest reverse KL from the adapter that answers now, nats per answer. null allows 1.5 times
    what the KL budget allows from the base for all updates together, as both are estimates on a few
    answers. When another module takes the lead, it may be twice as far."""
    chosen_ratio: float = -0.25
    """Lowest mean log-ratio to the base of the preferred answers, nats per token: below this, even
    preferred answers have become much less likely."""
    alpha: Share = 0.02
    """Significance level of two tests on held-out votes against the adapter that answers now:
    McNemar's test of accuracy and a t-test of the loss. A test fails if the update is significantly
    worse on both halves of the votes."""
    kept_advantage: Share = 0.75
    """Share of the advantage over the base in predicting held-out votes that must be kept."""
    held_out: Positive = 64
    """Minimum number of held-out votes in a domain for these tests."""
    approved_held_out: Positive = 512
    """Minimum number for the same tests against the last update that a person approved, ..."""
    approved_alpha: Share = 0.005
    """... and their significance level, on all votes at once. This detects slow drift."""
    surprise_p: Share = 1e-3
    """An update waits for a person's approval if the policy predicted its votes significantly worse
    than earlier ones (Fisher's test at this level): preferences have changed, or somebody is
    poisoning. 0 never asks."""
    undone_from: PositiveFloat = 100.0
    """E-value of the votes against the current adapter above which it is rolled back. A fifth of
    the pairs that the server makes compare its answer with one of the previous adapter."""
    prompts: Positive = 64
    """Prompts that both adapters answer, to compare their answers."""
    shorter: Share = 0.5
    """Shortest mean answer, as a multiple of the current adapter's."""
    longer: PositiveFloat = 1.6
    """Longest mean answer, as a multiple of the current adapter's."""
    unfinished: Share = 0.1
    """Largest increase in the share of answers that do not end, over the current adapter, ..."""
    answers_p: Share = 1e-3
    """... if the increase in answers that do not end, or are empty, is significant at this level
    (Fisher's test)."""
    repeated: Share = 0.1
    """Largest increase in the share of repeated 4-grams, over the current adapter."""
    phrase_share: Share = 0.05
    """An update fails if a phrase of one to three words is in at least this share of its answers,
    ..."""
    phrase_before: Share = 0.005
    """... was in less than this share before, ..."""
    phrase_p: Share = 0.01
    """... and the increase is significant at this level over all phrases (Fisher's test,
    Bonferroni). At the same level, an update waits for a person's approval if a phrase that only a
    few people write in prompts makes a phrase in answers more frequent than it did in the last
    approved update."""
    newcomers: Share = 0.2
    """Largest share of an update, and of held-out votes, from people with fewer than 32 votes
    together, if others have more, since fake accounts cost nothing. The rest waits until there is
    room. Set 1 where nobody can have several accounts and most people vote only once."""
    over_use_p: Share = 1e-6
    """Votes for a phrase wait until an admin releases them if one annotator, all who edit, or all
    whose prompts have a rare phrase put it into most answers they prefer while others rarely do,
    significant at this level. 0 holds none back."""
    own_rule_p: Share = 1e-5
    """So do the votes and ratings of one annotator, of all who rate, or of all whose prompts have a
    rare phrase, if words predict nearly all of their preferences and significantly fewer of
    others', at this level. 0 holds none back."""


class LiveConfig(Section):
    """Learning from the votes of a live folder, for `fastslow learn` and `fastslow serve --learn`.
    Each domain has its own adapters, and each update starts where the previous one ended."""

    rows: Positive = 64
    """Votes, ratings and edits per update, each learned once."""
    max_wait_s: NonNegativeFloat = 600.0
    """Seconds after which an update takes fewer rows, padded with at most as many earlier ones."""
    promotion: Literal["automatic", "tested", "by_hand"] = "automatic"
    """Which updates are promoted without approval: all that pass the gate (`automatic`); only those
    that were also `tested` on held-out votes, of which there are too few at first; or none
    (`by_hand`). The rest wait for an admin's approval, and their domain does not learn until
    then."""
    keep: NonNegative = 8
    """How many of the newest updates of a domain keep their checkpoints and can be rolled back to;
    older ones cannot."""
    gate: GateConfig = GateConfig()
