"""Stages: runs in sequence on one base, each starting from the previous one's adapter.

A stage is the recipe with some sections changed. `sft` learns demonstrations, or the chosen side of
pairs, with one adapter; `preferences` is the recipe unchanged.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

OF_ALL = (
    "model", "task", "output_dir", "seed", "load_in_4bit", "trust_remote_code", "stages",
    "continual",
)  # fmt: skip
"""Keys that a stage cannot override."""
IMPLIED: Mapping[str, Mapping[str, Any]] = {
    "sft": {
        "objective": {"name": "sft"},
        "chase": None,
        "moving_reference": None,
        "online_kl": None,
        "budget": None,
    },
    "preferences": {},
}
"""Changes that each kind of stage implies."""


class StageConfig(BaseModel):
    """A stage: its `name`, and the sections in which it differs from the rest of the recipe."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: Literal["sft", "preferences"]
    """`sft` learns demonstrations, or the chosen side of pairs; `preferences` is the recipe's
    objective."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def sections(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def stage_settings(
    whole: Mapping[str, Any],
    stages: Sequence[StageConfig],
    index: int,
    *,
    start_from: str,
    output_dir: str,
) -> dict[str, Any]:
    """The recipe of one stage, as a mapping.

    Args:
        whole: the whole recipe as JSON.
        stages: all of them.
        index: of the stage, from 0.
        start_from: the previous stage's adapter; the first stage keeps the recipe's own start.
        output_dir: of the stage's run.
    """
    stage = stages[index]
    settings = {key: value for key, value in whole.items() if key != "stages"}
    settings = _changed(_changed(settings, IMPLIED[stage.name]), stage.sections)
    settings["output_dir"] = output_dir
    if index:
        settings["lora"] = {"start_from": start_from}
        settings["reference"] = settings.get("reference") or "previous"
    elif not settings["lora"].get("start_from"):
        settings["reference"] = "base"
    return settings


def stage_faults(stages: Sequence[StageConfig]) -> list[str]:
    """Faults of the stages, one line each."""
    faults = []
    for number, stage in enumerate(stages, 1):
        where = f"stage {number}, {stage.name}"
        shared = [key for key in OF_ALL if key in stage.sections]
        faults += [f"{where}: {key} is the same for all stages; give it once" for key in shared]
        if "rounds" in stage.sections:
            faults.append(
                f"{where}: rounds: a stage is a single run; train the rounds after the stages, "
                "with lora.start_from, or learn from fresh answers with online"
            )
        if number > 1 and "lora" in stage.sections:
            faults.append(f"{where}: starts from the adapter of the stage before; remove lora")
    return faults


def _changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with sections updated key by key; a named objective replaces the whole section."""
    result = dict(settings)
    for key, value in changes.items():
        before = result.get(key)
        if not (isinstance(before, Mapping) and isinstance(value, Mapping)):
            result[key] = value
        else:
            renamed = key == "objective" and "name" in value
            result[key] = dict(value) if renamed else {**before, **value}
    return result
