"""The sections of the page, in order, with captions that explain them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import plotly.graph_objects as go

from fastslow.reports.drawn import DrawnRun
from fastslow.reports.frontier_figure import TITLES, frontier_figure, frontier_points
from fastslow.reports.leader_figure import leader_figure
from fastslow.reports.lines import (
    fresh_line,
    heldout_lines,
    leader_line,
    likelihood_lines,
    module_lines,
)
from fastslow.reports.regret import (
    above_unlearned,
    comparable,
    in_nats,
    regrets,
    starts_at_ln2,
)
from fastslow.reports.retention import retention_figure
from fastslow.reports.scores import retention_scores, shared_metric
from fastslow.reports.stream_figures import (
    heldout_figure,
    smoothing_width,
    totals_figure,
    training_figure,
)
from fastslow.reports.style import counted
from fastslow.reports.tables import Table, benchmark_table, retention_table, weight_table


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure and its caption; without a title of its own it has its section's."""

    title: str
    caption: str
    figure: go.Figure
    colour: str | None = None
    """Colour of the run, if the figure shows only one."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page under its own heading."""

    title: str
    lead: str
    plots: list[Plot]
    tables: list[Table] = field(default_factory=list)
    terms: dict[str, str] = field(default_factory=dict)
    """Definitions of the terms in the tables."""
    folded: bool = False
    """Whether it is collapsed at first."""


def all_sections(drawn: Sequence[DrawnRun]) -> list[Section]:
    """The sections that have data: results first, then how they came about."""
    trained = [drawn_run for drawn_run in drawn if drawn_run.run.pairs]
    results = _retention(drawn) + _frontier(drawn)
    details = _answers(drawn)
    if trained:
        course = [_training(trained), *_fresh(trained), *_leaders(trained), _likelihoods(trained)]
        details = course + _regret(trained) + details
    if not results:
        results, details = details[:1], details[1:]
    return [*results, *_benchmarks(drawn), *(replace(section, folded=True) for section in details)]


def _training(drawn: Sequence[DrawnRun]) -> Section:
    width = smoothing_width(drawn)
    held = {"accuracy": heldout_lines({"held out": "accuracy"}),
            "loss": heldout_lines({"held out": "loss"})}  # fmt: skip
    unit = " (nats)" if all(in_nats(drawn_run.run) for drawn_run in drawn) else ""
    return Section(
        "Training curves",
        "Every batch is scored before it is learned (test-then-train). Thick lines are means over "
        f"the last {counted(width, 'pair')}, faint lines are single batches; solid is the fast "
        "module, dotted and dashed the slower ones; diamonds are held-out values.",
        [
            Plot(
                "Accuracy",
                "Share of pairs where the leader's margin has the right sign, for policies "
                "relative to the reference. Chance is 0.5.",
                training_figure(
                    drawn, leader_line("accuracy"), "accuracy", heldout=held["accuracy"]
                ),
            ),
            Plot(
                "Loss",
                "The objective of each module, without the chase. Lower is better; DPO starts at "
                "ln 2 = 0.693. On held-out pairs, on-policy objectives are evaluated with the DPO "
                "loss.",
                training_figure(drawn, module_lines("loss"), f"loss{unit}", heldout=held["loss"]),
            ),
            Plot(
                "Margin",
                "Log-prob of chosen minus rejected of each module, for policies relative to the "
                "reference. It should rise; a very large margin is a sign of overfitting.",
                training_figure(drawn, module_lines("margin"), "margin (nats)"),
            ),
            Plot(
                "Gradient norm",
                "Of each module, before clipping. Single peaks are hard batches; a lasting rise "
                "means the learning rate is too high.",
                training_figure(drawn, module_lines("grad_norm"), "gradient norm"),
            ),
        ],
    )


FRESH = {
    "score": (
        "Judge score",
        "Of the completions that each step trained on. It should rise; scores on held-out "
        "prompts are below.",
        "score",
    ),
    "ratio_deviation": (
        "Ratio deviation",
        "Mean of |w - 1| over the tokens of these completions, with w = pi / pi_old. Zigzags are "
        "repeated passes over the same completions.",
        "ratio deviation",
    ),
    "explained_variance": (
        "Critic",
        "Share of the returns' variance that the critic explains: 0 is no better than their mean.",
        "explained variance",
    ),
}


def _fresh(drawn: Sequence[DrawnRun]) -> list[Section]:
    """Completions sampled for training, in every step."""
    plots = []
    for key, (title, caption, unit) in FRESH.items():
        with_values = [
            drawn_run
            for drawn_run in drawn
            if any(not record.steps.fresh[key].empty for record in drawn_run.run.records)
        ]
        if with_values:
            plots.append(Plot(title, caption, training_figure(with_values, fresh_line(key), unit)))
    return [Section("Training completions", "", plots)] if plots else []


def _leaders(drawn: Sequence[DrawnRun]) -> list[Section]:
    racing = [
        drawn_run
        for drawn_run in drawn
        if any(len(r.steps.modules) > 1 for r in drawn_run.run.records)
    ]
    if not racing:
        return []
    caption = (
        "A bar in a module's lane while it leads, a diamond where it becomes the leader. Frequent "
        "changes mean that neither learning rate is clearly better."
    )
    return [Section("Who leads when", "", [Plot("", caption, leader_figure(racing))])]


def _likelihoods(drawn: Sequence[DrawnRun]) -> Section:
    held = heldout_lines(
        {"chosen, held out": "chosen_log_ratio", "rejected, held out": "rejected_log_ratio"}
    )
    if all(drawn_run.run.of_rewards for drawn_run in drawn):
        caption = "Solid: chosen, dotted: rejected. Only the difference is meaningful."
        figure = training_figure(drawn, likelihood_lines, "reward", heldout=held)
        return Section("Rewards of chosen and rejected", "", [Plot("", caption, figure)])
    caption = (
        "Solid: chosen, dotted: rejected; the leader's log-prob of the response minus the "
        "reference's. Rejected should fall and chosen stay near 0: if both fall together, "
        "the model unlearns good responses with the bad ones and is degrading."
    )
    figure = training_figure(drawn, likelihood_lines, "log-ratio (nats)", heldout=held)
    return Section("Log-ratios of chosen and rejected", "", [Plot("", caption, figure)])


def _frontier(drawn: Sequence[DrawnRun]) -> list[Section]:
    points = [drawn_run for drawn_run in drawn if frontier_points(drawn_run.run, "accuracy")]
    if not points:
        return []
    rewarded = all(frontier_points(drawn_run.run, "reward") for drawn_run in points)
    metric = "reward" if rewarded else "accuracy"
    caption = (
        "One point per evaluation, connected in order: hollow before training, large at the end; "
        "in continual runs means over all domains, after each domain. Higher at less KL is "
        "better: compare runs at the same KL, not at the same step."
    )
    plot = Plot("", caption, frontier_figure(points, metric))
    return [Section(f"{TITLES[metric].capitalize()} against KL", "", [plot])]


TERMS = {
    "average": "mean of the last row: the score on all domains at the end.",
    "backward transfer": "mean of R[K, j] − R[j, j] over the earlier domains: the effect of later "
    "training on them. Below 0 is forgetting.",
    "forward transfer": "mean of R[j−1, j] − base[j] over the later domains: the gain over the "
    "base on a domain before training on it.",
    "forgetting": "mean over the earlier domains of their best score after training on them "
    "minus their last.",
}


def _retention(drawn: Sequence[DrawnRun]) -> list[Section]:
    kept = [
        (drawn_run, drawn_run.run.retention)
        for drawn_run in drawn
        if drawn_run.run.retention is not None
    ]
    if not kept:
        return []
    metric = shared_metric([retention for _, retention in kept])
    values = [
        v for _, r in kept for row in retention_scores(r, metric) for v in row if v is not None
    ]
    span = (min(values), max(values))
    plots = [
        Plot(
            drawn_run.run.label,
            f"Final policy: {retention.policy}.",
            retention_figure(retention, metric, span),
            drawn_run.colour,
        )
        for drawn_run, retention in kept
    ]
    drawn_kept = [drawn_run for drawn_run, _ in kept]
    weights = weight_table(drawn_kept)
    return [
        Section(
            "Retention",
            f"{TITLES[metric].capitalize()} on each domain (columns) after training on each "
            "(rows, from the top). Read down a column: it should rise at its own domain and not "
            "fall after it. The same colour is the same score in all runs.",
            plots,
            [retention_table(drawn_kept), *([weights] if weights.rows else [])],
            TERMS,
        )
    ]


def _benchmarks(drawn: Sequence[DrawnRun]) -> list[Section]:
    table = benchmark_table(drawn)
    lead = "What other tools found, in their own units, with standard errors where they give them."
    return [Section("Benchmarks", lead, [], [table])] if table.rows else []


def _regret(drawn: Sequence[DrawnRun]) -> list[Section]:
    plot = _regret_plot(drawn)
    return [Section("Regret", "", [plot])] if plot else []


def _regret_plot(drawn: Sequence[DrawnRun]) -> Plot | None:
    rivals = [
        drawn_run
        for drawn_run in drawn
        if drawn_run.run in comparable([other.run for other in drawn])
    ]
    if len(rivals) > 1:
        return Plot(
            "Cumulative loss above the best run's",
            "Test-then-train loss summed over the stream, minus that of the run with the "
            "lowest total (flat at 0). A rising line is still losing ground; only runs with the "
            "same objective and number of pairs are compared.",
            totals_figure(
                rivals, regrets([drawn_run.run for drawn_run in rivals]), "regret (nats)"
            ),
        )
    known = [drawn_run for drawn_run in drawn if starts_at_ln2(drawn_run.run)]
    if not known:
        return None
    return Plot(
        "Cumulative loss relative to the reference",
        "Test-then-train loss summed over the stream, minus ln 2 per pair, the loss of a policy "
        "that stays at its reference. Below 0, training has paid off.",
        totals_figure(
            known,
            [above_unlearned(drawn_run.run) for drawn_run in known],
            "loss minus ln 2 per pair (nats)",
        ),
    )


def _answers(drawn: Sequence[DrawnRun]) -> list[Section]:
    answered = [
        drawn_run
        for drawn_run in drawn
        if any(
            e.measured.get("mean_length") is not None
            for r in drawn_run.run.records
            for e in r.evaluations
        )
    ]
    if not answered:
        return []
    return [
        Section(
            "Answers",
            "",
            [
                Plot(
                    "Length",
                    "Mean tokens of the sampled answers. Growth without a gain in reward means the "
                    "policy has learned a length bias.",
                    heldout_figure(answered, "mean_length", "tokens"),
                ),
                Plot(
                    "Truncated",
                    "Share of the sampled answers truncated by the length limit. A rise towards 1 "
                    "means the policy no longer ends its answers.",
                    heldout_figure(answered, "truncated", "share"),
                ),
            ],
        )
    ]
