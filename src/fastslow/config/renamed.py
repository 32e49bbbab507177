"""Old names of recipe keys, accepted for one release with a warning that says the new one; and
removed keys, which raise an error for one release."""

import warnings
from collections.abc import Mapping
from typing import Any

RENAMED = {
    "trains": "task",
    "train.clip_norm": "train.max_grad_norm",
    "lora.targets": "lora.target_modules",
    "eval.samples": "eval.num_prompts",
    "eval.sample_tokens": "eval.max_new_tokens",
    "eval.answers": "eval.num_generations",
    "filter.answers": "filter.num_generations",
    "online_kl.answers": "online_kl.num_generations",
    "rounds.answers": "rounds.num_generations",
    "rounds.stored": "rounds.offline_fraction",
    "online.answers": "online.num_generations",
    "online.every": "online.steps_per_generation",
    "online.passes": "online.num_iterations",
    "online.stored": "online.offline_fraction",
    "data.memory": "data.replay_buffer_size",
    "chase.loss_memory": "chase.loss_decay",
    "rounds.engine.key_variable": "rounds.engine.api_key_env",
    "rounds.engine.at_once": "rounds.engine.max_concurrency",
    "online.engine.key_variable": "online.engine.api_key_env",
    "online.engine.at_once": "online.engine.max_concurrency",
    "judge.key_variable": "judge.api_key_env",
    "judge.at_once": "judge.max_concurrency",
    "eval.judge.key_variable": "eval.judge.api_key_env",
    "eval.judge.at_once": "eval.judge.max_concurrency",
}
"""New key by old key; both are in the same section. Stages have the same sections."""
REMOVED: Mapping[str, tuple[Any, str]] = {
    f"{judge}.with_prompt": (False, "the answer alone is classified, as by default before")
    for judge in ("judge", "eval.judge")
}
"""A removed key; its default, with which it may still be in the file of an old run; and what
replaces it."""
OLD = (*RENAMED, *REMOVED)


def with_new_names(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A raw recipe with the current names, and a fault for each key with both names or removed.

    Each old name gives a FutureWarning.
    """
    faults: list[str] = []
    renamed = _renamed(raw, "", faults)
    stages = raw.get("stages")
    if isinstance(stages, list):
        renamed["stages"] = [
            _renamed(stage, "", faults) if isinstance(stage, Mapping) else stage for stage in stages
        ]
    return renamed, faults


def new_name(key: str) -> str:
    """The current name of a dotted key; warns if it is an old one."""
    new = RENAMED.get(key, key)
    if new != key:
        _warn(key, new)
    return new


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is called {new} now; rename it", FutureWarning, stacklevel=2)


def _renamed(section: Mapping[str, Any], prefix: str, faults: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in section.items():
        path = f"{prefix}{key}"
        if path in REMOVED:
            default, instead = REMOVED[path]
            if value != default:
                faults.append(f"{path}: was removed; {instead}")
            continue
        if isinstance(value, Mapping) and any(old.startswith(f"{path}.") for old in OLD):
            value = _renamed(value, f"{path}.", faults)
        if path == "judge" or path == "eval.judge":
            value = _members(value, path, faults)
        new = RENAMED.get(path)
        if new is None:
            result[key] = value
            continue
        name = new.rpartition(".")[2]
        if name in section:
            faults.append(f"{path}: is the old name of {new}, which is given too; remove {path}")
            continue
        _warn(path, new)
        result[name] = value
    return result


def _members(judge: Any, path: str, faults: list[str]) -> Any:
    """An ensemble judge with its members' keys renamed."""
    if not isinstance(judge, Mapping) or not isinstance(judge.get("members"), list):
        return judge
    members = [
        _renamed(member, f"{path}.", faults) if isinstance(member, Mapping) else member
        for member in judge["members"]
    ]
    return {**judge, "members": members}
