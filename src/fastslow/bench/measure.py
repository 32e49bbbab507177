"""Measures a method's final policy at several strengths, which traces its reward/KL frontier.

A strength multiplies the policy's whole update, W + s * dW. Every method has this one dial after
training, so all can be compared at the same reverse KL.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from fastslow.adapters import BASE, Bank, copy_adapter
from fastslow.atomic_io import new_folder
from fastslow.bench.methods import JOINT, Method
from fastslow.bench.scenario import Scenario
from fastslow.training.continual.combination import write_combination
from fastslow.training.continual.combined import LAST, Combination, combination_after
from fastslow.training.continual.measurement import DomainEvaluator
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import SharedBase
from fastslow.training.policies.routed import ROUTED
from fastslow.training.state.event_log import ignore, unwatched
from fastslow.training.state.summary import ContinualSummary, read_summary

FAR = 2.5
"""Reverse KL in nats, mean over domains, beyond which no larger strength above 1 is measured."""


def measure_method(scenario: Scenario, method: Method, run: Path) -> dict[str, Any]:
    """Measurements of a method on every domain, from its finished training run, as JSON.

    `points`: for strength 0 (the base) and the scenario's strengths up to FAR, a measurement on
    each domain.
    `retention`: scores after each domain, if the training measured them.
    """
    recipe = scenario.measured()
    bases = SharedBase(ProcessGroup(recipe.train.device))
    evaluator = DomainEvaluator(recipe, bases, ignore)
    with TemporaryDirectory() as scratch:
        policy = _policy(scenario, method, run, Path(scratch) / "policy", bases)
        if method.policy == "oracle":
            points = _oracle_points(scenario, evaluator, policy, Bank(run / "bank"))
        else:
            points = points_of(scenario, evaluator, policy)
    return {"points": points, "retention": _retention(method, run)}


def measure_run(scenario: Scenario, run: Path) -> list[dict[str, Any]]:
    """The points of an ordinary run's leader."""
    recipe = scenario.measured()
    bases = SharedBase(ProcessGroup(recipe.train.device))
    evaluator = DomainEvaluator(recipe, bases, ignore)
    with TemporaryDirectory() as scratch:
        to = Path(scratch) / "policy"
        _leader(run, to)
        return points_of(scenario, evaluator, to)


def _leader(run: Path, to: Path) -> None:
    summary = read_summary(run / "summary.json")
    copy_adapter(run / summary.adapters[summary.leader], to)
    Combination(LAST, [summary.leader], None, None, None).write(to)


def _policy(scenario: Scenario, method: Method, run: Path, to: Path, bases: SharedBase) -> Path:
    """Folder of the combination that the method answers with."""
    if method.training == JOINT:
        _leader(run, to)
        return to
    entries = Bank(run / "bank").entries()
    if method.policy == "own":
        return combination_after(len(entries), run)
    # The router's folder holds every module, which is all that an oracle needs.
    kind = ROUTED if method.policy == "oracle" else method.policy
    with new_folder(to) as draft:
        write_combination(entries, scenario.measured(), draft, bases, kind=kind, progress=unwatched)
    return to


def points_of(scenario: Scenario, evaluator: DomainEvaluator, folder: Path) -> list[dict[str, Any]]:
    """The base and a combination at the scenario's strengths up to FAR, on each domain."""
    with evaluator.of(folder) as (policies, policy):
        points = [_point(0.0, evaluator.evaluate(policies, BASE, label="base"))]
        for strength in scenario.strengths:
            if _far_enough(points):
                break
            for name in policies.modules.names:
                policies.modules.set_scale(name, strength)
            points.append(_point(strength, evaluator.evaluate(policies, policy, label=policy)))
    return points


def _oracle_points(
    scenario: Scenario, evaluator: DomainEvaluator, folder: Path, bank: Bank
) -> list[dict[str, Any]]:
    """Each domain measured under its own module."""
    with evaluator.of(folder) as (policies, _):
        points = [_point(0.0, evaluator.evaluate(policies, BASE, label="base"))]
        for strength in scenario.strengths:
            if _far_enough(points):
                break
            measurements = []
            for entry in bank.entries():
                policies.modules.set_scale(entry.name, strength)
                measurements += evaluator.evaluate(
                    policies, entry.name, label=entry.name, domains=[entry.domain]
                )
            points.append(_point(strength, measurements))
    return points


def _far_enough(points: Sequence[dict[str, Any]]) -> bool:
    last = points[-1]
    return last["strength"] >= 1 and fmean(m["reverse_kl"] for m in last["domains"]) > FAR


def _point(strength: float, measurements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"strength": strength, "domains": list(measurements)}


def _retention(method: Method, run: Path) -> dict[str, Any] | None:
    summary = read_summary(run / "summary.json")
    if method.policy != "own" or not isinstance(summary, ContinualSummary) or not summary.metrics:
        return None
    metrics: dict[str, Any] = asdict(summary)["metrics"]
    return metrics
