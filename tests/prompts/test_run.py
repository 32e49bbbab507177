"""A whole run with a tiny model: its folder, resumption, what is refused, the command."""

import json
import signal
from pathlib import Path

import pytest
from loopback import chat_reply
from typer.testing import CliRunner

import fastslow
from fastslow.cli.main import app
from fastslow.config import dump_recipe, load_recipe
from fastslow.errors import ConfigError, DataError, StateError, UnreachableError
from fastslow.prompts import PromptSummary, optimise_prompt

RULE = "def score(prompt, answer):\n    return float(sum(map(ord, answer)) % 7)\n"
METHODS = ["zopo", "random", "initial", "resample"]


@pytest.fixture
def made(model_folder, tmp_path):
    """Makes a recipe of a small search; keyword arguments replace keys of `prompts`."""
    rows = [{"prompt": f"Describe the {t}.", "completion": t} for t in ("river", "road", "song")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rule.py").write_text(RULE)
    names = [f"Be {a} and {b}." for a in ("calm", "kind", "dull") for b in ("warm", "cold", "grim")]
    (tmp_path / "list.txt").write_text("\n".join([*names, "Say less.", "Say more.", "Go on."]))

    def make(*overrides, judge={"kind": "rule", "file": str(tmp_path / "rule.py")}, **changes):  # noqa: B006
        prompts = {
            "validation": str(tmp_path / "rows.jsonl"),
            "test": str(tmp_path / "rows.jsonl"),
            "candidates": str(tmp_path / "list.txt"),
            "metric": "judge", "max_validation": 2, "max_new_tokens": 5, "methods": METHODS,
            "budget": 9, "initial": 4, "zopo": {"fitted": 4, "neighbors": 3},
        }  # fmt: skip
        raw = {
            "model": str(model_folder),
            "output_dir": str(tmp_path / "run"),
            "data": {"max_length": 128},
            "judge": judge,
            "prompts": prompts | changes,
        }
        return load_recipe(raw, overrides)

    return make


def stopped_after(count, recipe):
    """A run that is stopped once so many candidates were asked."""
    stop = fastslow.StopToken()

    def watch(event):
        if event["event"] == "evaluation" and event["number"] == count:
            stop.stop()

    assert optimise_prompt(recipe, callback=watch, stop=stop) is None


def lines(folder):
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def test_a_run_asks_each_candidate_once_and_says_what_each_method_found(made, tmp_path):
    events = []
    summary = fastslow.optimise_prompt(made(), callback=events.append)
    assert [*summary.methods] == METHODS and summary.pool == 12
    rows = lines(tmp_path / "run")
    asked = [row["candidate"] for row in rows if row["split"] == "validation"]
    assert len(set(asked)) == len(asked) == summary.evaluated <= 12
    scores = {row["candidate"]: row["score"] for row in rows if row["split"] == "validation"}
    texts = {row["candidate"]: row["instruction"] for row in rows}
    for name, result in summary.methods.items():
        assert result.evaluations == len(set(result.candidates)) == (4 if name == "initial" else 9)
        assert result.candidates[:4] == summary.methods["initial"].candidates
        best = max(result.candidates, key=scores.__getitem__)
        assert (result.instruction, result.validation) == (texts[best], scores[best])
        assert result.candidates[result.found_at - 1] == best
        tested = [r for r in rows if (r["split"], r["instruction"]) == ("test", texts[best])]
        assert [result.test] == [row["score"] for row in tested] and len(tested[0]["answers"]) == 3
    tests = sum(row["split"] == "test" for row in rows)
    assert summary.cost["calls"] == 2 * len(asked) + 3 * tests
    assert summary.cost["completion_tokens"] <= 5 * summary.cost["calls"]
    of_search = [event for event in events if event["event"] == "evaluation"]
    assert len(of_search) == 9 + 9 + 4 + 9 and of_search[0]["number"] == 1
    assert PromptSummary.read(tmp_path / "run" / "summary.json") == summary
    for opened in (fastslow.Run.load, lambda run: fastslow.write_report([run], tmp_path / "p")):
        with pytest.raises(StateError, match="holds an instruction .* and no policy"):
            opened(tmp_path / "run")
    for file in ("evaluations.jsonl", "summary.json", "pool/instructions.jsonl"):
        assert (tmp_path / "run" / file).stat().st_mode & 0o077 == 0, file


def test_an_interrupted_run_asks_nothing_again_and_ends_with_the_same(made, tmp_path):
    whole = optimise_prompt(made())
    rows = lines(tmp_path / "run")

    class Killed(Exception):
        pass

    def kill(event):
        if event["event"] == "evaluation" and event["number"] == 6:
            raise Killed

    again = f"output_dir={tmp_path / 'again'}"
    with pytest.raises(Killed):
        optimise_prompt(made(again), callback=kill)
    log = tmp_path / "again" / "evaluations.jsonl"
    assert len(lines(tmp_path / "again")) == 6 and not (log.parent / "summary.json").exists()
    log.write_text(log.read_text()[:-20])  # As where the disk got a part of the last line.
    assert optimise_prompt(made(again)) == whole
    assert lines(tmp_path / "again") == rows
    log.unlink()  # What is finished is not asked for any more.
    told = []
    assert optimise_prompt(made(again), callback=told.append) == whole
    assert [event["event"] for event in told] == ["already_complete"] and not log.exists()


def test_a_stopped_run_says_so_and_resumes(made, tmp_path):
    stopped_after(3, made())
    assert len(lines(tmp_path / "run")) == 3
    assert optimise_prompt(made()).methods["zopo"].evaluations == 9


def test_ctrl_c_stops_after_the_candidate_that_is_being_asked(made, tmp_path):
    told = []

    def interrupt(event):
        told.append(event)
        if event["event"] == "evaluation" and event["number"] == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    assert optimise_prompt(made(), callback=interrupt) is None
    assert told[-1] == {"event": "stopping", "signal": "SIGINT"}
    assert len(lines(tmp_path / "run")) == 2 and signal.getsignal(signal.SIGINT) is before


def test_a_folder_belongs_to_one_recipe_and_its_inputs(made, tmp_path):
    stop = fastslow.StopToken()
    stop.stop()
    assert optimise_prompt(made("prompts.budget=8"), stop=stop) is None  # It has nothing to lose.
    stopped_after(1, made())
    with pytest.raises(StateError, match="another recipe, which differs in prompts.budget"):
        optimise_prompt(made("prompts.budget=10"))
    with (tmp_path / "list.txt").open("a") as file:
        file.write("\nOne more.\n")
    with pytest.raises(StateError, match="the candidates of the run in .* changed"):
        optimise_prompt(made())


def test_damaged_evaluations_are_named(made, tmp_path):
    stopped_after(1, made())
    log = tmp_path / "run" / "evaluations.jsonl"
    log.write_text('{"split": "validation"}\n')
    with pytest.raises(StateError, match="evaluations.jsonl:1: 'candidate' is missing"):
        optimise_prompt(made())


def test_the_model_writes_the_pool_from_demonstrations(made, loopback, tmp_path):
    written = iter(f"Say {i}." for i in range(100))

    def reply(path, body):
        text = body["messages"][-1]["content"]
        writes = text.endswith("Write the instruction, and nothing else.")
        return 200, chat_reply([next(written) if writes else text.split(".")[0]])

    engine = {"url": loopback(reply).url, "model": "chat"}
    settings = {
        "candidates": None, "demonstrations": str(tmp_path / "rows.jsonl"), "pool": 10,
        "methods": ["zopo"], "metric": "f1", "test": None, "engine": engine,
    }  # fmt: skip
    events = []
    summary = optimise_prompt(made(judge=None, **settings), callback=events.append)
    assert summary.pool == 10 and summary.pool_cost["calls"] == 32
    assert summary.methods["zopo"].test is None
    texts = (tmp_path / "run" / "pool" / "instructions.jsonl").read_text().splitlines()
    assert len(set(texts)) == 10
    (pool,) = [event for event in events if event["event"] == "pool"]
    assert (pool["candidates"], pool["wanted"], pool["budget"]) == (10, 10, 9)
    assert (tmp_path / "run" / "writing.jsonl").stat().st_mode & 0o077 == 0


def test_a_model_that_writes_no_whole_instruction_is_refused(made, tmp_path):
    settings = {
        "candidates": None, "demonstrations": str(tmp_path / "rows.jsonl"), "pool": 10,
        "shown": 1, "max_instruction_tokens": 6, "methods": ["zopo"], "metric": "f1",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"in 64 tries \(\d+ empty, \d\d longer than 6 tokens"):
        optimise_prompt(made("data.max_length=192", judge=None, **settings))


def test_embeddings_depend_on_the_text_and_nothing_is_embedded_where_they_are_given(
    made, tmp_path, monkeypatch
):
    from fastslow.prompts import black_box
    from fastslow.prompts.pool import Pool

    optimise_prompt(made(methods=["initial"]))
    pool = Pool.read(tmp_path / "run" / "pool")
    assert pool.embeddings.shape == (12, 32) and len(pool.embeddings.unique(dim=0)) == 12
    rows = [{"instruction": f"Say {i}.", "embedding": [float(i), 1.0]} for i in range(12)]
    file = tmp_path / "list.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.delattr(black_box.LocalModel, "embed")
    other = made(f"output_dir={tmp_path / 'given'}", candidates=str(file))
    assert optimise_prompt(other).pool == 12


def test_a_server_answers_and_what_it_is_asked_holds_the_instruction(made, loopback, tmp_path):
    def reply(path, body):
        text = body["messages"][-1]["content"]
        right = text.split()[-1].strip(".") if text.startswith("Be kind") else "no"
        return 200, chat_reply([f"The {right}."], prompt_tokens=7, completion_tokens=3)

    server = loopback(reply)
    engine = {"url": server.url, "model": "chat", "retries": 0}
    settings = {"metric": "contains", "engine": engine, "methods": ["zopo"], "budget": 12}
    summary = optimise_prompt(made(judge=None, **settings))
    result = summary.methods["zopo"]
    assert result.instruction.startswith("Be kind") and result.validation == result.test == 1.0
    assert result.evaluations == result.found_at  # At 1 there is nothing more to look for.
    assert summary.cost["calls"] == len(server.requests) == 2 * result.evaluations + 3
    assert summary.cost["prompt_tokens"] == 7 * len(server.requests)
    assert summary.cost["completion_tokens"] == 3 * len(server.requests)
    assert all(body["temperature"] == 0 and body["n"] == 1 for _, _, body in server.requests)


def test_a_server_that_fails_ends_the_run_which_resumes(made, loopback, tmp_path):
    left = [5]

    def reply(path, body):
        left[0] -= 1
        return (200, chat_reply(["no"])) if left[0] >= 0 else (400, {"error": "gone"})

    server = loopback(reply)
    engine = {"url": server.url, "model": "chat", "retries": 0, "max_concurrency": 1}
    settings = {"metric": "contains", "engine": engine, "methods": ["zopo"]}
    with pytest.raises(UnreachableError, match="rerun the command to resume"):
        optimise_prompt(made(judge=None, **settings))
    assert len(lines(tmp_path / "run")) == 2
    left[0] = 1000
    assert optimise_prompt(made(judge=None, **settings)).methods["zopo"].evaluations == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": None}, "needs either candidates, .* or demonstrations"),
        ({"demonstrations": "x.jsonl"}, "needs either candidates, .* or demonstrations"),
        ({"initial": 10}, "prompts.initial: got 10; must not be above prompts.budget"),
        ({"metric": "f1"}, "prompts.metric: judge and the section judge go together"),
        ({"template": "{input}"}, "prompts.template: .*must hold {instruction} once"),
        ({"template": "{instruction}{input}{input}"}, "must hold {input} once"),
        ({"methods": []}, "prompts.methods"),
        ({"methods": ["best"]}, "prompts.methods"),
        ({"target": 1.5}, "prompts.target"),
        ({"max_new_tokens": 128}, "prompts.max_new_tokens: got 128; must be below data.max_length"),
        ({"engine": {"url": "http://x/v1", "model": "m", "folder": "f"}}, "no adapter is written"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(made, changes, message):
    with pytest.raises(ConfigError, match=message):
        made(**changes)


def test_a_recipe_that_trains_is_not_one_of_these(made, recipe, tmp_path):
    with pytest.raises(ConfigError, match="prompts: trains nothing; remove rounds and data.train"):
        made("data.train=x.jsonl", "rounds={}")
    with pytest.raises(ConfigError, match="prompts: trains nothing; remove report_to"):
        made("report_to=tensorboard")
    with pytest.raises(ConfigError, match="prompts: is missing; give a recipe with this section"):
        optimise_prompt(recipe())
    with pytest.raises(ConfigError, match="data.train: is missing"):
        fastslow.train(made())
    with pytest.raises(DataError, match="none.jsonl"):
        optimise_prompt(made(validation="none.jsonl"))
    with pytest.raises(DataError, match="prompts.candidates: none.txt is no file"):
        optimise_prompt(made(candidates="none.txt"))
    with pytest.raises(ConfigError, match="folder ./nowhere does not exist"):
        optimise_prompt(made("model=./nowhere"))


def test_what_does_not_fit_is_refused_and_not_cut(made, tmp_path):
    long = " ".join(["calm"] * 300)
    (tmp_path / "list.txt").write_text(f"Be kind.\n{long}\n")
    with pytest.raises(DataError, match="leave 123 beside an answer of 5; raise data.max_length"):
        optimise_prompt(made())
    with pytest.raises(DataError, match="leave 251 beside"):  # The model's context is 256.
        optimise_prompt(made("data.max_length=4096", f"output_dir={tmp_path / 'more'}"))


def test_the_command_shows_what_is_better_and_a_table(made, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(made()))
    done = CliRunner().invoke(app, ["prompts", str(file)])
    assert done.exit_code == 0, done.output
    assert "the judge is the Python file" in done.stderr and "zopo 1: 0." in done.stderr
    assert "candidates asked: calls" in done.stderr and "the pool has" not in done.stderr
    table = done.stdout.splitlines()
    assert table[0].split()[:3] == ["method", "validation", "test"]
    assert [line.split()[0] for line in table[1:5]] == METHODS
    best = PromptSummary.read(tmp_path / "run" / "summary.json").methods
    assert table[5:] == [f"{name}: {best[name].instruction}" for name in METHODS]
    again = CliRunner().invoke(app, ["prompts", str(file), "--json"])
    assert "holds the finished run" in again.stderr
    assert json.loads(again.stdout)["methods"]["zopo"]["evaluations"] == 9
    assert Path(tmp_path / "run" / "summary.json").exists()


def test_the_command_says_what_became_of_the_pool(capsys):
    from fastslow.cli.prompts import _tell_of_pool

    cost = {"calls": 64, "prompt_tokens": 900, "discarded_empty": 3, "discarded_repeated": 50}
    event = {"event": "pool", "candidates": 11, "wanted": 16, "budget": 165, "cost": cost}
    _tell_of_pool(event)
    said = capsys.readouterr().err
    assert "wrote 11 different instructions of 16 wanted in 64 tries" in said
    assert "discarded: 3 empty, 50 repeated" in said
    assert "warning: the pool has 11 candidates and prompts.budget is 165" in said
