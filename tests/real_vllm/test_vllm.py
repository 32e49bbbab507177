"""A real vLLM: its tokens and log-probs are ours, and nothing is left behind in it.

`make test-vllm` installs its build for CPUs into an environment of its own and runs this.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import asking
import pytest
import torch

import fastslow
from fastslow import load_recipe, training
from fastslow.adapters import Factors, load_base, load_tokenizer
from fastslow.config import OnlineConfig
from fastslow.config.sampling import NEUTRAL
from fastslow.errors import RefusedError, StateError
from fastslow.records import Prompt
from fastslow.sampling import Engine
from fastslow.serve.engine.remote import RemoteEngine
from fastslow.serve.engine.requests import BASE, whole
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.on_policy.generation import generate_with_engine, with_logps
from fastslow.training.policies.loading import SharedBase, make_encoder, open_policies

VLLM = os.environ.get("FASTSLOW_VLLM")
"""The Python of an environment with vLLM."""
MODEL = Path(__file__).parents[3] / "shared" / "models" / "base-6m"
RULE = "def score(prompt, answer):\n    return answer.count('you') - 0.01 * len(answer)\n"
ASKED = [
    "Tell me about the sea.", "How do I bake bread?", "What is a good name for a cat?",
    "Why is the sky blue?", "Write a line of a song.", "What should I read next?",
    "Where does the river go?", "Say something kind.",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    VLLM is None or not MODEL.is_dir(), reason="needs FASTSLOW_VLLM and the shared model"
)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """URL of a vLLM that holds the model."""
    port, log = free_port(), tmp_path_factory.mktemp("vllm") / "log"
    libraries = sorted(Path(VLLM).parents[1].glob("lib/libiomp5.so"))
    environment = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "LD_PRELOAD": ":".join(map(str, libraries)),
    }  # fmt: skip
    command = [
        VLLM, "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL),
        "--served-model-name", "base", "--enable-lora", "--max-lora-rank", "32", "--max-loras", "2",
        "--enforce-eager", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}/v1"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        ends = time.monotonic() + 300
        while not names(url, quiet=True):
            assert process.poll() is None and time.monotonic() < ends, log.read_text()[-3000:]
            time.sleep(1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def names(url, quiet=False):
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5) as reply:
            return [model["id"] for model in json.load(reply)["data"]]
    except OSError:
        assert quiet
        return []


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A random adapter that changes answers a good deal."""
    return random_adapter(tmp_path_factory.mktemp("adapter") / "a", rank=8)


def random_adapter(folder, *, rank, seed=0):
    base, generator, layers = load_base(str(MODEL)), torch.Generator().manual_seed(seed), {}
    for name, part in base.named_modules():
        if name.endswith(("q_proj", "down_proj")):
            out, width = part.weight.shape
            down = torch.randn(rank, width, generator=generator) / width**0.5
            layers[name] = (down, 0.3 * torch.randn(out, rank, generator=generator))
    Factors(layers, ("q_proj", "down_proj")).write(folder)
    return folder


def engine_at(url, **changes):
    settings = {
        "url": url, "model": "base", "plain": False, "max_concurrency": 4, "timeout_s": 60.0,
        "api_key_env": "NONE", "retries": 0, "extra_body": NEUTRAL,
    }  # fmt: skip
    return Engine(**settings | changes)


def test_its_tokens_and_log_probs_are_those_of_our_own_scoring(server, adapter):
    recipe = load_recipe({"model": str(MODEL), "data": {"max_length": 256}})
    tokenizer = load_tokenizer(str(MODEL))
    encoder = make_encoder(recipe, tokenizer)
    policies = open_policies(recipe, {"a": adapter}, tokenizer, SharedBase(ProcessGroup("cpu")))
    config = OnlineConfig(num_generations=3, max_new_tokens=24)
    prompts = [Prompt(text, source=f"p:{place}") for place, text in enumerate(ASKED)]
    engine = engine_at(server)
    engine.load("ours", adapter, rank=8)
    try:
        groups = generate_with_engine(engine, encoder, config, prompts, seed=5, logps=True)
        wholly = engine.generate(
            ASKED, count=1, temperature=0.0, top_p=1.0, max_new_tokens=24, seed=0
        )
    finally:
        engine.unload()
    scored = with_logps(policies, "a", groups, temperature=1.0)
    for told, ours in zip(groups, scored, strict=True):
        assert told.logps == pytest.approx(ours.logps, abs=1e-3)
    greedy = policies.generate(
        "a", [encoder.prompt_ids(text, room=24) for text in ASKED],
        end_ids=sorted(encoder.end_ids), max_new_tokens=24, seed=0, temperature=1e-4,
        top_p=1.0, num_generations=1,
    )  # fmt: skip
    same = [
        theirs[0].tokens == tuple(ours[0].tokens)
        for theirs, ours in zip(wholly, greedy, strict=True)
    ]
    assert all(same)


def test_a_run_that_samples_there_meanwhile_leaves_nothing_behind(server, tmp_path):
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)
    rows = tmp_path / "prompts.jsonl"
    rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ASKED * 2))
    recipe = load_recipe(
        {
            "model": str(MODEL),
            "output_dir": str(tmp_path / "run"),
            "data": {"train": str(rows), "max_length": 256},
            "objective": {"name": "rloo"},
            "train": {"batch_size": 4, "learning_rate": 1e-3},
            "lora": {"rank": 8},
            "budget": None,
            "judge": {"kind": "rule", "file": str(rule)},
            "online": {
                "num_generations": 3, "max_new_tokens": 24, "overlap": True,
                "engine": {"url": server, "model": "base", "retries": 0},
            },
        }
    )  # fmt: skip
    summary = training.train(recipe)
    assert summary.steps == 4 and summary.data["answers"] == 48
    assert names(server) == ["base"]
    run = fastslow.Run.load(tmp_path / "run")
    assert run.status == "complete"


def test_an_adapter_of_too_large_a_rank_is_refused_with_what_is_needed(server, tmp_path):
    large = random_adapter(tmp_path / "large", rank=48)
    with pytest.raises(RefusedError, match=r"rank 48 .*--max-lora-rank 64 or more"):
        engine_at(server, retries=3).load("large", large, rank=48)
    engine = RemoteEngine(server)
    with pytest.raises(StateError, match="rank 48"):
        engine.load("large", large)
    engine.close()
    assert names(server) == ["base"]


def test_a_server_answers_through_it_piece_by_piece(server, adapter):
    engine = RemoteEngine(server)
    engine.load("town-abc", adapter)
    assert list(engine.models) == [BASE, "town-abc"] and names(server) == ["base", "town-abc"]
    _, got = asking.begin(engine, ASKED[0], model="town-abc", count=2, seed=3, max_tokens=16)
    pieces = asking.pieces_of(got, 2)
    answers = whole(pieces, 2)
    assert len(pieces) > 4 and all(one.finish in ("stop", "length") for one in answers)
    for one in answers:
        assert 0 < len(one.token_ids) <= 16 and len(one.logps) == len(one.token_ids)
        assert "".join(map(engine.token_text, one.token_ids)).startswith(one.text[:3])
    assert max(piece.prompt_tokens for piece in pieces) > 0
    request, got = asking.begin(engine, ASKED[1], max_tokens=400)
    got.get(timeout=60)
    request.cancel()
    assert asking.pieces_of(got, 1)[-1].finish == "cancelled"
    engine.unload("town-abc")
    assert names(server) == ["base"]
    engine.close()
