"""Warns when held-out metrics show that training has damaged a policy."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastslow.evaluation.intervals import wilson_interval

CHOSEN_FALLS = 0.2
"""Nats per token that chosen responses may lose. Most objectives lower them, long ones by more: an
ordinary DPO run on responses of 300 tokens lowers them by 10 to 50 nats."""
SHORT = 20
"""Tokens that a shorter response counts as: a word or two may lose 4 nats as well."""
LONGER = 1.8
"""Factor by which sampled answers may get longer in training."""
CUT, ENDED = 0.9, 0.5
"""Largest share of sampled answers that may be truncated by the length limit, which hides how long
they are, if at most the second share was before training. Between the two, answers get about twice
as long."""
LEAST_ANSWERS = 32
"""Fewer sampled answers than this are not compared in length: with 32 on each side, one mean is 1.8
times the other by chance in about one evaluation of a hundred."""
CHANCE = 0.5
"""Accuracy of a policy that equals its reference. Only a Wilson 95 % interval entirely below it
counts, so that few pairs show nothing."""


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
        start: those from before training, which answer lengths are compared with.
        num_answers: number of answers sampled for each of the two.
        rewards: whether they are of a reward model, whose scores have no zero.
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
    lost, length = -(now["chosen_log_ratio"] or 0.0), now["chosen_length"] or 0.0
    if lost > CHOSEN_FALLS * max(length, SHORT) and not rewards:
        yield (
            f"chosen responses are {lost:.1f} nats less likely than under the reference on average "
            f"({lost / length:.2f} nats for each of their {length:.0f} tokens)"
        )


def _longer(
    now: Mapping[str, Any], start: Mapping[str, Any] | None, num_answers: int
) -> Iterator[str]:
    before, after = (start or {}).get("mean_length"), now["mean_length"]
    if start is None or not before or not after or num_answers < LEAST_ANSWERS:
        return
    if after > LONGER * before:
        yield (
            f"sampled answers have {after:.0f} tokens on average, {after / before:.1f} times as "
            "many as before training"
        )
    elif now["truncated"] > CUT and start["truncated"] <= ENDED:
        yield (
            f"{100 * now['truncated']:.0f} % of the sampled answers are cut by the length limit, "
            f"{100 * start['truncated']:.0f} % before training"
        )


def _wrong(now: Mapping[str, Any]) -> Iterator[str]:
    pairs, accuracy = now["pairs"], now["accuracy"]
    _, high = wilson_interval(accuracy * pairs, pairs)
    if high < CHANCE:
        yield (
            f"accuracy is {accuracy:.3f} on {pairs} examples (95 % interval up to {high:.3f}), "
            f"below the {CHANCE} of the reference itself"
        )
