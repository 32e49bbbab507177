"""What a folder's config.yaml names is neither run nor asked, by any way to open the folder."""

import json
import shutil

import pytest
import tiny

import fastslow as fs
from fastslow.errors import ConfigError
from fastslow.streams.sources.file import folder_fingerprint

EVIL = """
from pathlib import Path
Path({mark!r}).write_text("ran")
from dataclasses import dataclass
from fastslow.objectives import Objective, ObjectiveOutput

def score(prompt, answer):
    return 1.0

@dataclass(frozen=True, kw_only=True)
class Mine(Objective):
    def __call__(self, logps):
        return ObjectiveOutput(-logps.delta, logps.delta, logps.delta)
"""
MODEL = """
from pathlib import Path
Path({mark!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM

class EvilConfig(LlamaConfig):
    model_type = "evil"

class EvilLM(LlamaForCausalLM):
    config_class = EvilConfig
"""
RULE = {"kind": "rule", "file": "evil.py"}
ROUTES = {
    "eval": lambda folder, to: ("eval", folder, "--max-pairs", 4, "--num-prompts", 2),
    "eval of other pairs": lambda folder, to: ("eval", folder, "--data", to.parent / "rows.jsonl"),
    "sample": lambda folder, to: ("sample", folder, "Hi", "--max-new-tokens", 2),
    "export": lambda folder, to: ("export", folder, "--to", to),
    "export merged": lambda folder, to: ("export", folder, "--to", to, "--merged"),
    "combine uniform": lambda folder, to: (
        *("combine", folder, "--to", to, "--weights", "uniform", "--budget", "inf"),
    ),
    "combine learned": lambda folder, to: ("combine", folder, "--to", to, "--weights", "learned"),
    "combine routed": lambda folder, to: ("combine", folder, "--to", to, "--weights", "routed"),
    "report": lambda folder, to: ("report", folder, "--to", to),
}
NEEDS_OBJECTIVE = ("eval", "eval of other pairs", "combine learned", "combine routed")

NEEDS_MODEL = (*NEEDS_OBJECTIVE, "sample", "export merged")


@pytest.fixture
def evil(foreign, tmp_path, model_folder, monkeypatch):
    """Makes a run folder that names code of a kind, and the file that appears when it runs."""
    monkeypatch.chdir(tmp_path)

    def make(kind):
        mark = tmp_path / "ran"
        (tmp_path / "evil.py").write_text(EVIL.format(mark=str(mark)))
        tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows(4, seed=3))
        if kind == "judge":
            return foreign(eval={"judge": RULE}), mark
        if kind == "judge of training":
            online = {"max_new_tokens": 4, "num_generations": 2}
            return foreign(judge=RULE, online=online), mark
        if kind == "member of an ensemble":
            members = [{"kind": "world", "file": "none.json"}, RULE]
            return foreign(eval={"judge": {"kind": "ensemble", "members": members}}), mark
        if kind == "objective":
            return foreign(objective={"name": "Mine", "file": "evil.py", "beta": None}), mark
        folder = tmp_path / "model"
        shutil.copytree(model_folder, folder)
        (folder / "modeling_evil.py").write_text(MODEL.format(mark=str(mark)))
        config = json.loads((folder / "config.json").read_text())
        own = {"AutoConfig": "EvilConfig", "AutoModelForCausalLM": "EvilLM"}
        config |= {
            "model_type": "evil",
            "architectures": ["EvilLM"],
            "auto_map": {key: f"modeling_evil.{value}" for key, value in own.items()},
        }
        (folder / "config.json").write_text(json.dumps(config))
        run = foreign(model=str(folder), trust_remote_code=True)
        # Whoever names a model can name its fingerprint too.
        inputs = json.loads((run / "inputs.json").read_text())
        inputs["model"] = folder_fingerprint(str(folder))
        (run / "inputs.json").write_text(json.dumps(inputs))
        return run, mark

    return make


KINDS = (
    "judge", "judge of training", "member of an ensemble", "objective", "the model's own code",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_folder_names_is_run(evil, cli, tmp_path, kind):
    folder, mark = evil(kind)
    for number, (route, command) in enumerate(ROUTES.items()):
        code, out, err = cli(*command(folder, tmp_path / str(number)))
        assert not mark.exists(), route
        assert code in (0, 2) and "Traceback" not in err, f"{route}: {err}"
        if kind == "the model's own code":
            assert (code == 2) == (route in NEEDS_MODEL), f"{route}: {err}"
            assert ("--trust-code" in err) == (code == 2)
        if kind == "objective":
            assert (code == 2) == (route in NEEDS_OBJECTIVE), f"{route}: {err}"
            assert ("--trust-code" in err) == (code == 2)
        if "judge" in kind and "eval" in route:
            assert code == 0 and "judge is not asked" in err and "evil.py" in err


def test_nor_by_the_python_api(evil):
    folder, mark = evil("judge")
    run = fs.Run.load(folder)
    run.generate(["Hi"], max_new_tokens=2)
    run.score(tiny.rows(2))
    with pytest.warns(UserWarning, match="evil.py"):
        assert run.evaluate(tiny.rows(4)).reward is None
    assert run.recipe.judge is None and not mark.exists()
    assert run.evaluate(tiny.rows(4), judge=lambda prompt, answer: 0.5).reward == 0.5


def test_a_folder_that_is_trusted_runs_its_own(evil, cli):
    folder, mark = evil("judge")
    code, out, err = cli("eval", folder, "--num-prompts", 2, "--trust-code", "--json")
    assert code == 0 and json.loads(out)["reward"] == 1.0 and mark.exists()
    assert "the judge is the Python file evil.py" in err


def test_an_objective_of_a_trusted_folder_measures(evil, tmp_path):
    folder, mark = evil("objective")
    with pytest.raises(ConfigError, match="Mine is defined in the Python file .*--trust-code"):
        fs.Run.load(folder).evaluate(tiny.rows(4))
    assert not mark.exists()


def test_a_judge_that_the_user_names_is_asked(foreign, cli, tmp_path):
    rule = tmp_path / "rule.py"
    rule.write_text("def score(prompt, answer): return 7.0\n")
    arguments = ("--judge", f"{{kind: rule, file: {rule}}}", "--json")
    code, out, err = cli("eval", foreign(), "--num-prompts", 2, *arguments)
    assert code == 0 and json.loads(out)["reward"] == 7.0, err
    code, _, err = cli("eval", foreign("other"), "--judge", "{kind: rule, fil: x}")
    assert code == 2 and "eval.judge.fil" in err


def test_no_variable_is_sent_to_a_server_that_a_folder_names(foreign, cli, loopback, monkeypatch):
    monkeypatch.setenv("SECRET_OF_MINE", "sesame")
    reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "A"}}]}
    server = loopback(lambda path, body: (200, reply))
    judge = {"kind": "llm", "url": server.url, "model": "m", "api_key_env": "SECRET_OF_MINE"}
    folder = foreign(eval={"judge": judge | {"retries": 0}})
    code, _, err = cli("eval", folder, "--num-prompts", 2)
    assert code == 0 and server.requests == []
    assert server.url in err and "$SECRET_OF_MINE" in err and "sesame" not in err
    code, _, err = cli("eval", folder, "--num-prompts", 2, "--trust-code")
    assert server.requests[0][1] == "Bearer sesame"
    assert f"the judge is the server at {server.url} with the key in $SECRET_OF_MINE" in err
