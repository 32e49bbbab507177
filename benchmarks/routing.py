"""How often prompts are routed to their own domain, and those of unknown domains to the default.

    python -m benchmarks.routing OUT DATA --known sentiment --known helpfulness --other math

DATA holds a folder with train and test files for each name. Worlds of `fastslow.streams.worlds` are
measured too. Writes OUT/routing.json.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastslow.feedback.imports import turns_of
from fastslow.feedback.labelled import Labelled, Messages
from fastslow.serve.router import ENOUGH, MOST, Router
from fastslow.streams import open_sources, read_prompts
from fastslow.streams.worlds import World

ASKED = 200
"""Held-out prompts of each domain."""
SIZES = (ENOUGH, 128, MOST)
WORLDS = range(10)


def prompts_of(folder: Path, split: str, count: int) -> list[Messages]:
    """The first distinct prompts of a domain's files."""
    files = [str(file) for file in sorted(folder.glob(f"{split}.*"))]
    prompts_by_text: dict[str, Messages] = {}
    for prompt in read_prompts(open_sources(files)):
        turns = turns_of(prompt.prompt)
        prompts_by_text.setdefault(json.dumps(turns), turns)
        if len(prompts_by_text) == count:
            break
    return list(prompts_by_text.values())


def knowing(known: dict[str, Sequence[Messages]]) -> Router:
    """A router that has learned prompts of each domain."""
    router, number = Router(), 0
    for domain, messages in known.items():
        for turns in messages:
            number += 1
            router.learn([Labelled(number, domain, turns)])
    return router


def shares(router: Router, asked: dict[str, list[Messages]]) -> dict[str, dict[str, float]]:
    """For each domain, the share of its prompts routed to each domain; `none` is the default."""
    shares_by_domain = {}
    for domain, messages in asked.items():
        routed = [router.choose(turns) or "none" for turns in messages]
        shares_by_domain[domain] = {
            name: routed.count(name) / len(routed) for name in sorted(set(routed))
        }
    return shares_by_domain


def of_files(data: Path, known: list[str], others: list[str]) -> list[dict[str, Any]]:
    """Real domains, for several numbers of known prompts."""
    asked = {name: prompts_of(data / name, "test", ASKED) for name in (*known, *others)}
    results = []
    for size in SIZES:
        router = knowing({name: prompts_of(data / name, "train", size) for name in known})
        router.choose(asked[known[0]][0])  # The router computes its statistics once.
        began = time.perf_counter()
        routed = shares(router, asked)
        ms = (time.perf_counter() - began) / sum(map(len, asked.values())) * 1e3
        right = [routed[name].get(name, 0.0) for name in known]
        results.append(
            {"prompts": size, "right": sum(right) / len(right), "given": routed, "ms_a_prompt": ms}
        )
    return results


def of_worlds() -> dict[str, float]:
    """Worlds of three domains, with all known or all but one."""
    right, none = [], []
    for seed in WORLDS:
        world = World(seed, num_domains=3)
        texts = {name: [turns_of(text) for text in world.prompts(name)] for name in world.domains}
        asked = {
            name: [turns_of(text) for text in world.prompts(name, held_out=True)] for name in texts
        }
        routed = shares(knowing(texts), asked)
        right += [routed[name].get(name, 0.0) for name in texts]
        for name in texts:
            router = knowing({other: prompts for other, prompts in texts.items() if other != name})
            none.append(shares(router, {name: asked[name]})[name].get("none", 0.0))
    return {"right": sum(right) / len(right), "unknown_to_none": sum(none) / len(none)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--known", action="append", required=True)
    parser.add_argument("--other", action="append", default=[])
    args = parser.parse_args()
    results = {"files": of_files(args.data, args.known, args.other), "worlds": of_worlds()}
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1) + "\n"
    (args.out / "routing.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
