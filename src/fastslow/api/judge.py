"""Whether a judge can be trusted."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from fastslow.api.rows import sources_of
from fastslow.api.view import judge_of
from fastslow.config import Recipe
from fastslow.errors import ConfigError, DataError
from fastslow.judges import Judge, make_judge
from fastslow.judges.reliability import Probe, probe
from fastslow.records import Pair
from fastslow.streams import ExampleStream
from fastslow.training.state.event_log import Progress, unwatched

AT_ONCE = 16
"""Pairs asked about in one call."""


def check_judge(
    judge: Any,
    data: Any = None,
    *,
    pairs: int = 100,
    of_eval: bool = False,
    progress: Progress = unwatched,
) -> Probe:
    """Ask a judge about labelled pairs, in both orders and once more.

    Args:
        judge: a Recipe with a judge, a mapping as in one, a function or an object.
        data: labelled rows, a datasets.Dataset, or paths; None takes the recipe's data.eval.
        pairs: ask about the first so many; ties do not count.
        of_eval: of a recipe, the judge in eval and not the one that is learned from.
        progress: is called with how many of how many pairs are done.

    Returns shares of pairs (0 to 1) with 95 % intervals, seconds per pair, and what it cost. Raises
    ConfigError without a judge or data, DataError where no pair has a preference, JudgeError where
    the judge fails.
    """
    if judge is None:
        raise ConfigError("judge: is missing; give a function, an object, or a recipe with a judge")
    domain, columns = None, None
    if isinstance(judge, Recipe):
        recipe, config = judge, judge.eval.judge if of_eval else judge.judge or judge.eval.judge
        if config is None:
            raise ConfigError(f"{'eval.' if of_eval else ''}judge: the recipe has none to ask")
        data = data or recipe.data.eval_sources or None
        domain, columns = recipe.data.domain, recipe.data.columns
    if data is None:
        raise ConfigError(
            "data: is missing; give labelled pairs, by --data or in a recipe by data.eval"
        )
    stream = ExampleStream(sources_of(data), domain=domain, columns=columns)
    asked: Sequence[Pair] = list(
        islice((p for p in stream if isinstance(p, Pair) and not p.is_tie), pairs)
    )
    if not asked:
        raise DataError("no pair with a preference in the data")
    if isinstance(judge, Recipe) and config:
        made: Judge | None = make_judge(config, device=judge.train.device)
    else:
        made = judge_of(judge)
    assert made is not None
    return probe(made, asked, max_concurrency=AT_ONCE, progress=progress)
