"""Regrets from the records of runs at single rates, and races that switch between those runs.

Without a chase term the chasing modules are independent runs, bit for bit. So the value of
switching alone, with any number of speeds and from any rate, follows from the runs at single rates
without more training.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean
from typing import Any

from fastslow.bench.comparators import Comparators, regret
from fastslow.bench.table import BUDGETS, gain_at_end, gain_at_kl, interval, shown
from fastslow.dynamics import LeaderSelector
from fastslow.evaluation import relative_regret

Record = Mapping[str, Any]

SWAP_EVERY, MEMORY = 2, 0.8
"""Settings of leader selection without a chase term, as in the fixed settings."""
SPEEDS = (2, 4)


def results(
    records: Sequence[Record],
    names: Sequence[str],
    num_rates: int,
    fixed: int,
    against: Mapping[str, Comparators],
) -> dict[str, Any]:
    """Results of every setting on the streams of one kind.

    Args:
        records: of all settings on all streams.
        names: of the settings, DPO at each of `num_rates` rates first, slowest first.
        num_rates: number of these rates.
        fixed: index of the rate of the fast module in the fixed settings.
        against: each stream's comparators, which define its regret.

    `settings`: one row for each setting, and for switching alone at the fixed rate; `fast_rates`:
    loss above the best rate in hindsight, for DPO and for chasing with this rate for the fastest
    module.
    """
    streams: dict[str, dict[str, Record]] = {}
    for record in records:
        streams.setdefault(record["scenario"], {})[record["setting"]] = record
    rates = names[:num_rates]
    best = [
        min(stream_records[rate]["loss"] for rate in rates) for stream_records in streams.values()
    ]
    runs = {name: [stream_records[name] for stream_records in streams.values()] for name in names}
    for speeds in SPEEDS:
        runs[f"switching-{speeds}-speeds"] = _races(streams, rates, fixed, speeds)
    by_rate = {
        rate: {
            "dpo": _above_best(runs[rate], best),
            **{
                f"{speeds} speeds": _above_best(_races(streams, rates, index, speeds), best)
                for speeds in SPEEDS
            },
        }
        for index, rate in enumerate(rates)
        if index
    }
    return {
        "settings": {
            name: _row(stream_records, best, [against[stream] for stream in streams])
            for name, stream_records in runs.items()
        },
        "fast_rates": by_rate,
    }


def _races(
    streams: Mapping[str, Mapping[str, Record]], rates: Sequence[str], fastest: int, speeds: int
) -> list[Record]:
    """For each stream, switching between the run at one rate and those at the next slower rates."""
    modules = tuple(reversed(rates[max(0, fastest + 1 - speeds) : fastest + 1]))
    return [
        race_runs({name: stream_records[name] for name in modules})
        for stream_records in streams.values()
    ]


def race_runs(runs: Mapping[str, Record]) -> Record:
    """The record of switching between finished runs, fastest first, on the same stream."""
    race = LeaderSelector(tuple(runs), swap_every=SWAP_EVERY, decay=MEMORY)
    steps = zip(*(run["losses"] for run in runs.values()), strict=True)
    losses, swaps = [], 0
    for now in steps:
        current = dict(zip(runs, now, strict=True))
        losses.append(current[race.leader])
        race.record(current)
        swaps += race.finish_step()
    points = runs[race.leader]["points"]
    return {"loss": fmean(losses), "losses": losses, "swaps": swaps, "points": points}


def _above_best(runs: Sequence[Record], best: Sequence[float]) -> dict[str, float]:
    each = zip(runs, best, strict=True)
    return interval([relative_regret([run["loss"]], [loss]) for run, loss in each])


def _row(
    runs: Sequence[Record], best: Sequence[float], against: Sequence[Comparators]
) -> dict[str, Any]:
    return {
        "loss": interval([run["loss"] for run in runs]),
        "above_best_rate": _above_best(runs, best),
        "swaps": fmean(run["swaps"] for run in runs),
        "gain": interval([gain_at_end(run, "reward") for run in runs]),
        **{
            f"gain@{budget:g}": interval([gain_at_kl(run, "reward", budget) for run in runs])
            for budget in BUDGETS
        },
        **_regrets([run["losses"] for run in runs], against),
    }


def _regrets(losses: Sequence[Sequence[float]], against: Sequence[Comparators]) -> dict[str, Any]:
    """Regret in nats at the stream's end, along it divided by the root of T, and by segment."""
    by_end: dict[int, list[float]] = {}
    by_segment = []
    for stream_losses, stream in zip(losses, against, strict=True):
        total = max(stream.prefixes)
        for end, comparator in stream.prefixes.items():
            steps = stream_losses[: len(stream_losses) * end // total]
            by_end.setdefault(end, []).append(regret(steps, end, comparator))
        if stream.segments:
            each = len(stream_losses) // len(stream.segments)
            by_segment.append(
                sum(
                    regret(
                        stream_losses[i * each : (i + 1) * each],
                        total // len(stream.segments),
                        loss,
                    )
                    for i, loss in enumerate(stream.segments)
                )
            )
    regrets: dict[str, Any] = {
        "regret": interval(by_end[max(by_end)]),
        "regret_over_root": {
            str(end): interval([nats / sqrt(end) for nats in each]) for end, each in by_end.items()
        },
    }
    return regrets | ({"segment_regret": interval(by_segment)} if by_segment else {})


def as_markdown(found: Mapping[str, Any]) -> str:
    """The results as Markdown tables.

    Regrets are lower bounds, in nats: above fixed policies that were trained on the whole stream
    (or on its first part, or on each segment) for several passes.
    """
    lines = []
    for kind, results in found["streams"].items():
        head = ["setting", "loss before learning", "above the best rate in hindsight"]
        ends = next(iter(results["settings"].values()))["regret_over_root"]
        head += ["regret", *(f"regret / sqrt({end})" for end in ends), "regret by segment"]
        head += ["reward gained", *(f"at {budget:g} nats" for budget in BUDGETS), "swaps"]
        lines += [f"### {kind}", "", *_head(head)]
        for setting, row in results["settings"].items():
            cells = [setting, f"{row['loss']['mean']:.4f}"]
            cells += [shown(row["above_best_rate"], form=".1%"), f"{row['regret']['mean']:.1f}"]
            cells += [f"{row['regret_over_root'][end]['mean']:.2f}" for end in ends]
            by_segment = row.get("segment_regret")
            cells += [f"{by_segment['mean']:.1f}" if by_segment else "", shown(row["gain"])]
            cells += [shown(row[f"gain@{budget:g}"]) for budget in BUDGETS]
            lines.append("| " + " | ".join([*cells, f"{row['swaps']:.1f}"]) + " |")
        by_rate = results["fast_rates"]
        lines += ["", f"Above the best rate, switching only, by the fastest rate, {kind}:", ""]
        lines += _head(["rate", *next(iter(by_rate.values()))])
        for rate, row in by_rate.items():
            cells = [rate.removeprefix("dpo-"), *(shown(v, form=".1%") for v in row.values())]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _head(names: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
