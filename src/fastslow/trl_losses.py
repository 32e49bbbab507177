"""TRL's names of losses, and the corresponding objectives."""

LOSSES = {
    "sigmoid": "dpo", "hinge": "hinge", "ipo": "ipo", "exo_pair": "exo", "nca_pair": "nca",
    "robust": "robust_dpo", "sppo_hard": "sppo", "apo_zero": "anchored_zero",
    "apo_down": "anchored_down", "discopop": "discopop", "sft": "sft",
    "sigmoid_norm": "length_normalised_dpo",
}  # fmt: skip
"""Values of `loss_type` in `trl dpo`, and the objective with the same loss."""
OF_RATINGS = {"bco_pair": "bco", "kto_pair": "kto"}
"""TRL's losses of pairs whose objectives here learn from ratings of single answers."""
NOT_HERE = ("aot", "aot_pair", "aot_unpaired")


def what_is(name: str) -> str:
    """What to do about one of TRL's names, as the end of a message; empty for any other.

    >>> what_is("sigmoid")
    "; it is TRL's name of dpo: write objective.name=dpo"
    """
    objective = LOSSES.get(name, name)
    if objective != name:
        return f"; it is TRL's name of {objective}: write objective.name={objective}"
    if of_ratings := OF_RATINGS.get(name):
        return (
            f"; TRL's loss of this name takes pairs, here {of_ratings} takes ratings: write "
            f"objective.name={of_ratings} for those"
        )
    return "; this loss of TRL is not here: write objective.name=dpo" if name in NOT_HERE else ""
