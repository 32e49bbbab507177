"""Optimises an instruction for a chat model that is only asked. Nothing is trained.

`run` makes a pool of candidates (`pool`) and asks the model (`black_box`) the validation examples
with a candidate in front; `scoring` says how well it did. `search` goes through the pool within a
budget by a method: `zopo` on a `surrogate`, or a baseline. What was evaluated is on disk in
`records`, and an interrupted run is resumed by giving a method the scores that are known.
"""

from fastslow.prompts.baselines import best_of_initial, random_search, resample
from fastslow.prompts.run import optimise_prompt
from fastslow.prompts.search import Evaluation, Proposals, search
from fastslow.prompts.summary import MethodResult, PromptSummary
from fastslow.prompts.zopo import ZopoSettings, zopo

__all__ = [
    "Evaluation",
    "MethodResult",
    "PromptSummary",
    "Proposals",
    "ZopoSettings",
    "best_of_initial",
    "optimise_prompt",
    "random_search",
    "resample",
    "search",
    "zopo",
]
