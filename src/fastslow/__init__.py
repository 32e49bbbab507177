"""fastslow: teach a language model from a stream of human preferences, online.

`Learner` learns batch by batch in your own loop, `train(recipe)` runs a recipe, `Run` opens the
result, `combine` merges several policies into one. docs/python.md shows them.

Importing this module is cheap: torch is imported on first use.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastslow.api.benchmarks import evaluate_with
    from fastslow.api.combine import Policy, combine
    from fastslow.api.data import batches
    from fastslow.api.judge import check_judge
    from fastslow.api.learner import Learner
    from fastslow.api.run import Run, train
    from fastslow.api.view import Answer, RowScore
    from fastslow.api.world import make_world
    from fastslow.config import ChaseConfig as Chase
    from fastslow.config import Recipe, dump_recipe, load_recipe
    from fastslow.errors import ConfigError, DataError, FastslowError, JudgeError, StateError
    from fastslow.evaluation import Benchmark
    from fastslow.harnesses import ToolEvaluation
    from fastslow.hub import Pushed
    from fastslow.judges import Judgement, JudgeRequest
    from fastslow.objectives import Objective, ObjectiveOutput, PairLogps, objective_names
    from fastslow.prompts import PromptSummary, optimise_prompt
    from fastslow.records import Demonstration, Message, Pair, Ranking, Rating
    from fastslow.reports import write_report
    from fastslow.testing import check_objective
    from fastslow.training.loop.evaluator import EvalResult
    from fastslow.training.loop.signals import StopToken
    from fastslow.training.loop.step_sums import StepResult

__version__ = version("fastslow")

_PLACES = {
    "api.benchmarks": ("evaluate_with",),
    "api.combine": ("Policy", "combine"),
    "api.data": ("batches",),
    "api.judge": ("check_judge",),
    "api.learner": ("Learner",),
    "api.run": ("Run", "train"),
    "api.view": ("Answer", "RowScore"),
    "api.world": ("make_world",),
    "config": ("Recipe", "dump_recipe", "load_recipe"),
    "errors": ("ConfigError", "DataError", "FastslowError", "JudgeError", "StateError"),
    "evaluation": ("Benchmark",),
    "harnesses": ("ToolEvaluation",),
    "hub": ("Pushed",),
    "judges": ("JudgeRequest", "Judgement"),
    "objectives": ("Objective", "ObjectiveOutput", "PairLogps", "objective_names"),
    "prompts": ("PromptSummary", "optimise_prompt"),
    "records": ("Demonstration", "Message", "Pair", "Ranking", "Rating"),
    "reports": ("write_report",),
    "testing": ("check_objective",),
    "training.loop.evaluator": ("EvalResult",),
    "training.loop.step_sums": ("StepResult",),
    "training.loop.signals": ("StopToken",),
}
_PUBLIC = {name: (place, name) for place, names in _PLACES.items() for name in names}
_PUBLIC["Chase"] = ("config", "ChaseConfig")

__all__ = [
    "Answer",
    "Benchmark",
    "Chase",
    "ConfigError",
    "DataError",
    "Demonstration",
    "EvalResult",
    "FastslowError",
    "JudgeError",
    "JudgeRequest",
    "Judgement",
    "Learner",
    "Message",
    "Objective",
    "ObjectiveOutput",
    "Pair",
    "PairLogps",
    "Policy",
    "PromptSummary",
    "Pushed",
    "Ranking",
    "Rating",
    "Recipe",
    "RowScore",
    "Run",
    "StateError",
    "StepResult",
    "StopToken",
    "ToolEvaluation",
    "__version__",
    "batches",
    "check_judge",
    "check_objective",
    "combine",
    "dump_recipe",
    "evaluate_with",
    "load_recipe",
    "make_world",
    "objective_names",
    "optimise_prompt",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fastslow' has no attribute {name!r}")
    place, attribute = _PUBLIC[name]
    return getattr(import_module(f"fastslow.{place}"), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
