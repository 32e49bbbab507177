"""AlpacaEval, MT-Bench, Arena-Hard and RewardBench: files of their formats, written and read."""

import json
import os
import re
from pathlib import Path

import pytest
import tiny
import yaml

import fastslow as fs
from fastslow.errors import ConfigError, DataError, StateError

TABLE = Path(__file__).parent / "alpaca_eval_leaderboard.csv"
"""Of AlpacaEval 0.6.6 itself."""
FINDS = f"""
import os
out = Path(next(a for a in sys.argv if a.startswith("--output_path=")).split("=")[1])
out.mkdir()
(out / "leaderboard.csv").write_text(Path({str(TABLE)!r}).read_text())
Path(sys.argv[0]).with_name("server").write_text(
    os.environ.get("OPENAI_API_BASE", "") + " " + os.environ.get("OPENAI_API_KEYS", ""))
"""
JUDGE = {"kind": "llm", "url": "http://127.0.0.1:9/v1", "model": "m-instruct",
         "api_key_env": "THE_KEY"}  # fmt: skip


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


def lines(path):
    return list(map(json.loads, Path(path).read_bytes().splitlines()))


@pytest.fixture
def references(tmp_path):
    rows = [{"instruction": row["chosen"], "output": "Well.", "dataset": "d"}
            for row in tiny.domain_rows("warm", 4)]  # fmt: skip
    return write(tmp_path / "references.json", rows)


def test_alpaca_eval_compares_our_answers_with_the_references(run, stub, references, monkeypatch):
    monkeypatch.setenv("THE_KEY", "secret")
    python, seen = stub(FINDS)
    found = fs.evaluate_with(
        run, "alpaca-eval", data=references, judge=JUDGE, max_new_tokens=6, limit=3, python=python,
        temperature=0, arguments=["--max_instances=2"],
    )  # fmt: skip
    outputs = json.loads((found.folder / "model_outputs.json").read_text())
    asked = [row["instruction"] for row in json.loads(references.read_text())][:3]
    assert [row["instruction"] for row in outputs] == asked
    answers = run.generate(asked, temperature=0, max_new_tokens=6)
    assert [row["output"] for row in outputs] == [text for (text,) in answers]
    assert {row["generator"] for row in outputs} == {"run-policy"} and "dataset" in outputs[0]
    theirs = json.loads((found.folder / "reference_outputs.json").read_text())
    assert len(theirs) == 3 and {row["generator"] for row in theirs} == {"reference"}
    values = {score.metric: (score.value, score.stderr) for score in found.result.scores}
    assert values["win_rate"] == pytest.approx((70.7554, 17.8372), abs=1e-3)
    assert "length_controlled_winrate" not in values
    # The key goes to the tool alone: it stands in no file.
    assert (Path(python).with_name("server")).read_text() == "http://127.0.0.1:9/v1 secret"
    written = "".join(path.read_text() for path in found.folder.rglob("*") if path.is_file())
    assert "secret" not in written and "secret" not in seen.read_text()
    assert seen.read_text().endswith("--max_instances=2")


def test_a_judge_of_ones_own_is_asked_as_a_chat_model_in_the_way_of_alpaca_eval_2(
    run, stub, references
):
    found = fs.evaluate_with(
        run, "alpaca-eval", data=references, judge=JUDGE, max_new_tokens=2, python=stub(FINDS)[0]
    )
    config = yaml.safe_load((found.folder / "judge" / "configs.yaml").read_text())["judge"]
    asked = config["completions_kwargs"]
    # AlpacaEval would take a model with "instruct" in its name for one without a chat.
    assert asked["model_name"] == "m-instruct" and asked["requires_chatml"] and asked["is_chat"]
    assert config["fn_completion_parser"] == "logprob_parser"


def test_what_was_found_stays_until_there_is_something_in_its_place(run, stub, references):
    def evaluate(work, **options):
        asked = {"data": references, "max_new_tokens": 2, "python": stub(work)[0]} | options
        return fs.evaluate_with(run, "alpaca-eval", **asked)

    folder = evaluate(FINDS).folder
    (folder / "results" / "annotations.json").write_text("[]")
    with pytest.raises(ConfigError, match="give one file with --data"):
        evaluate(FINDS, data=None)
    assert (folder / "results" / "annotations.json").exists(), "nothing was begun"
    earlier = folder.with_name("policy.earlier")
    for python in ({}, {"python": "no-such-python"}):
        with pytest.raises((StateError, ConfigError)) as failed:
            evaluate("sys.exit(3)", **python)
        assert f"what the call before left is in {earlier}" in str(failed.value)
        assert (folder / "model_outputs.json").exists() and not (folder / "results").exists()
        assert (earlier / "results" / "annotations.json").exists(), "also after a second failure"
    evaluate(FINDS)
    assert not earlier.exists()


def test_without_a_judge_alpaca_eval_asks_its_own(run, stub, references):
    python, seen = stub(FINDS)
    fs.evaluate_with(run, "alpaca-eval", data=references, max_new_tokens=2, python=python)
    given = seen.read_text()
    assert "annotators_config" not in given and "fn_metric" not in given


QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Describe the river.", "Again."]},
    {"question_id": 101, "category": "math", "turns": ["Describe the song.", "And the road."]},
]


@pytest.fixture
def mt_bench(run, tmp_path):
    """Answers to MT-Bench questions, their folder."""
    data = tmp_path / "question.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return fs.evaluate_with(run, "mt-bench", data=data, max_new_tokens=4)


def test_mt_bench_answers_have_two_turns_of_which_the_second_knows_the_first(run, mt_bench):
    assert mt_bench.result is None and "gen_judgment.py --model-list run-policy" in mt_bench.by_hand
    rows = lines(mt_bench.folder / "data/mt_bench/model_answer/run-policy.jsonl")
    assert [row["question_id"] for row in rows] == [81, 101]
    assert {row["model_id"] for row in rows} == {"run-policy"}
    (first, second) = rows[1]["choices"][0]["turns"]
    said = [{"role": "user", "content": "Describe the song."}]
    assert [[first]] == run.generate([said], temperature=0, max_new_tokens=4)
    said += [{"role": "assistant", "content": first}, {"role": "user", "content": "And the road."}]
    assert [[second]] == run.generate([said], temperature=0, max_new_tokens=4)


def judged(folder, *grades, model="run-policy"):
    """Judgements of FastChat: score and turn of each."""
    path = folder / "data/mt_bench/model_judgment/gpt-4_single.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        for score, turn in grades:
            row = {"question_id": 81, "model": model, "judge": ["gpt-4", "single-v1"],
                   "judgment": f"[[{score}]]", "score": score, "turn": turn}  # fmt: skip
            file.write(json.dumps(row) + "\n")


def test_mt_bench_grades_are_read_of_the_run_alone_and_without_failures(run, mt_bench):
    judged(mt_bench.folder, (4, 1), (2, 2), (7, 1), (-1, 2))
    judged(mt_bench.folder, (10, 1), model="gpt-3.5-turbo")
    found = fs.evaluate_with(run, "mt-bench", read=True).result
    grades = {score.task: (score.value, score.count) for score in found.scores}
    assert grades["mt_bench turn 1"] == (5.5, 2) and grades["mt_bench turn 2"] == (2, 1)
    assert grades["mt_bench"] == grades["mt_bench writing"] == (pytest.approx(13 / 3), 3)
    assert found.version is None


def test_judgements_made_by_hand_are_not_overwritten(run, mt_bench, tmp_path):
    judged(mt_bench.folder, (4, 1))
    with pytest.raises(ConfigError, match="holds judgements; read them with --read"):
        fs.evaluate_with(run, "mt-bench", data=tmp_path / "question.jsonl", max_new_tokens=4)


def test_answers_that_are_judged_elsewhere_stay_where_new_ones_cannot_be_written(run, mt_bench):
    with pytest.raises(ConfigError, match="--data"):
        fs.evaluate_with(run, "mt-bench", max_new_tokens=4)
    assert (mt_bench.folder / "data/mt_bench/model_answer/run-policy.jsonl").exists()
    assert os.listdir(mt_bench.folder.parent) == ["policy"]


def test_before_the_judge_there_is_nothing_to_read(run, mt_bench):
    with pytest.raises(StateError, match="mt-bench has left no results"):
        fs.evaluate_with(run, "mt-bench", read=True)


@pytest.fixture
def arena(run, tmp_path):
    data = tmp_path / "question.jsonl"
    rows = [{"uid": f"u{i}", "category": "hard_prompt", "prompt": f"Describe the {thing}."}
            for i, thing in enumerate(tiny.THINGS[:3])]  # fmt: skip
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return fs.evaluate_with(run, "arena-hard", data=data, max_new_tokens=4)


def test_arena_hard_answers_are_greedy_and_in_its_format(run, arena):
    rows = lines(arena.folder / "data/arena-hard-v2.0/model_answer/run-policy.jsonl")
    assert [row["uid"] for row in rows] == ["u0", "u1", "u2"]
    for row in rows:
        asked, answer = row["messages"]
        ((own,),) = run.generate([[asked]], temperature=0, max_new_tokens=4)
        assert answer == {"role": "assistant", "content": {"answer": own}}


def arena_judgement(arena, uid, first, second):
    path = arena.folder / "data/arena-hard-v2.0/model_judgment/gpt-4.1/run-policy.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    games = [None if verdict is None else {"score": verdict} for verdict in (first, second)]
    row = {"uid": uid, "category": "hard_prompt", "model": "run-policy", "games": games}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_arena_hard_verdicts_count_from_both_places(run, arena):
    # In the first game the baseline stands first, in the second the model.
    arena_judgement(arena, "u0", "B>A", "A>>B")  # Won once, and three times over.
    arena_judgement(arena, "u1", "A>>B", "A=B")  # Lost three times over, and half.
    arena_judgement(arena, "u2", None, "A>B")  # No verdict in one game.
    (score,) = fs.evaluate_with(run, "arena-hard", read=True).result.scores
    assert score.task == "arena_hard hard_prompt" and score.count == 2
    assert score.value == pytest.approx(100 * 4.5 / 8)


def test_an_unknown_verdict_is_an_error_that_names_the_line(run, arena):
    arena_judgement(arena, "u0", "A", "B")
    with pytest.raises(StateError, match=re.escape("run-policy.jsonl:1: not a judgement")):
        fs.evaluate_with(run, "arena-hard", read=True)


def test_reward_bench_prefers_as_the_margins_do(run, tmp_path):
    subsets = ("mt-bench-easy", "donotanswer") * 6
    pairs = zip(tiny.domain_rows("warm", 12, seed=4), subsets, strict=True)
    rows = [pair | {"id": i, "subset": subset} for i, (pair, subset) in enumerate(pairs)]
    data = write(tmp_path / "filtered.json", rows)
    found = fs.evaluate_with(run, "rewardbench", data=data)
    right = [score.margin > 0 for score in run.score(rows)]
    values = {score.task.strip(): score.value for score in found.result.scores}
    assert values["all rows"] == pytest.approx(sum(right) / 12)
    assert values["Chat"] == values["mt-bench-easy"] == pytest.approx(sum(right[::2]) / 6)
    assert values["Safety"] == pytest.approx(sum(right[1::2]) / 6)
    assert "mean of the sections" not in values  # Two of four are there.
    assert [row["results"] for row in lines(found.folder / "outputs.jsonl")] == right


def test_lines_of_questions_end_as_those_of_files_and_not_within_a_text(run, tmp_path):
    data = tmp_path / "rows.jsonl"
    rows = [pair | {"subset": "donotanswer\u2028"} for pair in tiny.domain_rows("warm", 3, seed=4)]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    data.write_bytes(text.encode("utf-8-sig"))
    found = fs.evaluate_with(run, "rewardbench", data=data)
    assert len(lines(found.folder / "outputs.jsonl")) == 3


@pytest.mark.parametrize(
    ("tool", "content", "message"),
    [
        ("alpaca-eval", "[{}]", "'instruction' is null"),
        ("mt-bench", '{"question_id": 1}', "'category' is null"),
        ("arena-hard", "[]", "holds no questions"),
        ("arena-hard", "no JSON", "neither JSON nor"),
        ("rewardbench", "[1]", "the row is a whole number"),
    ],
)
def test_files_of_another_format_are_refused(run, tmp_path, tool, content, message):
    data = tmp_path / "data.json"
    data.write_text(content)
    with pytest.raises(DataError, match=message):
        fs.evaluate_with(run, tool, data=data)


def test_what_lacks_is_said(run, references):
    with pytest.raises(ConfigError, match="give one file with --data: reference answers"):
        fs.evaluate_with(run, "alpaca-eval", max_new_tokens=4)
    with pytest.raises(ConfigError, match="does not exist"):
        fs.evaluate_with(run, "mt-bench", data="nowhere.jsonl", max_new_tokens=4)
    with pytest.raises(ConfigError, match="give the longest answer in tokens"):
        fs.evaluate_with(run, "alpaca-eval", data=references)
    with pytest.raises(ConfigError, match="judge: must be a language model"):
        judge = {"kind": "world", "file": os.devnull}
        fs.evaluate_with(run, "alpaca-eval", data=references, judge=judge, max_new_tokens=4)


def test_answers_may_be_longer_than_in_training(run, references, stub):
    with pytest.raises(ConfigError, match="leave no room for a prompt in max_length = 96"):
        fs.evaluate_with(run, "alpaca-eval", data=references, max_new_tokens=120)
    with pytest.raises(ConfigError, match="max_length: got 5000; .* reads at most 256 tokens"):
        fs.Run.load(run.folder, max_length=5000).generate(["Hello."])
    longer = fs.Run.load(run.folder, max_length=200)
    python, _ = stub(FINDS)
    found = fs.evaluate_with(
        longer, "alpaca-eval", data=references, max_new_tokens=120, python=python
    )
    assert found.result.scores


def test_a_file_of_questions_may_be_larger_than_a_recipe(run, tmp_path):
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "s", "more": "m" * (17 << 20)}
    data = write(tmp_path / "rows.json", [row])
    assert fs.evaluate_with(run, "rewardbench", data=data).result.scores
