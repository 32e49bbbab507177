"""The compose file of the live server: its command lines parse, and its parts fit each other.

No container is started here: whether the images do what their files say was not tried.
"""

import re
from pathlib import Path, PurePosixPath

import pytest
import typer
import yaml
from sqlalchemy import make_url
from torch.distributed.run import get_args_parser

from fastslow.cli.learn import DEFAULTS
from fastslow.cli.main import app
from fastslow.cli.serve import SECRET
from fastslow.config import load_recipe
from fastslow.live.settings import check_live
from fastslow.serve import Settings
from fastslow.serve.app import make_app
from fastslow.serve.engine.opening import KEY, EngineChoice
from fastslow.serve.live import Live
from fastslow.serve.workers import Serving

ROOT = Path(__file__).parents[2]
HOME = ROOT / "launch" / "live"
IMAGE = (ROOT / "launch" / "docker" / "Dockerfile").read_text()
OURS = ("web", "learner")
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*)|(:\?))?\}")
READ = {"PGPASSWORD", KEY, SECRET, "HF_HUB_OFFLINE"}
"""Environment variables that fastslow or its libraries read."""


def given():
    """The variables that the example of `.env` names, with what it gives."""
    lines = (HOME / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def compose():
    """The file with its variables filled in, as Compose does; needed ones by their names."""
    text = (HOME / "compose.yaml").read_text()

    def value(found):
        name, default, needed = found.groups()
        assert name in given() and (default is not None or needed), found[0]
        assert needed or given()[name] == default, f"{name} has two defaults"
        return default if needed is None else f"<{name}>"

    return yaml.safe_load(VARIABLE.sub(value, text))


@pytest.fixture
def services(compose):
    return compose["services"]


def options(words):
    """A command's `--name=value` words."""
    return dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)


def parsed(words):
    """The verb of the real command line, and the values that it would be called with."""
    group = typer.main.get_command(app)
    verb, *rest = words
    command = group.commands[verb]
    with command.make_context(verb, list(rest)) as context:
        return verb, context.params


def mounts(service):
    """Where something is mounted, and whether it can only be read."""
    found = {}
    for one in service.get("volumes", ()):
        if isinstance(one, dict):
            found[one["target"]] = one["source"], one.get("read_only", False)
        else:
            source, target, *mode = one.split(":")
            found[target] = source, mode == ["ro"]
    return found


def test_every_command_line_parses(services):
    verb, asked = parsed(services["web"]["command"])
    assert verb == "serve" and asked["workers"] == 4 and asked["host"] == "0.0.0.0"
    answers = EngineChoice(asked["overrides"] or [], asked["adapter"] or [], asked["engine"])
    serving = Serving(asked["folder"], Settings(), answers, asked["prompts"], asked["store"])
    serving.check_workers(asked["workers"])
    verb, learned = parsed(services["learner"]["command"])
    assert verb == "learn" and learned["store"] == asked["store"]
    assert learned["folder"] == asked["folder"]
    check_live(load_recipe(DEFAULTS, list(learned["overrides"])))


def test_torchrun_is_asked_for_the_learner(services):
    start = [*services["learner"]["entrypoint"], *services["learner"]["command"]]
    assert start[0] == "torchrun"
    asked = get_args_parser().parse_args(start[1:])
    assert asked.module and asked.training_script == "fastslow" and asked.nproc_per_node == "1"
    assert asked.training_script_args == services["learner"]["command"]


def test_the_engine_takes_what_is_learned(services):
    said, recipe = options(services["engine"]["command"]), None
    overrides = [word for word in services["learner"]["command"] if re.match(r"[\w.]+=", word)]
    recipe = load_recipe(DEFAULTS, overrides)
    assert int(said["max-lora-rank"]) >= recipe.lora.rank
    assert "--enable-lora" in services["engine"]["command"]
    assert services["engine"]["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert recipe.model == services["engine"]["command"][0], "they have the same base"
    live = [mounts(services[name])["/live"] for name in ("web", "learner", "engine")]
    assert live == [("live", False), ("live", False), ("live", True)]


def test_addresses_ports_and_databases_agree(services):
    asked = options(services["web"]["command"])
    engine = re.fullmatch(r"http://(\w+):(\d+)/v1", asked["engine"])
    assert engine[1] in services
    said = options(services["engine"]["command"])
    assert (said["host"], said["port"]) == ("0.0.0.0", engine[2])
    url, of = make_url(asked["store"]), services["postgres"]["environment"]
    assert url.host in services and url.password is None
    assert (url.username, url.database) == (of["POSTGRES_USER"], of["POSTGRES_DB"])
    for name in OURS:
        assert services[name]["environment"]["PGPASSWORD"] == of["POSTGRES_PASSWORD"]
    assert services["web"]["environment"][KEY] == services["engine"]["environment"]["VLLM_API_KEY"]
    assert [name for name in services if "ports" in services[name]] == ["web"]
    (published,) = services["web"]["ports"]
    assert published == f"127.0.0.1:8000:{asked['port']}"


def test_every_path_is_mounted_and_every_variable_is_read(services):
    for name, service in services.items():
        there = [*mounts(service), *(one.split(":")[0] for one in service.get("tmpfs", ()))]
        words = [*service.get("entrypoint", ()), *service.get("command", ())]
        paths = [word.split("=")[-1] for word in words if re.match(r"(--[\w-]+=|\w+=)?/", word)]
        for path in paths:
            above = {str(one) for one in (PurePosixPath(path), *PurePosixPath(path).parents)}
            assert above & set(there), f"{name} has no {path}"
        if name in OURS:
            assert set(service["environment"]) <= READ, name
    used = set(VARIABLE.findall((HOME / "compose.yaml").read_text()))
    assert {name for name, *_ in used} == set(given())


def test_what_is_waited_for_can_be_waited_for(compose, services):
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"} and "healthcheck" in services[other]
        assert set(service["networks"]) <= set(compose["networks"])
        named = {source for source, _ in mounts(service).values() if source[0] not in "./<"}
        assert named <= set(compose["volumes"]), name
        check = service.get("healthcheck", {"test": ["CMD"]})["test"]
        if "-c" in check:
            compile(check[-1], name, "exec")
            port = options(service["command"])["port"]
            assert f"http://127.0.0.1:{port}/" in check[-1]
    assert "healthz" in services["web"]["healthcheck"]["test"][-1]
    assert compose["networks"]["inside"] == {"internal": True}
    assert [name for name in services if "outside" in services[name]["networks"]] == ["web"]


def test_the_health_check_needs_no_token(tmp_path):
    from fastapi.testclient import TestClient

    from fastslow.feedback import Store

    with Store(tmp_path) as store:
        client = TestClient(make_app(Live(store, Settings())), base_url="http://127.0.0.1:8000")
        assert client.get("/healthz").status_code == 200


def test_nobody_is_root_or_writes_where_nothing_is_mounted(services):
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in ("0", "root"), name
        assert "privileged" not in service and "cap_add" not in service


def test_the_image_is_the_one_that_is_run_alone_too(services):
    for name in OURS:
        build = services[name]["build"]
        assert (HOME / build["context"]).resolve() == ROOT
        assert build["dockerfile"] == "launch/docker/Dockerfile"
        assert set(build["args"]) <= set(re.findall(r"^ARG (\w+)", IMAGE, re.M))
        assert f"\nUSER {services[name]['user']}\n" in IMAGE
    assert "/live" in IMAGE and services["web"].get("entrypoint") is None


def test_an_engine_of_the_version_that_is_tested_is_run(services):
    (version,) = re.findall(r"^VLLM_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert services["engine"]["image"] == f"vllm/vllm-openai:v{version}"
