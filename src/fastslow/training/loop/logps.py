"""Examples with everything that policies are compared on, and what an objective is called with.

A `ReferenceScoredBatch` holds what does not depend on the policy: token trees, the reference's
scores, random numbers. `logps_of` adds a policy's scores and the labels.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fastslow.objectives import (
    DemonstrationLogps,
    Objective,
    PairLogps,
    RankedLogps,
    RatedLogps,
    TokenLogps,
)
from fastslow.records import Pair, Ranking, Rating
from fastslow.scoring import Encoded, Scores, Tree, TreeBatch
from fastslow.training.data.requirements import OF_PAIRS, OF_POLICY, OF_REFERENCE
from fastslow.training.policies.policies import Policies
from fastslow.training.state.state import CacheState

Score = Callable[..., Scores]
"""Called with a batch and `statistics`."""


@dataclass(frozen=True, slots=True)
class ReferenceScoredBatch:
    """A batch of examples with the reference's scores."""

    items: Sequence[Encoded]
    batch: TreeBatch
    reference: Tensor
    """The reference's sums, [N]."""
    statistics: Mapping[str, Tensor]
    """What is measured of its predictions, [N]."""
    uniform: Tensor
    """Random numbers from 0 to 1, one per example, independent of the rest of the batch."""
    mismatched: tuple[TreeBatch, Tensor] | None
    """Each prompt with the first response to another one, and the reference's sums of them, [N],
    where the objective needs them and their batch is this one."""


def score_reference(
    policies: Policies,
    objective: Objective,
    items: Sequence[Encoded],
    *,
    reference: str,
    seed: int = 0,
    temperature: float = 1.0,
    reference_cache: CacheState | None = None,
    in_batch: bool = True,
) -> ReferenceScoredBatch:
    """The examples as a batch, scored under the reference at a temperature if that is not known.

    With `in_batch` False they are a part of a larger batch, whose mismatched responses are scored
    elsewhere.
    """
    batch = policies.batch([item.tree for item in items])
    wanted = sorted({OF_REFERENCE[name] for name in objective.needs if name in OF_REFERENCE})
    score = partial(policies.measure, reference, batch, statistics=wanted, temperature=temperature)
    if reference_cache is None:
        scores = score()
        sums, statistics = scores.sums, scores.statistics
    else:
        sums, statistics = reference_cache.measure(items, wanted, score)
    mismatched = None
    if in_batch and "mismatched_log_ratio" in objective.needs:
        other = policies.batch(mismatched_trees([item.tree for item in items]))
        mismatched = other, policies.score(reference, other)
    drawn = [random.Random(f"{seed}/{item.example.source}").random() for item in items]
    return ReferenceScoredBatch(
        items=items,
        batch=batch,
        reference=sums.to(batch.lengths.device),
        statistics={name: values.to(batch.lengths.device) for name, values in statistics.items()},
        uniform=torch.tensor(drawn),
        mismatched=mismatched,
    )


def logps_of(
    scored: ReferenceScoredBatch,
    objective: Objective,
    score: Score,
    *,
    state: Mapping[str, float] | None = None,
    mismatched: float | None = None,
) -> Any:
    """What the objective is called with, of the kind that it `takes`.

    Args:
        scored: from `score_reference`.
        objective: says what it needs.
        score: the policy's scores of a batch, as `partial(policies.measure, name)`.
        state: running statistics of the objective.
        mismatched: the policy's mean log-ratio of mismatched responses in the whole batch, where
            the examples are a part of it.
    """
    wanted = {OF_POLICY[name] for name in objective.needs if name in OF_POLICY}
    policy = score(scored.batch, statistics=sorted(wanted))
    extras = _extras(scored, objective, policy, score, mismatched)
    return _CONTAINERS[objective.takes](scored, policy, extras, dict(state or {}))


def weights_of(items: Sequence[Encoded], device: torch.device) -> Tensor:
    """How much each example counts, [B]."""
    return torch.tensor([item.example.weight for item in items], device=device)


def confidences_of(items: Sequence[Encoded], device: torch.device) -> Tensor | None:
    """Probability that each label is right, [B]; None where all are sure."""
    found = [getattr(item.example, "confidence", 1.0) for item in items]
    return None if min(found) == 1.0 else torch.tensor(found, device=device)


def _extras(
    scored: ReferenceScoredBatch,
    objective: Objective,
    policy: Scores,
    score: Score,
    mismatched: float | None,
) -> dict[str, Tensor]:
    sums, device = policy.sums, policy.sums.device
    examples = [item.example for item in scored.items]
    extras: dict[str, Tensor] = {}
    for name in objective.needs:
        if name in OF_PAIRS:
            values = [OF_PAIRS[name](example) for example in examples if isinstance(example, Pair)]
            extras[name] = torch.tensor(values, device=device, dtype=sums.dtype)
        elif name in OF_REFERENCE:
            extras[name] = scored.statistics[OF_REFERENCE[name]].view(-1, 2).mean(1)
        elif name in OF_POLICY:
            side = int(name.startswith("rejected"))
            extras[name] = policy.statistics[OF_POLICY[name]].view(-1, 2)[:, side]
        elif name == "uniform":
            extras[name] = scored.uniform.to(device)
        elif name == "mismatched_log_ratio":
            mean = _mean_mismatched(scored, score) if mismatched is None else mismatched
            extras[name] = sums.new_full((len(examples),), mean)
    if objective.learns_ties:
        ties = [isinstance(example, Pair) and example.is_tie for example in examples]
        extras["tie"] = torch.tensor(ties, device=device, dtype=sums.dtype)
    return extras


def _mean_mismatched(scored: ReferenceScoredBatch, score: Score) -> float:
    assert scored.mismatched is not None
    other, reference = scored.mismatched
    with torch.no_grad():
        ratios = score(other, statistics=()).sums - reference
    return float(ratios.cpu().double().mean())


def _pairs(
    scored: ReferenceScoredBatch,
    scores: Scores,
    extras: dict[str, Tensor],
    state: dict[str, float],
) -> PairLogps:
    policy, reference, lengths = (
        values.view(-1, 2) for values in (scores.sums, scored.reference, scored.batch.lengths)
    )
    return PairLogps(
        policy_chosen=policy[:, 0],
        policy_rejected=policy[:, 1],
        reference_chosen=reference[:, 0],
        reference_rejected=reference[:, 1],
        chosen_length=lengths[:, 0],
        rejected_length=lengths[:, 1],
        extras=extras,
        state=state,
    )


def _rankings(
    scored: ReferenceScoredBatch,
    scores: Scores,
    extras: dict[str, Tensor],
    state: dict[str, float],
) -> RankedLogps:
    return RankedLogps(**_of_rankings(scored, scores, extras), state=state)


def _tokens(
    scored: ReferenceScoredBatch,
    scores: Scores,
    extras: dict[str, Tensor],
    state: dict[str, float],
) -> TokenLogps:
    counts = [len(tree.responses) for tree in scored.batch.trees]
    lengths = scored.batch.lengths.tolist()

    def padded(values: Tensor) -> Tensor:
        """[S] values as [B, K, T]."""
        answers = pad_sequence(list(values.split(lengths)), batch_first=True)
        return pad_sequence(list(answers.split(counts)), batch_first=True)

    def known(name: str) -> Tensor:
        flat = [value for item in scored.items for own in item.of_tokens[name] for value in own]
        return padded(torch.tensor(flat, dtype=scores.tokens.dtype, device=scores.tokens.device))

    return TokenLogps(
        **_of_rankings(scored, scores, extras),
        state=state,
        policy_tokens=padded(scores.tokens),
        sampled_tokens=known("sampled"),
        advantage=known("advantage"),
        token_present=padded(torch.ones_like(scores.tokens, dtype=torch.bool)),
    )


def _of_rankings(
    scored: ReferenceScoredBatch, scores: Scores, extras: dict[str, Tensor]
) -> dict[str, Any]:
    rankings = [item.example for item in scored.items]
    counts = [len(tree.responses) for tree in scored.batch.trees]
    policy = scores.sums

    def padded(values: Tensor) -> Tensor:
        return pad_sequence(list(torch.split(values, counts)), batch_first=True)

    def of_rankings(values: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
        flat = [value for row in values for value in row]
        return padded(torch.tensor(flat, dtype=dtype, device=policy.device))

    ranks = of_rankings([r.ranks for r in rankings if isinstance(r, Ranking)], torch.int64)
    given = [r.scores for r in rankings if isinstance(r, Ranking) and r.scores is not None]
    if len(given) == len(rankings):
        extras = {**extras, "score": of_rankings(given, policy.dtype)}
    if all(item.sampled for item in scored.items):
        sampled = [item.sampled for item in scored.items]
        extras = {**extras, "sampled": of_rankings(sampled, policy.dtype)}
    return {
        "policy": padded(policy),
        "reference": padded(scored.reference),
        "length": padded(scored.batch.lengths),
        "rank": ranks,
        "present": padded(torch.ones_like(policy, dtype=torch.bool)),
        "extras": extras,
    }


def _ratings(
    scored: ReferenceScoredBatch,
    scores: Scores,
    extras: dict[str, Tensor],
    state: dict[str, float],
) -> RatedLogps:
    desirable = [isinstance(i.example, Rating) and i.example.desirable for i in scored.items]
    return RatedLogps(
        policy=scores.sums,
        reference=scored.reference,
        length=scored.batch.lengths,
        desirable=torch.tensor(desirable, device=scores.sums.device),
        extras=extras,
        state=state,
    )


def _demonstrations(
    scored: ReferenceScoredBatch,
    scores: Scores,
    extras: dict[str, Tensor],
    state: dict[str, float],
) -> DemonstrationLogps:
    return DemonstrationLogps(
        policy_chosen=scores.sums,
        reference_chosen=scored.reference,
        chosen_length=scored.batch.lengths,
        extras=extras,
        state=state,
    )


_CONTAINERS: Mapping[str, Callable[..., Any]] = {
    "pairs": _pairs,
    "rankings": _rankings,
    "tokens": _tokens,
    "ratings": _ratings,
    "demonstrations": _demonstrations,
}


def mismatched_trees(trees: Sequence[Tree]) -> list[Tree]:
    """Each prompt with the first response to the next other prompt; its own where there is none."""
    found = []
    for place, tree in enumerate(trees):
        following = [*trees[place + 1 :], *trees[:place]]
        other = next((other for other in following if other.prompt != tree.prompt), tree)
        found.append(Tree(tree.prompt, other.responses[:1], other.scored[:1]))
    return found
