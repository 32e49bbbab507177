"""Signs in held-out metrics that training has damaged a policy, as one warning."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fastslow.evaluation.intervals import wilson_interval

CHOSEN_FALLS = 4.0
"""Nats that chosen responses may lose on average. Most objectives lower them a little; a loss of 4
makes them 55 times less likely."""
LONGER = 1.8
"""Times as long as before training that sampled answers may get."""
LEAST_ANSWERS = 32
"""Sampled answers below which their mean length is left alone: with 32 on each side chance alone
makes one mean 1.8 times the other in about one evaluation of a hundred."""
CHANCE = 0.5
"""Accuracy of a policy that is its reference. Only a Wilson 95 % interval that lies below it as a
whole counts, so that few pairs say nothing."""


def degradation(
    now: Mapping[str, Any],
    start: Mapping[str, Any] | None = None,
    *,
    num_answers: int = 0,
    rewards: bool = False,
) -> str | None:
    """A warning where held-out metrics (`EvalResult`) show a damaged policy; None where not.

    Args:
        now: the metrics.
        start: those from before training, against which answers are compared in length.
        num_answers: how many answers were sampled for each of the two.
        rewards: of a reward model, whose scores of chosen responses have no zero.
    """
    signs = [*_less_likely(now, rewards), *_longer(now, start, num_answers), *_wrong(now)]
    if not signs:
        return None
    advice = "" if rewards else ", raise beta"
    return (
        f"the policy has degraded on held-out data: {'; '.join(signs)}. Lower "
        f"train.learning_rate{advice}, or stop earlier"
    )


def _less_likely(now: Mapping[str, Any], rewards: bool) -> Iterator[str]:
    lost = -(now["chosen_log_ratio"] or 0.0)
    if lost > CHOSEN_FALLS and not rewards:
        yield (
            f"chosen responses are {lost:.1f} nats less likely than under the reference on average "
            f"({math.exp(-lost):.2g} times as likely)"
        )


def _longer(
    now: Mapping[str, Any], start: Mapping[str, Any] | None, num_answers: int
) -> Iterator[str]:
    before, after = (start or {}).get("mean_length"), now["mean_length"]
    if before and after and num_answers >= LEAST_ANSWERS and after > LONGER * before:
        yield (
            f"sampled answers have {after:.0f} tokens on average, {after / before:.1f} times as "
            "many as before training"
        )


def _wrong(now: Mapping[str, Any]) -> Iterator[str]:
    pairs, accuracy = now["pairs"], now["accuracy"]
    _, high = wilson_interval(accuracy * pairs, pairs)
    if high < CHANCE:
        yield (
            f"accuracy is {accuracy:.3f} on {pairs} examples (95 % interval up to {high:.3f}), "
            f"below the {CHANCE} of the reference itself"
        )
