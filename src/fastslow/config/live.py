"""How votes are learned while a server answers: how many at a time, and what must be passed."""

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
    """What an update must pass before it answers. Whatever fails is set aside with the numbers, and
    the adapter before it answers on."""

    kl_to_champion: PositiveFloat | None = None
    """Largest reverse KL from what answers now, nats per answer. null allows half more than the KL
    budget allows all updates together from the base: both are estimates on a few answers. Another
    module that takes over may be twice as far."""
    chosen_ratio: float = -0.25
    """Least mean log-ratio to the base of the answers that people preferred, nats per token: below,
    even those have become much less likely."""
    alpha: Share = 0.02
    """Two tests on held-out votes against what answers now: McNemar's, of how many are judged
    right, and a t-test of how well they are predicted. Each fails where the update is worse by
    chance with less than this probability, on either half of the votes."""
    kept_advantage: Share = 0.75
    """Share that must be kept of the advantage over the base in predicting held-out votes."""
    held_out: Positive = 64
    """Fewest held-out votes of a domain for that test."""
    approved_held_out: Positive = 512
    """Fewest for the same tests against the last update that a person approved of, ..."""
    approved_alpha: Share = 0.005
    """... and their probability, on all votes at once: what is lost slowly is seen in time then."""
    surprise_p: Share = 1e-3
    """An update waits for a person's approval where the policy has predicted its votes so much less
    often than those before by chance with less than this probability (Fisher's test): a taste has
    changed, or somebody spoils. 0 never asks."""
    undone_from: PositiveFloat = 100.0
    """E-value of the votes against what answers, from which it is undone: a fifth of the pairs that
    the server makes show an answer of it and one of what answered before."""
    prompts: Positive = 64
    """Prompts that both answer, to compare how they speak."""
    shorter: Share = 0.5
    """Shortest mean answer, times that of what answers now."""
    longer: PositiveFloat = 1.6
    """Longest mean answer, times that of what answers now."""
    unfinished: Share = 0.1
    """Largest share of answers that do not end, more than of what answers now, ..."""
    answers_p: Share = 1e-3
    """... where by chance so many more do not end, or are empty, with less than this probability
    (Fisher's test)."""
    repeated: Share = 0.1
    """Largest share of repeated 4-grams, more than of what answers now."""
    phrase_share: Share = 0.05
    """A phrase of one to three words in this share of the answers or more fails, ..."""
    phrase_before: Share = 0.005
    """... if it was in a smaller share than this before, ..."""
    phrase_p: Share = 0.01
    """... and is so often by chance with less than this probability, of any phrase in so many
    answers (Fisher's test, Bonferroni). An update waits for a person's approval where a phrase that
    only a few write in prompts makes one in answers more frequent, by more than it did in what was
    approved of, with less than it too."""
    newcomers: Share = 0.2
    """Largest share of an update, and of held-out votes, that people with fewer than 32 votes have
    together, where others have more: made-up accounts cost nothing. 1 where nobody can have several
    and most vote only once; the rest waits until there is room."""
    over_use_p: Share = 1e-6
    """Votes for a phrase that somebody, those who edit, or those whose prompts have a phrase that
    only a few write put into most of what they prefer, and others hardly ever, wait until an admin
    lets them through, where chance would do so with less than this probability. 0 lets all
    through."""
    own_rule_p: Share = 1e-5
    """So do the votes and ratings of somebody, of all who rate, or of those whose prompts have a
    phrase that only a few write, where words tell nearly all that they are for, and so much less
    of what others are for by chance with less than this probability. 0 lets all through."""


class LiveConfig(Section):
    """Learning from the votes of a live folder, for `fastslow learn` and `fastslow serve --learn`.
    Every domain has adapters of its own, and each update begins where the one before ended."""

    rows: Positive = 64
    """Votes, ratings and edits that an update learns from, once."""
    max_wait_s: NonNegativeFloat = 600.0
    """Seconds after which fewer are learned, with at most as many that were learned before."""
    promotion: Literal["automatic", "tested", "by_hand"] = "automatic"
    """What answers without being asked about: whatever passes the gate; only what was `tested` on
    held-out votes too, of which there are too few in the beginning; or nothing. The rest waits for
    an admin's approval, and its domain learns on only then."""
    keep: NonNegative = 8
    """Updates of a domain, the newest ones, whose checkpoints stay, so that an update can be rolled
    back; older ones cannot."""
    gate: GateConfig = GateConfig()
