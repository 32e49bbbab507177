"""fastslow in its own process: `python -m benchmarks.speed.ours SETTINGS`."""

import json
import sys
from typing import Any

from benchmarks.speed.pace import Pace


def main() -> None:
    settings = json.loads(sys.argv[1])
    pace = Pace(settings["steps"])
    import fastslow
    from fastslow.config import load_recipe

    recipe = load_recipe(raw_recipe(settings), [])

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "start":
            pace.ready(estimated_bytes=estimated_bytes(recipe))
        elif event["event"] == "warning" and "out of memory" in event["message"]:
            pace.notes.append(event["message"])
        elif event["event"] == "step":
            pace.step()

    fastslow.train(recipe, listener=hear)


def estimated_bytes(recipe: Any) -> int | None:
    """The run's estimated memory; None for small models."""
    from fastslow.adapters import load_tokenizer
    from fastslow.training.data.dataset import objective_of
    from fastslow.training.distributed.processes import ProcessGroup
    from fastslow.training.memory.estimate import needed_memory
    from fastslow.training.policies.loading import make_encoder

    processes = ProcessGroup(recipe.train.device)
    encoder = make_encoder(recipe, load_tokenizer(recipe.model))
    estimate = needed_memory(
        recipe, objective_of(recipe), encoder, processes.device, processes, warn=print
    )
    return None if estimate is None else estimate.total


def raw_recipe(settings: dict[str, Any]) -> dict[str, Any]:
    """The recipe for a system's settings."""
    return {
        "model": settings["model"],
        "output_dir": settings["out"],
        "data": {
            # Repeated in one epoch, in which the reference's log-probs are not cached.
            "train": [settings["data"]] * (1 if settings.get("again") else 1000),
            "max_length": settings["max_length"],
        },
        "lora": {"rank": 16, "alpha": 32},
        "objective": {"name": "dpo", "beta": 0.1},
        "train": {
            "learning_rate": 1e-5,
            "schedule": "constant",
            "batch_size": settings["batch_size"],
            "precision": settings["precision"],
            "compile": settings.get("compile", False),
            "epochs": 10_000 if settings.get("again") else 1,
            **settings.get("train", {}),
        },
        "checkpoint": {"every": 1_000_000},
        **settings["sections"],
    }


if __name__ == "__main__":
    main()
