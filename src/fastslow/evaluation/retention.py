"""Retention of earlier domains, from the matrix of scores after each domain.

R[i][j] is the score on domain j after training on domain i, in the order of training, b[j] the
score before any training; higher is better, K domains.

    average            (1/K) sum_j R[K][j]
    backward transfer  (1/(K-1)) sum_{j<K} (R[K][j] - R[j][j])              negative: forgotten
    forward transfer   (1/(K-1)) sum_{j>1} (R[j-1][j] - b[j])
    forgetting         (1/(K-1)) sum_{j<K} (max_{j<=l<K} R[l][j] - R[K][j])

Forgetting is the fall from the best score since the domain was learned, the last row excluded from
the maximum, so it is negative where the last domain improved an earlier one; other definitions let
the maximum run over all rows. In any case it is at least minus the backward transfer.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """Summary of a retention matrix, in the units of its scores.

    The last three are None for a single domain, where they are not defined.
    """

    average: float
    backward_transfer: float | None
    forward_transfer: float | None
    forgetting: float | None


def retention(matrix: Sequence[Sequence[float]], initial: Sequence[float]) -> Retention:
    """The summary of R [K][K] and b [K]. Raises ValueError where the shapes disagree.

    >>> retention([[3.0, 1.0], [2.0, 4.0]], [0.0, 0.0])
    Retention(average=3.0, backward_transfer=-1.0, forward_transfer=1.0, forgetting=1.0)
    """
    count = len(initial)
    if not count or len(matrix) != count or any(len(row) != count for row in matrix):
        shape = [len(row) for row in matrix]
        raise ValueError(f"R has rows of {shape} scores and b has {count}; all must be K domains")
    last = matrix[-1]
    average = sum(last) / count
    if count == 1:
        return Retention(average, None, None, None)
    earlier = range(count - 1)
    best = [max(matrix[i][j] for i in range(j, count - 1)) for j in earlier]
    return Retention(
        average=average,
        backward_transfer=sum(last[j] - matrix[j][j] for j in earlier) / (count - 1),
        forward_transfer=sum(matrix[j][j + 1] - initial[j + 1] for j in earlier) / (count - 1),
        forgetting=sum(best[j] - last[j] for j in earlier) / (count - 1),
    )
