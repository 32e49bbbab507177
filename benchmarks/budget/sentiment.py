"""`python -m benchmarks.budget.sentiment OUT --data DATA --model MODEL`: real pairs at three rates.

DATA holds `sentiment` and `sentiment_labels`. Each policy is scored at several
strengths by a classifier of labelled reviews that were not used in training.

out/
  runs/<setting>-<rate>/
  records/<setting>-<rate>.json
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from fastslow.atomic_io import write_text
from fastslow.bench.measure import measure_run
from fastslow.bench.scenario import Scenario
from fastslow.bench.suite import gathered, kept, trained
from fastslow.config import DomainConfig, load_recipe
from fastslow.training.state.summary import read_summary, versions

RATES = (1e-4, 5e-4, 2e-3)
SETTINGS = {"default": (), "today": ("budget=null",)}
STRENGTHS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
ANSWERS = {"num_prompts": 64, "num_generations": 2, "max_new_tokens": 128, "max_pairs": 200}
MEASURING_SEED = 77
"""So that the answers differ from those that a run samples itself."""


def main() -> None:
    """Run the missing trainings and write all results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--setting", choices=SETTINGS, nargs="+", default=list(SETTINGS))
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, help="file for all results")
    args = parser.parse_args()
    calls = [
        partial(_record, args.out, args.data, args.model, setting, rate)
        for rate in args.rates
        for setting in args.setting
    ]
    records = gathered(calls, workers=args.workers, progress=lambda done, of: print(done, of))
    if args.results:
        records.sort(key=lambda record: (record["setting"], record["rate"]))
        text = json.dumps({"runs": records, "versions": versions()}, indent=1) + "\n"
        write_text(args.results, text)


def _record(out: Path, data: Path, model: Path, setting: str, rate: float) -> dict[str, Any]:
    name = f"{setting}-{rate:g}"
    make = partial(_measured, out / "runs" / name, data, model, setting, rate)
    return kept(out / "records" / f"{name}.json", make)


def _measured(run: Path, data: Path, model: Path, setting: str, rate: float) -> dict[str, Any]:
    files = {kind: str(data / "sentiment" / f"{kind}.jsonl.gz") for kind in ("train", "test")}
    recipe = load_recipe(
        "sentiment-ofs",
        [
            f"model={model}",
            f"data.train={files['train']}",
            f"output_dir={run}",
            f"train.learning_rate={rate}",
            "train.precision=float32",  # Not every CPU computes in bfloat16.
            "eval.num_prompts=0",
            *SETTINGS[setting],
        ],
    )
    trained(recipe)
    raw = recipe.model_dump(mode="json", exclude_unset=True)
    judge = {"kind": "classifier", "data": str(data / "sentiment_labels" / "reviews.jsonl.gz")}
    settings = {key: raw[key] for key in ("model", "objective", "train")}
    settings |= {"data": {"max_length": recipe.data.max_length}, "seed": MEASURING_SEED}
    settings |= {"eval": {**ANSWERS, "judge": judge}}
    domain = DomainConfig(name="sentiment", train=files["train"], eval=files["test"])
    points = measure_run(Scenario("sentiment", (domain,), settings, STRENGTHS), run)
    summary = read_summary(run / "summary.json")
    facts = {"setting": setting, "rate": rate, "wall_s": summary.wall_s, "budget": summary.budget}
    return facts | {"prequential": summary.prequential, "points": points}


if __name__ == "__main__":
    main()
