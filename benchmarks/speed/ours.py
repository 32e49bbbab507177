"""fastslow, in a process of its own: `python -m benchmarks.speed.ours SETTINGS`."""

import json
import sys
from typing import Any

from benchmarks.speed.pace import Pace


def main() -> None:
    settings = json.loads(sys.argv[1])
    pace = Pace(settings["steps"])
    import fastslow
    from fastslow.config import load_recipe

    def hear(event: dict) -> None:
        if event["event"] == "start":
            pace.ready()
        elif event["event"] == "step":
            pace.step()

    fastslow.train(load_recipe(raw_recipe(settings), []), listener=hear)


def raw_recipe(settings: dict[str, Any]) -> dict[str, Any]:
    """The recipe that a system's settings stand for."""
    return {
        "model": settings["model"],
        "output_dir": settings["out"],
        "data": {
            # The same pairs in one epoch, which does not know what the reference said before.
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
