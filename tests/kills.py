"""kill -9 at seeded moments in runs of every kind, and what they leave in the end.

A moment is a number: a run counts its events and its steps on the disk (a folder made, a file
forced to the disk or renamed, a line of the log half written, a file of tensors cut in two) and is
killed at that one. `python tests/kills.py --kills 200 --to FILE` writes what was found as JSON.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import fork_server
import tiny

import fastslow
from fastslow.config import dump_recipe

RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
ANSWERS = {"max_new_tokens": 6, "temperature": 1.5}
ON_POLICY = {"num_generations": 2, **ANSWERS}
TIGHT = {"budget": {"reverse_kl": 1e-4, "every": 1}}

# Each attempt is a process of its own, a fork of this one, which has imported everything.
MORTAL = """
import json, os, signal, sys
from pathlib import Path

class Mortal:
    def __init__(self, number, told):
        self.count, self.number, self.told = 0, number, told

    def point(self, label):
        self.count += 1
        if self.count == self.number:
            self.told.write_text(json.dumps([self.count, label]))
        return self.count == self.number

    def die(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner, name):
        whole = getattr(owner, name)
        def instead(*given, **named):
            return self.die() if self.point(name) else whole(*given, **named)
        setattr(owner, name, instead)

    def in_a_file(self, owner):
        save_file = owner.save_file
        def half_a_file(tensors, path):
            save_file(tensors, path)
            if self.point("half a file"):
                os.truncate(path, path.stat().st_size // 2)
                self.die()
        owner.save_file = half_a_file

def live_and_die(told, attempt):
    for number in map(int, sys.stdin):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                mortal = Mortal(number, told)
                attempt(mortal)
                told.write_text(json.dumps([mortal.count, "end"]))
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([code, *json.loads(told.read_text())]), flush=True)
        if code == 0 and number:
            break
"""
ATTEMPTS = (
    MORTAL
    + """
from fastslow import training
from fastslow.training.continual import consolidation, distillation, merge_weights
from fastslow.training.state import checkpoint
from fastslow.training.state.event_log import EventLog
merge_weights.STEPS = consolidation.MOST_STEPS = 4
distillation.KEPT_EVERY = 2
recipe, told = sys.argv[1], Path(sys.argv[2])

def attempt(mortal):
    for name in ("mkdir", "fsync", "replace"):
        mortal.before(os, name)
    mortal.in_a_file(checkpoint)
    write_line = EventLog.write

    def half_a_line(self, event):
        if not mortal.point("half a line"):
            return write_line(self, event)
        line = json.dumps(event).encode()
        self._file.write(line[:len(line) // 2])
        mortal.die()

    EventLog.write = half_a_line
    training.train(recipe, listener=lambda event: mortal.point(event["event"]) and mortal.die())

live_and_die(told, attempt)
"""
)


def kinds(folder: Path) -> dict[str, dict]:
    """Recipes of every kind of run, as mappings, with what they need in a folder."""
    model = tiny.save_model(folder / "model")
    train = str(tiny.write_rows(folder / "train.jsonl", tiny.rows(24, seed=1)))
    held_out = str(tiny.write_rows(folder / "eval.jsonl", tiny.rows(6, seed=2)))
    (folder / "rule.py").write_text(RULE)
    judge = {"judge": {"kind": "rule", "file": str(folder / "rule.py")}}
    base = {
        "model": str(model),
        "data": {"train": train, "eval": held_out, "max_length": 96, "shuffle": 8},
        "lora": {"rank": 2, "alpha": 4.0, "dropout": 0.1},
        "train": {"batch_size": 4, "learning_rate": 1e-2},
        "eval": {"every": 3, "num_prompts": 2, "max_new_tokens": 4},
        "checkpoint": {"every": 2},
    }
    short = {"train": base["train"] | {"max_steps": 4}}
    plain = base | {"chase": None}
    rounds = {"count": 2, "prompts": train, "prompts_per_round": 6, **ANSWERS}
    of_rounds = plain | short | judge | {"data": base["data"] | {"train": []}}
    domains = [
        {"name": name, "train": str(tiny.write_rows(folder / f"{name}.jsonl", rows[:12])),
         "eval": str(tiny.write_rows(folder / f"{name}-test.jsonl", rows[12:]))}
        for name in ("warm", "cold") for rows in [tiny.domain_rows(name, 16, seed=3)]
    ]  # fmt: skip
    several = {key: value for key, value in plain.items() if key != "data"} | {
        "data": {"max_length": 96, "replay_buffer_size": 8}
    }
    sequence = {"domains": domains, "weights": None, "start": "continue", "anchor": "l2_sp"}
    combined = {"domains": domains, "start": "continue", "replay": 0.25, "anchor": "ewc"}
    return {
        "dpo": plain,
        "dpo, two epochs": plain | {"train": base["train"] | {"epochs": 2}},
        "dpo, max_steps": plain | short,
        "fast-slow": base | {"chase": {"swap_every": 2}},
        "fast-slow, beyond its budget": base | TIGHT | {"chase": {"swap_every": 2}},
        "bco": plain | {"objective": {"name": "bco"}},
        "moving reference": plain | {"moving_reference": {"every": 2, "share": 0.5}},
        "delayed labels": base | {"data": base["data"] | {"label_delay": 8}},
        "reward model": plain | {"task": "reward"},
        "filter": plain | judge | {"filter": ANSWERS},
        "replay": base | {"replay": {"memory": [held_out], "share": 0.5}},
        "hypo": plain | {"online_kl": {"weight": 0.5, "num_generations": 2, "max_new_tokens": 4}},
        "online": base | short | judge | {"online": ON_POLICY | {"offline_fraction": 0.5}},
        "online, overlapped": plain | short | judge
        | {"online": ON_POLICY | {"steps_per_generation": 2, "overlap": True}},
        "rloo": plain | short | judge | {"online": ON_POLICY, "objective": {"name": "rloo"}},
        "ppo": plain | short | judge
        | {"online": ON_POLICY | {"num_iterations": 2}, "objective": {"name": "ppo"}},
        "stages": plain | short | {"stages": ["sft", "preferences"]},
        "rounds": of_rounds | {"rounds": rounds},
        "rounds, momentum": of_rounds | {"rounds": rounds | {"momentum": 0.3, "recompress": 2}},
        "domains in sequence": several | {"continual": sequence},
        "domains combined": several | {"continual": combined | {"weights": "learned"}},
        "domains distilled": several | {"continual": combined | {"weights": "distilled"}},
        "domains distilled, beyond their budget": several
        | TIGHT | {"continual": combined | {"weights": "distilled"}},
        "domains routed": several | {"continual": combined | {"weights": "routed"}},
    }  # fmt: skip


def end_state(folder: Path) -> dict[str, object]:
    """Everything that a run leaves but its checkpoints, less what a clock has said and how much
    memory each process has held."""
    state: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or "checkpoints" in parts or path.name == ".lock":
            continue
        if path.name == "summary.json":
            measured = {"wall_s": None, "memory": None}
            state["/".join(parts)] = json.loads(path.read_text()) | measured
        elif path.name == "events.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            state["/".join(parts)] = [line | {"pairs_per_s": None} for line in lines]
        else:
            state["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return state


def attempts(recipe: Path, moments: list[int]) -> tuple[list[list], str]:
    """Exit code, number and label of the last moment of each attempt, until one is finished."""
    told = recipe.with_suffix(".told")
    numbers = "".join(f"{number}\n" for number in moments)
    done = fork_server.run("-c", ATTEMPTS, recipe, told, input=numbers, timeout=900)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def kill_often(folder: Path, name: str, raw: dict, *, kills: int, seed: int) -> dict:
    """Kill runs of a kind so often, each until one is finished, and compare what it leaves."""
    draw, run, path = random.Random(f"{seed}/{name}"), folder / "run", folder / "recipe.yaml"
    path.write_text(dump_recipe(fastslow.load_recipe(raw | {"output_dir": str(run)})))
    ((code, moments, _),), errors = attempts(path, [0])
    assert code == 0, f"{name}: {errors[-2000:]}"
    expected = end_state(run)
    killed, finished, differing = Counter[str](), 0, set[str]()
    while killed.total() < kills:
        shutil.rmtree(run)  # In the same place, as recipes and manifests name their folders.
        left = kills - killed.total()
        numbers = [draw.randint(1, moments) for _ in range(left)]
        ended, errors = attempts(path, [*numbers, moments * 10])
        assert [code for code, *_ in ended] == [-signal.SIGKILL] * (len(ended) - 1) + [0], (
            f"{name}, killed at {numbers}: {ended} {errors[-2000:]}"
        )
        killed.update(label for _, _, label in ended[:-1])
        finished, found = finished + 1, end_state(run)
        keys = expected.keys() | found.keys()
        differing |= {key for key in keys if expected.get(key) != found.get(key)}
    return {
        "moments": moments,
        "kills": killed.total(),
        "killed_at": dict(sorted(killed.items())),
        "finished": finished,
        "differing": sorted(differing),
    }


def kill_every_kind(folder: Path, *, kills: int, seed: int = 0) -> dict[str, dict]:
    """So many kills, spread over the kinds of runs."""
    recipes = kinds(folder)
    shares = [len(range(place, kills, len(recipes))) for place in range(len(recipes))]
    found = {}
    for (name, raw), share in zip(recipes.items(), shares, strict=True):
        own = folder / name.replace(" ", "-").replace(",", "")
        own.mkdir()
        found[name] = kill_often(own, name, raw, kills=share, seed=seed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, required=True)
    given, began = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_every_kind(Path(folder), kills=given.kills, seed=given.seed)
    result = {
        "kills": sum(kind["kills"] for kind in found.values()),
        "seed": given.seed,
        "differing": sum(len(kind["differing"]) for kind in found.values()),
        "seconds": round(time.monotonic() - began),
        "kinds": found,
    }
    given.to.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(bool(result["differing"]))


if __name__ == "__main__":
    main()
