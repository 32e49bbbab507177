"""Run folders made by hand, after the contract of a run folder: what a report reads."""

import json
import math
import random
from pathlib import Path

CONFIG = "model: models/tiny\noutput_dir: runs/x\ndata: {train: pairs.jsonl}\n"


def step(number: int, *, pairs: int, loss: float, leader: str = "fast", **changes) -> dict:
    """A step event; the slow module loses 0.01 more, and has no gradient in even steps."""
    event = {
        "event": "step",
        "step": number,
        "pairs_seen": pairs,
        "domains": {"": 8},
        "leader": leader,
        "loss": loss,
        "accuracy": 0.5 + number / 1000,
        "margin": number / 10,
        "chosen_logp": -90.0,
        "rejected_logp": -95.0,
        "chosen_log_ratio": -0.01 * number,
        "rejected_log_ratio": -0.05 * number,
        "modules": {
            "fast": {"loss": loss, "margin": 0.1, "learning_rate": 1e-4, "grad_norm": 1.5},
            "slow": {
                "loss": loss + 0.01,
                "margin": 0.05,
                "learning_rate": 1e-5,
                "grad_norm": 0.5 if number % 2 else None,
            },
        },
        "pairs_per_s": 10.0,
    }
    return event | changes


def measurement(**changes) -> dict:
    values = {
        "pairs": 40,
        "accuracy": 0.5,
        "loss": math.log(2),
        "margin": 0.0,
        "chosen_logp": -90.0,
        "rejected_logp": -95.0,
        "chosen_log_ratio": 0.0,
        "rejected_log_ratio": 0.0,
        "reverse_kl": 0.0,
        "mean_length": 80.0,
        "truncated": 0.0,
    }
    return values | changes


def evaluation(moment: str, number: int, **changes) -> dict:
    return {"event": "eval", "moment": moment, "step": number, "leader": "fast"} | measurement(
        **changes
    )


def ordinary(folder: Path, events: list[dict], *, finished: bool = True, **summary) -> Path:
    """An ordinary run with these events."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    lines = [json.dumps(event) + "\n" for event in events]
    (folder / "events.jsonl").write_text("".join(lines))
    if finished:
        write_summary(
            folder, {"wall_s": 12.5, "device": "cpu", "versions": {"torch": "2"}, **summary}
        )
    return folder


def write_summary(folder: Path, summary: dict) -> None:
    (folder / "summary.json").write_text(json.dumps(summary))


def domain_events(draw: random.Random, steps: int, *, every: int = 10) -> list[dict]:
    """A domain's log: loss falls from ln 2, the lead changes once, evaluations now and then."""
    events = [evaluation("start", 0)]
    for number in range(1, steps + 1):
        loss = math.log(2) - 0.2 * number / steps + draw.gauss(0, 0.02)
        leader = "fast" if number <= steps // 2 else "slow"
        events.append(step(number, pairs=8 * number, loss=loss, leader=leader))
        if number == steps // 2:
            events.append({"event": "swap", "step": number, "leader": "slow"})
        if number % every == 0:
            gain = number / steps
            changes = {"accuracy": 0.5 + 0.3 * gain, "loss": loss, "reverse_kl": 2 * gain}
            events.append(evaluation("eval", number, **changes, mean_length=80 + 5 * gain))
    return events


def continual(
    folder: Path,
    accuracy: list[list[float]],
    *,
    domains: tuple[str, ...] = ("reviews", "requests", "notes"),
    reward: bool = True,
    seed: int = 0,
    steps: int = 20,
) -> Path:
    """A continual run whose rows of accuracy are the base's and those after each domain.

    The true reward is ten times the accuracy, reverse KL the number of domains trained on.
    """
    draw = random.Random(seed)
    runs = [f"domains/{number:02d}-{name}" for number, name in enumerate(domains, start=1)]
    for run in runs:
        ordinary(folder / run, domain_events(draw, steps))
    (folder / "config.yaml").write_text(CONFIG)
    rows = [
        [
            measurement(
                accuracy=value,
                reverse_kl=float(index),
                **({"reward": 10 * value, "win_rate": 0.5, "win_rate_low": 0.4,
                    "win_rate_high": 0.6} if reward else {}),
            )
            for value in row
        ]
        for index, row in enumerate(accuracy)
    ]  # fmt: skip
    metrics = {
        "average": sum(accuracy[-1]) / len(domains),
        "backward_transfer": -0.05,
        "forward_transfer": 0.02,
        "forgetting": 0.06,
    }
    samples = [
        {
            "domain": domains[0],
            "prompt": "Say something kind.",
            "answers": {"base": "Stones are grey.", "combined": "You are kind."},
            "rewards": {"base": -1.25, "combined": 2.5} if reward else None,
        }
    ]
    (folder / "samples.json").write_text(json.dumps(samples))
    write_summary(
        folder,
        {
            "kind": "continual",
            "domains": list(domains),
            "measured": list(domains),
            "runs": runs,
            "policy": "combined",
            "weights": {Path(run).name: 1 / len(runs) for run in runs},
            "initial": rows[0],
            "after": rows[1:],
            "metrics": {"accuracy": metrics} | ({"reward": metrics} if reward else {}),
            "adapters": {"combined": "adapters/combined"},
            "versions": {"torch": "2"},
            "device": "cpu",
            "wall_s": 12.3,
        },
    )
    return folder
