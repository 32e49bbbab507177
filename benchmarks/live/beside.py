"""`python -m benchmarks.live.beside OUT`: how do answering and learning slow each other down?

One server with a learner, on an idle machine. In turns: requests while there is nothing to learn,
requests while votes are learned, and no requests while as many votes are learned.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from benchmarks.live.people import Electorate
from benchmarks.votes import address_of
from fastslow.api.view import Answer
from fastslow.atomic_io import write_text
from fastslow.bench.scenario import world_scenario
from fastslow.feedback import updates
from fastslow.streams.worlds import World
from fastslow.training.state.summary import versions

TURNS = 4
UPDATES = 3
"""Updates learned in a turn, both with and without requests."""
ROWS = 64
SPARE = 1.3
"""Votes cast per row to be learned: some are held out, and no update may wait for missing rows."""
ASKED = 20
"""Requests to the idle server in a turn."""
TOKENS = 48
PATIENCE = 600.0
SETTINGS = (
    "data.max_length=128", "lora.rank=8", "lora.alpha=16", "train.learning_rate=3e-3",
    "train.batch_size=16", f"eval.max_new_tokens={TOKENS}", f"live.rows={ROWS}",
)  # fmt: skip


def main() -> None:
    """Measure, and write the results if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="folder of a model to use instead of the world's")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    world = World(args.seed, num_domains=1)
    scenario = world_scenario(world, args.out / "world", pairs=64)
    model = args.model or scenario.settings["model"]
    crowd = Electorate(args.out / "live", world, args.seed)
    command = ["serve", str(crowd.folder), f"model={model}", *SETTINGS, "--learn", "--port", "0"]
    server = subprocess.Popen(
        [sys.executable, "-m", "fastslow", *command], stdout=subprocess.PIPE, text=True
    )
    try:
        results = _measured(crowd, _client(server, crowd.folder))
    finally:
        server.terminate()
        server.wait()
        crowd.store.close()
    print(json.dumps(results, indent=1))
    if args.results:
        text = json.dumps({**results, "versions": versions()}, indent=1) + "\n"
        write_text(args.results, text)


def _client(server: subprocess.Popen[str], folder: Path) -> httpx2.Client:
    address = address_of(server)
    tokens = dict(line.split() for line in (folder / "tokens").read_text().splitlines())
    headers = {"Authorization": f"Bearer {tokens['admin']}"}
    return httpx2.Client(base_url=address, headers=headers, timeout=60.0)


def _measured(crowd: Electorate, client: httpx2.Client) -> dict[str, Any]:
    draw = random.Random(crowd.seed)
    ask = _asker(crowd, client, draw)
    _learned(crowd, draw, 1, lambda: time.sleep(0.2))  # Warm-up: loads and compiles.
    idle, busy = list[float](), list[float]()
    beside, alone = list[float](), list[float]()
    for _ in range(TURNS):
        idle += [ask() for _ in range(ASKED)]
        beside.append(_learned(crowd, draw, UPDATES, lambda: busy.append(ask())))
        alone.append(_learned(crowd, draw, UPDATES, lambda: time.sleep(0.2)))
    return {
        "answer_ms": {"idle": _milliseconds(idle), "while_learning": _milliseconds(busy)},
        "slower": median(busy) / median(idle),
        "rows_per_s": {"alone": alone, "while_answering": beside},
        "pace_kept": median(beside) / median(alone),
    }


def _asker(crowd: Electorate, client: httpx2.Client, draw: random.Random) -> Callable[[], float]:
    prompts = crowd.world.prompts(crowd.domain)

    def ask() -> float:
        """Seconds per answer, scaled to TOKENS tokens."""
        turns = [{"role": "user", "content": draw.choice(prompts)}]
        body = {"messages": turns, "max_tokens": TOKENS, "model": "base", "seed": 1}
        begun = time.monotonic()
        reply = client.post("/v1/chat/completions", json=body)
        reply.raise_for_status()
        tokens = int(reply.json()["usage"]["completion_tokens"])
        return (time.monotonic() - begun) * TOKENS / tokens

    return ask


def _learned(
    crowd: Electorate, draw: random.Random, count: int, meanwhile: Callable[[], object]
) -> float:
    """Cast votes and call `meanwhile` until `count` updates are decided. Returns the rows learned
    per second, from the first update to the last."""
    before = _decided(crowd)
    votes = int(SPARE * count * ROWS)
    asked = crowd.asked(votes)
    answers = [[crowd.world.answer(request.prompt, draw) for _ in range(2)] for request in asked]
    begun = time.monotonic()
    crowd.vote(asked, [[Answer(text, 1, False) for text in texts] for texts in answers])
    first, marks = 0.0, list[float]()
    while len(marks) < count:
        meanwhile()
        now = time.monotonic()
        marks += [now] * (_decided(crowd) - before - len(marks))
        first = first or (marks[0] if marks else 0.0)
        if now - begun > PATIENCE:
            raise SystemExit(f"{len(marks)} of {count} updates after {PATIENCE:.0f} s")
    if count == 1:
        return ROWS / (marks[0] - begun)
    return ROWS * (count - 1) / (marks[count - 1] - first)


def _decided(crowd: Electorate) -> int:
    with crowd.store.read() as connection:
        history = updates.history(connection)
    return sum(update.state not in updates.UNDECIDED for update in history)


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * duration for duration in seconds)
    return {
        "median": round(median(ordered), 1),
        "p95": round(ordered[int(0.95 * len(ordered))], 1),
        "count": len(ordered),
    }


if __name__ == "__main__":
    main()
