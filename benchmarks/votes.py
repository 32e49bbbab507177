"""`python -m benchmarks.votes OUT`: latency of votes at 10,000 a minute, and whether all are kept.

A server in its own process, and 50 people who take pairs and vote at fixed times, whether or not
the reply to the previous vote has arrived. Latency counts from the time a vote was due. With
`--model` the server also answers and learns from these votes, while answers are streamed all the
time.
"""

import argparse
import asyncio
import gc
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
from sqlalchemy import func, select

from fastslow.atomic_io import write_text
from fastslow.feedback import Store, items, people
from fastslow.feedback.schema import pairs, votes
from fastslow.feedback.updates import history
from fastslow.streams.worlds.language import THINGS
from fastslow.training.state.summary import versions

PEOPLE = 50
AHEAD = 4
"""Pairs that a person takes at once, as the page does."""
PROMPTS = 64
MADE_AT_ONCE = 5000
LEARNING = ("data.max_length=128", "lora.rank=8", "train.learning_rate=3e-3", "train.batch_size=16")
STREAMED = 48
"""Most tokens of a streamed answer."""


def main() -> None:
    """Measure, and write the results if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--votes-a-minute", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--model", help="folder of a model that answers and learns")
    parser.add_argument(
        "--streams", type=int, default=8, help="concurrent streamed answers, with --model"
    )
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    learning = [f"model={args.model}", *LEARNING, "--learn"] if args.model else []
    streams = args.streams if args.model else 0
    wanted = int(args.votes_a_minute * args.minutes)
    tokens = _prepared(args.out, wanted + PEOPLE * AHEAD)
    server = subprocess.Popen(
        [sys.executable, "-m", "fastslow", "serve", str(args.out), "--port", "0", *learning],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = address_of(server)
        seconds = args.minutes * 60
        latencies, answered = asyncio.run(_cast(address, tokens, wanted, seconds, streams))
        cpu = sum(psutil.Process(server.pid).cpu_times()[:2])
    finally:
        server.terminate()
        server.wait()
    with Store(args.out) as store, store.read() as connection:
        kept = connection.scalar(select(func.count()).select_from(votes))
        states = Counter(update.state for update in history(connection))
    results = {"votes": len(latencies), "kept": kept, "minutes": args.minutes, "people": PEOPLE}
    results |= {"server_cpu_s": round(cpu, 1)}
    results |= _quantiles(latencies)
    if streams:
        results |= {"streams": streams, "answers": answered, "updates": dict(states)}
    print(json.dumps(results, indent=1))
    if args.results:
        text = json.dumps({**results, "versions": versions()}, indent=1) + "\n"
        write_text(args.results, text)


def _prepared(folder: Path, count: int) -> list[str]:
    """Create a store with pairs and people; returns the people's tokens."""
    with Store(folder) as store:
        tokens = [
            store.write(people.add_principal, name=f"p{number}", role="annotator", now=0.0)[1]
            for number in range(PEOPLE)
        ]
        templates = [_pair(store, number) for number in range(PROMPTS)]
        for start in range(0, count, MADE_AT_ONCE):
            size = min(MADE_AT_ONCE, count - start)
            rows = [templates[number % PROMPTS] for number in range(size)]
            store.write(lambda connection, rows=rows: connection.execute(pairs.insert(), rows))
    return tokens


def _pair(store: Store, number: int) -> dict[str, Any]:
    """A row for a pair on a new prompt."""
    words = f"{THINGS[number % len(THINGS)]} {'north south east west'.split()[number % 4]}"
    messages = [{"role": "user", "content": f"Which way to the {words} {number}?"}]
    prompt = store.write(items.add_prompt, messages=messages, domain="town", now=0.0)
    answers = (items.Answer("Down the hill, then left. " * 8), items.Answer("No idea. " * 20))
    a, b = (
        store.write(items.add_answer, prompt_id=prompt, answer=answer, now=0.0)
        for answer in answers
    )
    row = {"prompt_id": prompt, "a": a, "b": b, "purpose": "learn", "open": True, "needs": 1}
    return {**row, "at": 0.0}


def address_of(server: subprocess.Popen[str]) -> str:
    """The server's address, once it prints it."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"serving on (\S+);", line):
            return found[1]
    raise SystemExit("the server did not start")


async def _cast(
    address: str, tokens: list[str], wanted: int, seconds: float, streams: int
) -> tuple[list[float], dict[str, Any]]:
    """Have everyone vote at fixed times. Returns the seconds from when each vote was due to its
    reply, and statistics of the answers streamed meanwhile."""
    limits = httpx2.Limits(max_connections=PEOPLE * 4, max_keepalive_connections=PEOPLE * 4)
    async with httpx2.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
        votes_each, every = wanted // len(tokens), seconds / (wanted // len(tokens))
        begin = time.monotonic() + 2.0
        gc.freeze()
        answered = _Answered()
        listening = [
            asyncio.create_task(answered.listen(client, tokens[number % len(tokens)]))
            for number in range(streams)
        ]
        latencies = await asyncio.gather(
            *(
                _person(client, token, votes_each, every, begin + every * place / len(tokens))
                for place, token in enumerate(tokens)
            )
        )
        answered.over = True
        await asyncio.gather(*listening)
    return [latency for person in latencies for latency in person], answered.summary()


@dataclass
class _Answered:
    """Outcomes of streamed answers."""

    over: bool = False
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def listen(self, client: httpx2.AsyncClient, token: str) -> None:
        """Stream one answer after another until voting is over."""
        headers = {"Authorization": f"Bearer {token}"}
        turns = [{"role": "user", "content": "Which way to the river?"}]
        body = {"model": "base", "messages": turns, "stream": True, "max_tokens": STREAMED}
        while not self.over:
            begun, last = time.monotonic(), ""
            try:
                async with client.stream(
                    "POST", "/v1/chat/completions", json=body, headers=headers
                ) as reply:
                    async for line in reply.aiter_lines():
                        last = line or last
            except httpx2.HTTPError as error:
                last = repr(error)
            if last == "data: [DONE]":
                self.seconds.append(time.monotonic() - begun)
            else:
                self.failed.append(last[:200])
                await asyncio.sleep(1.0)

    def summary(self) -> dict[str, Any]:
        """Counts, the median, and the first failures."""
        median_s = sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else None
        return {
            "whole": len(self.seconds), "median_s": median_s, "failed": len(self.failed),
            "failures": self.failed[:3],
        }  # fmt: skip


async def _person(
    client: httpx2.AsyncClient, token: str, count: int, every: float, begin: float
) -> list[float]:
    headers = {"Authorization": f"Bearer {token}"}
    draw, ready, latencies = random.Random(token), list[int](), list[float]()
    waiting = set[asyncio.Task[None]]()

    async def vote(pair_id: int, due: float) -> None:
        body = {"pair_id": pair_id, "verdict": draw.choice("ab"), "seen_ms": 4000}
        vote_headers = {**headers, "Idempotency-Key": str(pair_id)}
        reply = await client.post("/v1/votes", json=body, headers=vote_headers)
        reply.raise_for_status()
        latencies.append(time.monotonic() - due)

    for number in range(count):
        if not ready:
            # Votes in flight still hold their pairs, which would be handed out again.
            await asyncio.gather(*waiting)
            reply = await client.post("/v1/pairs/next", json={"count": AHEAD}, headers=headers)
            reply.raise_for_status()
            ready = [pair["id"] for pair in reply.json()["pairs"]]
        due = begin + number * every
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(vote(ready.pop(0), due))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    return latencies


def _quantiles(latencies: list[float]) -> dict[str, Any]:
    ordered = sorted(latencies)
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
    quantiles = {
        f"{name}_ms": 1000 * ordered[int(share * len(ordered))] for name, share in at.items()
    }
    return {**quantiles, "max_ms": 1000 * ordered[-1]}


if __name__ == "__main__":
    main()
