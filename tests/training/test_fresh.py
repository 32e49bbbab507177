"""Fresh answers in every step: whose they are, how old, what is learned, going on after a stop."""

from itertools import chain
from statistics import fmean

import pytest
import tiny
from tiers import fast
from tiny import components
from typer.testing import CliRunner

import fastslow
from fastslow import training
from fastslow.cli.main import app
from fastslow.config import ObjectiveConfig
from fastslow.errors import ConfigError, JudgeError, StateError
from fastslow.training.on_policy.sampler import RolloutSampler

RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
SHORT = ("train.max_steps=6", "eval.num_prompts=2", "train.batch_size=4", "checkpoint.every=2")


@pytest.fixture
def online(recipe, train_file, tmp_path):
    """Makes a recipe of fresh answers; keyword arguments are of its `online`."""
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)

    def make(*overrides, **section):
        settings = {"max_new_tokens": 8, "temperature": 1.5} | section
        judge = {"kind": "rule", "file": str(rule)}
        return recipe(*SHORT, *overrides, online=settings, judge=judge)

    return make


def test_a_batch_is_the_leaders_own_judged_answers_with_their_log_probs(online):
    run = components(online(num_generations=3))
    batch = next(iter(run.reader))
    assert len(batch) == 4
    for item in batch:
        example = item.example
        scores = [text.count("e") - 0.1 * len(text) for text in example.responses]
        assert (example.score_chosen, example.score_rejected) == pytest.approx(tuple(scores))
        assert scores[0] > scores[1] and len(item.tree.responses) == 2
        tokenizer = fastslow.training.build.load_tokenizer(run.recipe.model)
        said = [tokenizer.decode(t, skip_special_tokens=True) for t in item.tree.responses]
        assert said == list(example.responses)
        scored = run.learner.policies.measure(
            run.learner.leader, run.learner.policies.batch([item.tree]), temperature=1.5
        ).sums
        assert scored.tolist() == pytest.approx(list(item.sampled), abs=1e-4)


def test_the_score_is_that_of_the_whole_set_however_often_prompts_were_asked_for_it(
    online, tmp_path, monkeypatch
):
    made = online("train.batch_size=8")
    (tmp_path / "rule.py").write_text(RULE.partition("return")[0] + "return float('e' in answer)")
    finish, seen = RolloutSampler.finish, []

    def watched(sampler, pending):
        found = finish(sampler, pending)
        seen.append([score for _, judgement in found.groups for score in judgement.scores])
        return found

    monkeypatch.setattr(RolloutSampler, "finish", watched)
    run = components(made)
    next(iter(run.reader))
    assert len(seen) > 1, "ties leave places in the batch"
    assert run.reader.metrics()["score"] == pytest.approx(fmean(chain(*seen)))


@pytest.mark.parametrize(
    ("every", "ages"), [(1, [0] * 6), (3, [0, 1, 2] * 2), (4, [0, 1, 2, 3, 0, 1])]
)
def test_no_answer_is_older_than_is_said(online, every, ages):
    made = online(steps_per_generation=every)
    training.train(made)
    assert [step["staleness"] for step in tiny.steps(made.output_dir)] == ages


@pytest.mark.parametrize(
    "section",
    fast(
        [{"steps_per_generation": 2, "overlap": True, "pick": "all", "num_generations": 3}],
        [
            {"steps_per_generation": 1},
            {"steps_per_generation": 4},
            {"steps_per_generation": 2, "overlap": True, "pick": "all", "num_generations": 3},
        ],
    ),
)
def test_a_stopped_run_goes_on_bit_for_bit(online, tmp_path, section):
    options = ("lora.dropout=0.1", "data.shuffle=8")
    whole = online(f"output_dir={tmp_path / 'whole'}", *options, **section)
    broken = online(f"output_dir={tmp_path / 'broken'}", *options, **section)

    def stop(event):
        if event["event"] == "step" and event["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(broken, listener=stop)
    assert training.train(broken).data == training.train(whole).data
    assert tiny.same(tiny.adapters(whole.output_dir), tiny.adapters(broken.output_dir))


@pytest.mark.parametrize("name", ["dpo", "davidson", "sdpo", "rloo", "kto", "sft", "sppo"])
def test_every_kind_of_objective_learns_with_and_without_a_chase(online, name):
    made = online(
        f"objective.name={name}", "data.eval=null", "train.max_steps=2", num_generations=3
    )
    training.train(made)
    last = tiny.steps(made.output_dir)[-1]["modules"]
    assert last["fast"]["grad_norm"] > 0 and last["slow"]["grad_norm"] > 0


@pytest.mark.parametrize(
    ("name", "section"),
    [("dpo", {"pick": "all"}), ("kto", {}), ("kto", {"steps_per_generation": 2, "overlap": True})],
)
def test_all_that_is_made_of_a_prompts_answers_is_learned(online, tmp_path, name, section):
    prompts = [f"Say {i}." for i in range(9)]
    file = tiny.write_rows(tmp_path / "p.jsonl", [{"prompt": prompt} for prompt in prompts])
    options = (f"data.train={file}", f"objective.name={name}", "train.max_steps=null")
    made = online(*options, "data.eval=null", num_generations=3, temperature=3.0, **section)
    run = components(made)
    batches = list(run.reader)
    each = 3 if section.get("pick") else 2
    assert len(batches) == run.total_steps == -(-9 * each // 4)
    assert [len(batch) for batch in batches[:-1]] == [4] * (len(batches) - 1)
    learned = [item.example.prompt for batch in batches for item in batch]
    assert sorted(learned) == sorted(prompts * each), "each prompt as often as any other"


def test_no_more_prompts_are_asked_than_a_set_needs(online):
    run = components(online(num_generations=3, temperature=3.0, pick="all"))
    read, ages = [], []
    for _, _ in zip(range(4), run.reader, strict=False):
        read.append(run.reader.summary()["read"])
        ages.append(run.reader.metrics()["staleness"])
    assert read == [2, 3, 4, 6], "three pairs of each, four in a batch"
    assert ages == [0, 1, 1, 0], "two batches begin with pairs of the one before"


def test_stored_pairs_have_their_share_of_every_batch(online, tmp_path):
    prompts = tiny.write_rows(
        tmp_path / "prompts.jsonl", [{"prompt": f"Say {i}."} for i in range(40)]
    )
    made = online("train.max_steps=3", prompts=str(prompts), offline_fraction=0.25)
    summary = training.train(made)
    assert summary.pairs_seen == 12 and summary.data["stored_read"] > 0
    first = next(iter(components(made).reader))
    assert [bool(item.sampled) for item in first] == [True, True, True, False]


def test_prompts_alone_are_enough(online, tmp_path):
    rows = [{"prompt": f"Say {i}.", "domain": "talk"} for i in range(12)]
    made = online(
        f"data.train={tiny.write_rows(tmp_path / 'p.jsonl', rows)}", "data.eval=null",
        "train.max_steps=null",
    )  # fmt: skip
    summary = training.train(made)
    assert summary.steps == 3 and summary.data["read"] == 12
    assert tiny.steps(made.output_dir)[0]["domains"] == {"talk": 4}


def test_the_largest_seed_samples(online):
    run = components(online(f"seed={2**53}"))
    assert next(iter(run.reader))


def test_the_score_rises(online):
    made = online(
        "train.max_steps=24", "train.epochs=2", "train.learning_rate=0.03", "chase=null",
        "objective.name=rloo", "eval.num_prompts=16", "eval.num_generations=4",
        "eval.max_new_tokens=8", "train.batch_size=8", num_generations=4,
    )  # fmt: skip
    measured = training.train(made).eval
    assert measured["final"]["reward"] > measured["start"]["reward"] + 0.1
    assert measured["final"]["win_rate"] > 0.6


@pytest.mark.parametrize("overlap", fast([True], [False, True]))
def test_a_judge_that_gives_up_leaves_a_checkpoint_to_go_on_from(online, tmp_path, overlap):
    whole = online(f"output_dir={tmp_path / 'whole'}", "data.eval=null", overlap=overlap)
    training.train(whole)
    made = online(f"output_dir={tmp_path / 'broken'}", "data.eval=null", overlap=overlap)
    left = tmp_path / "left"
    left.write_text("30")
    (tmp_path / "rule.py").write_text(tiny.FAILING_RULE.format(left=str(left)))
    with pytest.raises(JudgeError, match="OSError: gone"):
        training.train(made)
    done = len(tiny.steps(made.output_dir))
    assert 0 < done < 6
    assert (tmp_path / "broken" / "checkpoints" / f"step-{done:08d}").exists()
    left.write_text("100000")
    training.train(made)
    assert tiny.same(tiny.adapters(whole.output_dir), tiny.adapters(made.output_dir))


def test_validate_looks_at_judge_and_prompts(online, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(online()))
    run = CliRunner().invoke
    assert run(app, ["validate", str(path)]).exit_code == 0
    (tmp_path / "rule.py").write_text("1 / 0")
    shown = run(app, ["validate", str(path)])
    assert isinstance(shown.exception, ConfigError) and "judge.file" in str(shown.exception)


def test_another_judge_cannot_go_on(online, tmp_path):
    made = online("data.eval=null")

    def stop(event):
        if event["event"] == "step" and event["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=stop)
    (tmp_path / "rule.py").write_text(RULE + "# Changed.\n")
    with pytest.raises(StateError, match="the judge of the run .* changed"):
        training.train(made)


@pytest.mark.parametrize(
    ("overrides", "section", "message"),
    [
        (("online=null", "judge=null", "objective.name=rloo"), {}, "objective rloo: is on-policy"),
        (
            ("online=null", "judge=null", "objective.name=rloo", "objective.nll_weight=0.1"),
            {},
            "objective rloo: is on-policy",
        ),
        (("objective.name=rloo + 0.2 * sft",), {"top_p": 0.9}, "online.top_p: got 0.9"),
        (("judge=null",), {}, "judge: is missing; online needs one to compare"),
        (("rounds={}",), {}, "rounds and online: cannot be combined"),
        (("data.label_delay=8",), {}, "online: cannot be combined with data.label_delay"),
        ((), {"num_generations": 1}, "online.num_generations: got 1"),
        (("data.train=[]",), {}, "prompts: are missing"),
        (("data.train=-",), {}, "online: prompts are read more than once"),
    ],
)
def test_what_cannot_be_is_refused(online, overrides, section, message):
    with pytest.raises(ConfigError, match=message):
        training.train(online(*overrides, **section))


def test_an_answer_keeps_what_the_row_of_its_prompt_said(online, tmp_path):
    rows = [{"prompt": f"Say {i}.", "id": i, "domain": "talk"} for i in range(8)]
    made = online(prompts=str(tiny.write_rows(tmp_path / "p.jsonl", rows)), num_generations=3)
    for name in ("dpo", "sdpo", "rloo"):
        changed = made.model_copy(update={"objective": ObjectiveConfig(name=name)})
        for item in next(iter(components(changed).reader)):
            assert item.example.prompt == f"Say {item.example.provenance['id']}."
            assert item.example.domain == "talk"
