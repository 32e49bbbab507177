"""What a learner's checkpoints are compared by: those of older versions know fewer settings."""

import re
from collections.abc import Mapping
from typing import Any

from fastslow.adapters.objects import facts_of
from fastslow.config import flat, load_recipe
from fastslow.training.loop.learner import Learner

OF_NO_EFFECT = {"model", "output_dir", "report_to"}
"""Settings in which learners of the same checkpoint may differ; the model is compared itself."""


def identity_of(core: Learner) -> dict[str, Any]:
    """A learner's settings, objective and model, as JSON."""
    objective = re.sub(r" at 0x[0-9a-f]+", "", repr(core.objective))
    settings = core.recipe.model_dump(mode="json", exclude=OF_NO_EFFECT)
    model = facts_of(core.policies.modules.causal_lm)
    return {"settings": settings, "objective": objective, "model": model}


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The keys in which two identities differ. A setting that the version of a checkpoint did not
    know has its default there."""
    then, now = flat(theirs), flat(ours)
    defaults = load_recipe({"model": "none"}).model_dump(mode="json", exclude=OF_NO_EFFECT)
    known = {
        key: value for key, value in flat({"settings": defaults}).items() if not _below(key, then)
    }
    ignored = {f"settings.{name}" for name in OF_NO_EFFECT}
    keys = sorted(one for one in {*then, *now} if one not in ignored)
    return [key for key in keys if then.get(key, known.get(key)) != now.get(key)]


def _below(key: str, known: Mapping[str, Any]) -> bool:
    """Whether a section that a key is in has no keys there, as it is null."""
    parts = key.split(".")
    return any(".".join(parts[:end]) in known for end in range(1, len(parts)))
