"""A learner in a loop of one's own: the same bits as a run, exact resumption, clear errors."""

import warnings
from contextlib import nullcontext

import pandas
import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

import fastslow as fs
from fastslow.api.rows import Rows
from fastslow.errors import ConfigError, DataError, NonFiniteError, StateError
from fastslow.streams import read_prompts


def weights(learner):
    modules = learner.core.policies.modules
    return {name: dict(modules.tensors(name)) for name in learner.modules}


def copies(learner):
    return {n: {k: t.clone() for k, t in own.items()} for n, own in weights(learner).items()}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_steps_by_hand_give_the_bits_of_a_run(tmp_path, dropout):
    folder = tiny.save_model(tmp_path / "model")
    rows = tiny.rows(40, seed=1)
    run = fs.train(
        {
            "model": str(folder),
            "output_dir": str(tmp_path / "run"),
            "data": {"max_length": 96, "shuffle": 16},
            "lora": {"rank": 4, "alpha": 8.0, "dropout": dropout},
            "train": {"batch_size": 8, "learning_rate": 1e-2, "schedule": "constant"},
        },
        train_dataset=rows,
    )
    model = tiny.model()
    learner = fs.Learner(
        model, tiny.tokenizer(), max_length=96, learning_rate=1e-2,
        peft_config=LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout),
    )  # fmt: skip
    torch.manual_seed(99)
    outs = []
    for batch in fs.batches(rows, size=8, shuffle=16):
        torch.rand(3)  # Other random numbers between two steps change nothing.
        outs.append(learner.step(batch))
    saved = {
        name: learner.save_pretrained(tmp_path / name, module=name) for name in learner.modules
    }
    own = {name: load_file(path / "adapter_model.safetensors") for name, path in saved.items()}
    assert tiny.same(own, tiny.adapters(run.folder))
    logged = tiny.steps(run.folder)
    assert [out.metrics["loss"] for out in outs] == [step["loss"] for step in logged]
    assert run.status == "complete" and run.leader == learner.leader


def test_a_row_of_a_small_batch_counts_as_in_a_full_one(make_learner):
    rows = tiny.rows(3, seed=2)
    alone, full, of_more = make_learner(), make_learner(), make_learner()
    expected, same, less = alone.step(rows), full.step(rows, full=3), of_more.step(rows, full=12)
    assert same == expected and tiny.same(weights(full), weights(alone))
    assert less.metrics == expected.metrics
    for name, own in expected.modules.items():
        norm = less.modules[name]["grad_norm"]
        assert norm == pytest.approx(own["grad_norm"] / 4, rel=1e-4)


@pytest.mark.parametrize("restores", [False, True])
def test_a_step_that_was_interrupted_leaves_nothing_to_the_next(make_learner, restores):
    def loss(logps):
        if interrupted and len(seen) == 3:  # Both modules of the first micro-batch have passed.
            raise KeyboardInterrupt
        seen.append(logps)
        return -torch.nn.functional.logsigmoid(0.1 * logps.delta)

    results, seen = {}, []
    for interrupted in (True, False):
        learner = make_learner(objective=loss, micro_batch_size=2)
        if interrupted:
            before = learner.snapshot()
            with pytest.raises(KeyboardInterrupt):
                learner.step(tiny.rows(4, seed=1))
            interrupted = False
            if restores:
                learner.restore(before)
        out = learner.step(tiny.rows(4, seed=2))
        results[learner] = out.modules, copies(learner)
    (metrics, after), (expected, clean) = results.values()
    assert metrics == expected and tiny.same(after, clean)


def test_clipping_makes_no_small_batch_as_large_as_a_full_one(make_learner):
    moved = []
    for full in (3, 12):
        learner = make_learner(optimizer="sgd", max_grad_norm=1e-3)
        before = copies(learner)
        learner.step(tiny.rows(3, seed=2), full=full)
        after = weights(learner)["fast"]
        moved.append(sum(float((own - before["fast"][k]).norm()) for k, own in after.items()))
    assert moved[0] == pytest.approx(4 * moved[1], rel=1e-2)


def test_another_objective_for_a_while_learns_what_a_learner_of_its_own_would(make_learner):
    ratings = [
        {"prompt": row["prompt"], "completion": row[kind], "label": kind == "chosen"}
        for row in tiny.rows(4, seed=2)
        for kind in ("chosen", "rejected")
    ]
    pairs = tiny.rows(8, seed=3)
    mixed, own = make_learner(), make_learner(objective="kto", beta=0.3)
    with mixed.with_objective("kto", beta=0.3):
        given = mixed.step(ratings)
    expected = own.step(ratings)
    assert given.metrics == expected.metrics and tiny.same(weights(mixed), weights(own))
    with pytest.raises(DataError, match="no usable examples"):
        mixed.step(ratings)
    assert mixed.step(pairs).metrics["loss"] != given.metrics["loss"]
    with pytest.raises(ConfigError, match="no such setting"), mixed.with_objective("kto", bta=1):
        pass


def test_kto_learns_the_same_in_micro_batches(make_learner):
    ratings = [
        {"prompt": row["prompt"], "completion": row[kind], "label": kind == "chosen"}
        for row in tiny.rows(16, seed=2)
        for kind in ("chosen", "rejected")
    ]
    settings = {"objective": "kto", "beta": 1.0, "optimizer": "sgd", "learning_rate": 0.3}
    learned = {}
    for size in (None, 1, 3):
        learner = make_learner(micro_batch_size=size, **settings)
        losses = [learner.step(ratings[at : at + 8]).metrics["loss"] for at in range(0, 32, 8)]
        learned[size] = losses, torch.cat([t.flatten() for t in weights(learner)["fast"].values()])
    losses, whole = learned.pop(None)
    assert losses[0] == 0.5 and min(losses[1:]) < 0.49
    for others, parts in learned.values():
        assert others == pytest.approx(losses, abs=1e-4)
        assert torch.allclose(parts, whole, atol=1e-4)


@pytest.mark.parametrize("for_a_while", [False, True])
def test_an_objective_that_needs_its_batch_whole_is_not_given_parts(make_learner, for_a_while):
    learner = make_learner(objective="dpo" if for_a_while else "beta_dpo", micro_batch_size=2)
    within = learner.with_objective("beta_dpo") if for_a_while else nullcontext()
    with within, pytest.raises(ConfigError, match=r"micro_batch_size: got 2.* 4 rows"):
        learner.step(tiny.rows(4))
    assert learner.num_steps == 0


def test_an_objective_for_a_while_is_not_given_less_of_its_batch(make_learner, monkeypatch):
    learner = make_learner()
    with monkeypatch.context() as full:
        full.setattr(learner.core, "_add_gradients", out_of_memory)
        with learner.with_objective("beta_dpo"), pytest.raises(StateError, match="be split"):
            learner.step(tiny.rows(4))
        with pytest.raises(StateError, match="out of memory at micro-batch 1"):
            learner.step(tiny.rows(4))


def out_of_memory(*_):
    raise RuntimeError("CUDA out of memory. Tried")


@pytest.mark.parametrize(
    ("objective", "says"),
    [("dpo", {"confidence": 0.5}), ("ipo", {"confidence": 0.5}), ("davidson", {"verdict": "tie"})],
)
def test_a_first_batch_may_prefer_nothing(make_learner, objective, says):
    learner, rows = make_learner(objective=objective), tiny.rows(6, seed=2)
    for row in rows[:2]:
        learner.step([row | says])
    before = copies(learner)
    learner.step(rows[2:])
    assert learner.num_steps == 3 and not tiny.same(weights(learner), before)


def test_test_then_train_means_are_of_what_was_learned(make_learner, monkeypatch):
    learner, rows = make_learner(skip_non_finite=True), tiny.rows(8, seed=2)
    first = learner.step(rows[:4])
    with monkeypatch.context() as broken:
        broken.setattr(learner.core.accelerator, "clip_grad_norm_", lambda *_: float("nan"))
        assert not learner.step(rows[4:]).updated
    summary = learner.summary
    assert summary["set_aside"] == 4 and summary["examples_seen"] == 4
    assert summary["prequential"]["loss"] == first.metrics["loss"]
    assert learner.core.state.prequential.count == 4


def test_what_an_objective_has_counted_is_its_own(make_learner):
    learner, alone = (make_learner(objective="beta_dpo") for _ in range(2))
    pairs, ratings = (
        tiny.rows(8, seed=3),
        [
            {"prompt": row["prompt"], "completion": row["chosen"], "label": True}
            for row in tiny.rows(8, seed=2)
        ],
    )
    for one in (learner, alone):
        one.step(pairs)
    before = {name: dict(own) for name, own in learner.core.state.running.items()}
    with learner.with_objective("bco"):
        learner.step(ratings)
        assert set(learner.core.state.running["fast"]) == {"total", "count"}
    assert learner.core.state.running == before == alone.core.state.running


def test_the_model_is_as_it_was(make_learner):
    model = tiny.model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ids = torch.tensor([[5, 6, 7]])
    logits = model(ids).logits
    learner = make_learner(model)
    learner.step(tiny.rows(8))
    assert torch.equal(model(ids).logits, logits)
    with pytest.raises(ConfigError, match="carries LoRA modules already; call unload"):
        make_learner(model)
    assert learner.unload() is model
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_resuming_from_a_checkpoint_equals_never_stopping(make_learner, tmp_path):
    settings = {"peft_config": LoraConfig(r=4, lora_alpha=8, lora_dropout=0.3)}
    whole, first = make_learner(**settings), make_learner(**settings)
    data = [tiny.rows(8, seed=seed) for seed in range(5)]
    data[1][3] = {"prompt": "Only a prompt."}
    for batch in data[:3]:
        whole.step(batch), first.step(batch)
    path = first.save_checkpoint(tmp_path / "ckpt")
    assert path.name == "step-00000003"
    second = make_learner(**settings)
    assert second.load_checkpoint(tmp_path / "ckpt") == 3
    for batch in data[3:]:
        torch.rand(1)
        whole.step(batch), second.step(batch)
    assert tiny.same(weights(whole), weights(second)) and whole.summary == second.summary
    assert second.skipped == 1 and second.skipped_examples == whole.skipped_examples


def test_a_snapshot_is_a_copy_and_can_be_gone_back_to(make_learner):
    learner = make_learner()
    learner.step(tiny.rows(8))
    snapshot, before = learner.snapshot(), copies(learner)
    one = learner.step(tiny.rows(8, seed=5))
    after = copies(learner)
    learner.restore(snapshot)
    assert tiny.same(weights(learner), before) and learner.num_steps == 1
    again = learner.step(tiny.rows(8, seed=5))
    assert again == one and tiny.same(weights(learner), after)


def test_a_learner_of_a_recipe_gives_the_template_what_the_recipe_says(tmp_path):
    folder = tmp_path / "model"
    tiny.model().save_pretrained(folder)
    tiny.tokenizer("{{ mood }}" + tiny.TEMPLATE).save_pretrained(folder)
    raw = {
        "model": str(folder),
        "data": {"max_length": 96, "chat_template_kwargs": {"mood": "calm "}},
    }
    raw |= {"train": {"schedule": "constant"}, "eval": {"num_prompts": 0, "max_new_tokens": 4}}
    learner = fs.Learner.from_recipe(fs.load_recipe(raw))
    assert learner.prompt_text([{"role": "user", "content": "Hi"}]).startswith("calm <|user|>")


def test_a_checkpoint_of_an_older_version_knows_no_newer_settings(make_learner):
    learner = make_learner()
    snapshot = learner.snapshot()
    known = snapshot.facts["learner"]
    del known["settings"]["lora"]["freeze_start"], known["settings"]["drift"]
    known["settings"]["report_to"] = "something else"
    learner.restore(snapshot)
    known["settings"]["chase"] = None
    with pytest.raises(StateError, match=r"differs in .*settings.chase.alpha"):
        learner.restore(snapshot)


def test_a_checkpoint_of_other_settings_is_refused(make_learner, tmp_path):
    make_learner().save_checkpoint(tmp_path)
    with pytest.raises(StateError, match="differs in objective, settings.objective.beta; make"):
        make_learner(beta=0.5).load_checkpoint(tmp_path)
    with pytest.raises(StateError, match="holds no complete checkpoint"):
        make_learner().load_checkpoint(tmp_path / "none")


def test_what_is_saved_opens_in_peft_with_the_same_log_probs(make_learner, tmp_path):
    learner = make_learner()
    for seed in range(3):
        learner.step(tiny.rows(8, seed=seed))
    rows = [row | {"prompt": "Describe it."} for row in tiny.rows(4, seed=9)]
    scores = learner.score(rows)
    learner.save_pretrained(tmp_path / "out")
    with pytest.raises(ConfigError, match="holds other files"):
        learner.save_pretrained(tmp_path)
    model, tokenizer = PeftModel.from_pretrained(tiny.model(), tmp_path / "out"), tiny.tokenizer()
    for row, score in zip(rows, scores, strict=True):
        prompt = [{"role": "user", "content": row["prompt"]}]
        start = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        count = len(tokenizer(start, add_special_tokens=False)["input_ids"])
        for place, side in enumerate(("chosen", "rejected")):
            text = f"{start}{row[side]}<|end|>"
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                logps = model(ids).logits[0, :-1].float().log_softmax(-1)
            wanted = logps[torch.arange(count - 1, ids.shape[1] - 1), ids[0, count:]].sum()
            assert score.logps[place] == pytest.approx(wanted.item(), abs=1e-3)
            assert score.num_tokens[place] == ids.shape[1] - count
        chosen, rejected = score.logps
        reference = score.reference_logps
        assert score.margin == pytest.approx(chosen - rejected - reference[0] + reference[1])


def test_rows_that_are_skipped_are_counted_and_named(make_learner):
    learner = make_learner()
    rows = tiny.rows(4)
    bad = {"prompt": "p", "chosen": "same", "rejected": "same"}
    out = learner.step([*rows, bad, {"prompt": "p"}])
    assert out.num_examples == 4 and learner.skipped == 2
    assert len(out.warnings) == 2 and "rows:5: chosen and rejected are identical" in out.warnings[0]
    before = copies(learner)
    with pytest.raises(DataError, match="no usable examples in the batch; nothing was learned"):
        learner.step([bad])
    with pytest.raises(DataError, match="nothing was learned$"):
        learner.step([])
    assert tiny.same(weights(learner), before) and learner.num_steps == 1
    assert "rows:7" in learner.skipped_examples[-1]
    scores = learner.score([rows[0], bad])
    assert scores[0].skipped is None and "identical" in scores[1].skipped


def test_columns_that_are_not_used_are_named_at_the_first_step(make_learner):
    learner = make_learner()
    rows = [row | {"mood": "fine"} for row in tiny.rows(8)]
    assert learner.step(rows).warnings == ("columns that are not used: 'mood'",)
    assert learner.step(rows).warnings == ()


def test_an_objective_may_be_a_function_a_class_or_an_object(make_learner):
    from fastslow.objectives.dpo import Dpo

    def mine(logps):
        return torch.nn.functional.softplus(-0.1 * logps.delta)

    learners = [
        make_learner(**given)
        for given in (
            {"beta": 0.1}, {"objective": Dpo, "beta": 0.1}, {"objective": Dpo(beta=0.1)},
            {"objective": mine},
        )
    ]  # fmt: skip
    for learner in learners:
        for seed in range(2):
            learner.step(tiny.rows(8, seed=seed))
    first, *others = map(weights, learners)
    assert tiny.same(first, others[0]) and tiny.same(first, others[1])
    for name in first:
        for key in first[name]:
            torch.testing.assert_close(first[name][key], others[2][name][key])
    with pytest.raises(
        ConfigError, match=r"<lambda> gave shape \[\]; it must give the loss of each"
    ):
        make_learner(objective=lambda logps: logps.delta.mean()).step(tiny.rows(4))


def test_a_step_that_is_not_finite_leaves_no_gradient(make_learner, tmp_path):
    calls = []

    def mine(logps):
        calls.append(1)
        loss = -0.1 * logps.delta
        return loss * float("nan") if len(calls) <= 2 else loss

    learner = make_learner(objective=mine, output_dir=str(tmp_path / "failed"))
    with pytest.raises(NonFiniteError, match="nothing was updated"):
        learner.step(tiny.rows(4))
    assert learner.num_steps == 0 and learner.step(tiny.rows(4)).step == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 1e-3}, "lr: no such setting.*did you mean learning_rate"),
        ({"bata": 1e-3}, "bata: no such setting.*did you mean beta"),
        ({"beta": -1}, "objective.beta: got -1; must be a number above 0"),
        ({"objective": 3}, "objective: got 3; give a name"),
        ({"objective": "ppo"}, "learns from answers that the policy samples.*use fastslow.train"),
        ({"peft_config": LoraConfig(use_dora=True)}, "use_dora would have no effect"),
        ({"peft_config": LoraConfig(bias="all")}, "bias would have no effect"),
        ({"peft_config": 3}, "peft_config: got int; give a peft.LoraConfig"),
        ({"peft_config": LoraConfig(target_modules=["none"])}, "lora.target_modules"),
        ({"start_from": "x"}, "start_from: brings its own LoRA settings"),
        ({"learning_rate": 0}, "train.learning_rate: got 0"),
    ],
)
def test_a_wrong_setting_gets_one_clear_sentence(make_learner, settings, message):
    model = tiny.model()
    with pytest.raises(ConfigError, match=message) as caught:
        make_learner(model, **settings)
    assert "\n" not in str(caught.value)
    make_learner(model)  # Nothing was left on it.


def test_a_wrong_model_gets_advice(make_learner):
    wrapped = get_peft_model(tiny.model(), LoraConfig(r=2, target_modules="all-linear"))
    with pytest.raises(ConfigError, match="model: is a PeftModel; give the base model"):
        make_learner(wrapped)
    with pytest.raises(ConfigError, match="tokenizer: is missing"):
        fs.Learner(tiny.model())
    with pytest.raises(ConfigError, match="module: there is no 'quick'; .* has fast, slow"):
        make_learner().generate(["Hi"], module="quick")
    with pytest.raises(ConfigError, match="got a single one; give a list of prompts"):
        make_learner().generate("Hi")


def test_a_row_is_answered_with_what_its_template_is_given():
    template = "{% if tools %}{{ tools[0]['name'] }}{% endif %}{{ mood }}" + tiny.TEMPLATE
    learner = fs.Learner(tiny.model(), tiny.tokenizer(template))
    turns = [{"role": "user", "content": "Hi"}]
    given = {"tools": [{"name": "look"}], "chat_template_kwargs": {"mood": "calm " * 9}}
    row = {"prompt": turns} | given
    assert learner.prompt_text(row).startswith("lookcalm calm ")
    assert learner.prompt_text(turns).startswith("<|user|>")
    pair = row | {
        "chosen": [{"role": "assistant", "content": "Yes"}],
        "rejected": [{"role": "assistant", "content": "No"}],
    }
    example = next(read_prompts([Rows([row])]))
    assert {learner.prompt_text(same) for same in (pair, example)} == {learner.prompt_text(row)}
    asked = {"max_new_tokens": 20}
    assert learner.generate([row], **asked) == learner.generate([example], **asked)
    assert learner.generate([row], **asked) != learner.generate([turns], **asked)
    with pytest.raises(ConfigError, match="prompts: no "):
        learner.generate([{"note": "Hi"}])


def test_generation_is_seeded_and_shaped(make_learner):
    learner = make_learner(chase=None)
    learner.step(tiny.rows(8))
    chat = [{"role": "user", "content": "Describe the river."}]
    state = torch.get_rng_state()
    texts = learner.generate(["Hi", chat], num_generations=3, max_new_tokens=6)
    assert torch.equal(state, torch.get_rng_state())
    assert [len(own) for own in texts] == [3, 3]
    assert texts == learner.generate(["Hi", chat], num_generations=3, max_new_tokens=6)
    assert texts != learner.generate(["Hi", chat], num_generations=3, max_new_tokens=6, seed=1)
    for seed in (-1, 2**70):
        with pytest.raises(ConfigError, match=f"seed: got {seed}; must be a whole number from 0"):
            learner.generate(["Hi"], seed=seed)


def test_a_model_folder_needs_no_tokenizer(model_folder, eval_file):
    learner = fs.Learner(model_folder, chase=None, learning_rate=1e-2, seed=3)
    assert learner.modules == ("policy",)
    for batch in fs.batches(eval_file, size=8):
        learner.step(batch)
    result = learner.evaluate(eval_file, num_prompts=2, max_new_tokens=4)
    assert result.pairs == 24 and result.accuracy > 0.5 and result.reverse_kl is not None
    assert learner.evaluate(tiny.rows(5), judge=lambda prompt, answer: len(answer)).reward is None


def test_batches_are_lazy_and_repeat_by_epoch(tmp_path):
    rows = tiny.rows(10)
    assert [len(batch) for batch in fs.batches(rows, size=4, epochs=2)] == [4, 4, 4, 4, 4]
    path = tiny.write_rows(tmp_path / "rows.jsonl", rows)
    assert [len(batch) for batch in fs.batches([path, path], size=8)] == [8, 8, 4]
    read = []

    def passing():
        for row in rows:
            read.append(row)
            yield row

    next(iter(fs.batches(passing(), size=2)))
    assert len(read) <= 3
    with pytest.raises(ConfigError, match="2 problems"):
        fs.batches(iter(rows), size=0, epochs=2)
    with pytest.raises(DataError, match="got one mapping with prompt, chosen, rejected"):
        fs.batches(rows[0], size=2)
    frame = pandas.DataFrame(rows)
    with pytest.raises(DataError, match=r"got a DataFrame; give .*Dataset.from_pandas"):
        fs.batches(frame, size=2)
    many = tiny.rows(200)
    many[7] = {"prompt": "p"}
    made = fs.batches(many, size=50)
    with pytest.warns(UserWarning, match="1 of 200 rows were skipped: rows:8"):
        assert sum(map(len, made)) == 199
    assert made.skipped == 1


@pytest.mark.parametrize("shuffle", [0, 4])
@pytest.mark.parametrize("given", [list, iter])
def test_a_loop_over_batches_that_was_left_goes_on_with_the_next_one(given, shuffle):
    rows = tiny.rows(10)
    wanted = [
        [pair.chosen for pair in batch] for batch in fs.batches(given(rows), 3, shuffle=shuffle)
    ]
    made = fs.batches(given(rows), 3, shuffle=shuffle)
    found = [next(iter(made)), next(iter(made)), *made]
    assert [[pair.chosen for pair in batch] for batch in found] == wanted
    again = [[pair.chosen for pair in batch] for batch in made]
    assert again == (wanted if given is list else [])
    assert made.skipped == 0


def test_shuffled_batches_are_all_rows_in_another_order():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = [pair.chosen for batch in fs.batches(tiny.rows(32), 8, shuffle=16) for pair in batch]
    assert one != [row["chosen"] for row in tiny.rows(32)]
    assert sorted(one) == sorted(row["chosen"] for row in tiny.rows(32))


@pytest.mark.parametrize("given", [True, False, 2.0, "2", -1])
@pytest.mark.parametrize("name", ["size", "epochs", "shuffle"])
def test_whole_numbers_are_no_truth_values(name, given):
    with pytest.raises(ConfigError, match=f"{name}: got {given!r}; must be a whole number of at"):
        fs.batches(tiny.rows(8), **({"size": 4} | {name: given}))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"num_generations": 2.0},
            "num_generations: got 2.0; must be a whole number of at least 1",
        ),
        ({"num_generations": True}, "num_generations: got True; must be a whole"),
        ({"max_new_tokens": 2.5}, "max_new_tokens: got 2.5; must be a whole number of at least 1"),
        ({"seed": 1.5}, "seed: got 1.5; must be a whole number from 0 to 9007199254740992"),
        ({"seed": True}, "seed: got True; must be a whole number from 0"),
        ({"prompts": None}, "prompts: got a NoneType; give a list of prompts"),
        ({"prompts": b"Hi"}, "prompts: got a bytes; give a list of prompts"),
        ({"max_new_tokens": 0}, "max_new_tokens: got 0; must be a whole"),
        ({"temperature": float("nan")}, "temperature: got nan; must be 0 or above"),
        ({"temperature": float("inf")}, "temperature: got inf; must be 0 or above, and finite"),
        (
            {"prompts": pandas.DataFrame({"prompt": ["Hi"]})},
            "prompts: got a DataFrame; give a list",
        ),
    ],
)
def test_what_cannot_be_sampled_is_said(make_learner, setting, message):
    with pytest.raises(ConfigError, match=message):
        make_learner().generate(**({"prompts": ["Hi"]} | setting))


def test_prompts_may_come_from_a_generator(make_learner):
    learner = make_learner()
    asked = ["Hi", "What is good?"]
    assert learner.generate(iter(asked), seed=3) == learner.generate(asked, seed=3)
    wanted = learner.reverse_kl(asked, max_new_tokens=4)
    assert learner.reverse_kl(iter(asked), max_new_tokens=4) == wanted
    assert learner.generate([]) == []
    with pytest.raises(ConfigError, match="prompts: there is none; give at least one"):
        learner.reverse_kl([])


def test_how_many_bad_rows_are_too_many_is_the_callers_to_say():
    rows = [*tiny.rows(6), {"prompt": "p"}, {"prompt": "p"}]
    with pytest.raises(fs.DataError, match="2 of 8 rows cannot be used.* max_bad_fraction = 0.01"):
        list(fs.batches(rows, size=2))
    batches = fs.batches(rows, size=2, max_bad_fraction=0.3)
    with pytest.warns(UserWarning, match="2 of 8 rows were skipped"):
        assert sum(map(len, batches)) == 6
    assert batches.skipped == 2
    with pytest.raises(fs.ConfigError, match="max_bad_fraction: got 2; must be from 0 to 1"):
        fs.batches(rows, size=2, max_bad_fraction=2)


def test_what_is_saved_is_within_the_budget_and_the_learner_stays_as_it_is(tmp_path):
    learner = fs.Learner(
        tiny.model(), tiny.tokenizer(), max_length=48, learning_rate=0.3, chase=None,
        budget={"reverse_kl": 0.3}, peft_config=LoraConfig(r=4, lora_alpha=8),
    )  # fmt: skip
    for batch in fs.batches(tiny.rows(24, seed=2), size=8):
        learner.step(batch)
    before = copies(learner)
    with pytest.warns(UserWarning, match=r"policy is saved at 0\.\d+ of its update"):
        saved = learner.save_pretrained(tmp_path / "held")
    assert tiny.same(copies(learner), before)
    own = load_file(saved / "adapter_model.safetensors")
    ratios = {
        float((own[key] / tensor).mean())
        for full, tensor in before["policy"].items()
        if "lora_B" in (key := full.replace(".policy", ""))
    }
    assert len({round(ratio, 4) for ratio in ratios}) == 1 and 0 < min(ratios) < 1
    free = fs.Learner(tiny.model(), tiny.tokenizer(), budget=None, max_length=48)
    assert free.core.budget is None


ROWS = [
    {"prompt": f"Describe {thing}.", "chosen": f"It is {good}.", "rejected": f"It is {bad}."}
    for thing, good, bad in zip(tiny.THINGS, tiny.GOOD * 2, tiny.BAD * 2, strict=False)
]


def learned(learner, steps=3):
    for _ in range(steps):
        learner.step(ROWS)
    return learner


def test_adapters_beside_the_learner_score_as_where_they_were_learned(make_learner, tmp_path):
    learner = learned(make_learner(learning_rate=1e-2))
    folder = learner.save_pretrained(tmp_path / "first", module="fast")
    first = learner.score(ROWS, module="fast")
    learned(learner)
    before = copies(learner)
    with learner.beside({"then": folder, "also": folder}):
        assert learner.score(ROWS, module="then") == pytest.approx(first)
        assert learner.score(ROWS, module="fast") != first
        answers = learner.generate(["Describe river."], module="then", max_new_tokens=8)
        assert answers == learner.generate(["Describe river."], module="also", max_new_tokens=8)
    assert tiny.same(before, weights(learner))
    with pytest.raises(ConfigError, match="there is no 'then'"):
        learner.score(ROWS, module="then")


def test_adapters_beside_the_learner_change_nothing_of_what_it_learns(make_learner, tmp_path):
    alone, disturbed = learned(make_learner()), learned(make_learner())
    folder = disturbed.save_pretrained(tmp_path / "first", module="fast")
    alone.save_pretrained(tmp_path / "second", module="fast")  # Measures the budget, which draws.
    for _ in range(2):
        with disturbed.beside({"then": folder}):
            disturbed.score(ROWS, module="then")
        learned(disturbed, steps=1)
        learned(alone, steps=1)
    assert tiny.same(weights(alone), weights(disturbed))


def test_names_and_folders_that_cannot_be_beside_are_refused(make_learner, tmp_path):
    learner = learned(make_learner())
    folder = learner.save_pretrained(tmp_path / "first", module="fast")
    for name in ("fast", "leader", "base"):
        with pytest.raises(ConfigError, match=f"has {name}; give it another"):
            with learner.beside({name: folder}):
                pass
    with pytest.raises(ConfigError, match="holds no LoRA adapter|adapter_config.json"):
        with learner.beside({"good": folder, "bad": tmp_path}):
            pass
    with pytest.raises(ConfigError, match="there is no 'good'"):
        learner.score(ROWS, module="good")
    learned(learner)


def test_the_reverse_kl_of_a_module_is_0_from_itself_and_not_from_the_base(make_learner, tmp_path):
    learner = learned(make_learner(learning_rate=3e-2, budget=None))
    folder = learner.save_pretrained(tmp_path / "first", module="fast")
    learned(learner)
    asked = [row["prompt"] for row in ROWS]
    settings = {"max_new_tokens": 8}
    with learner.beside({"then": folder}):
        same = learner.reverse_kl(asked, module="then", reference="then", **settings)
        between = learner.reverse_kl(asked, module="fast", reference="then", **settings)
    far = learner.reverse_kl(asked, module="fast", **settings)
    assert same == pytest.approx(0.0, abs=1e-6) and 0 < between and 0 < far
    assert far == learner.reverse_kl(asked, module="fast", **settings)


def test_what_is_pulled_back_is_within_the_budget_and_learns_on(make_learner):
    budget = {"reverse_kl": 0.02, "every": 1000}
    learner = learned(make_learner(learning_rate=3e-2, budget=budget), steps=8)
    before = copies(learner)
    strengths = learner.pull_back()
    assert 0 < strengths["fast"] < strengths["slow"] <= 1
    for name, own in weights(learner).items():
        for key, tensor in own.items():
            expected = before[name][key] * (strengths[name] if "lora_B" in key else 1.0)
            assert torch.allclose(tensor, expected, rtol=1e-6, atol=0)
    assert set(learner.pull_back().values()) == {1.0}, "once is enough"
    learned(learner, steps=1)
    unlimited = learned(make_learner(learning_rate=3e-2, budget=None))
    full = copies(unlimited)
    assert set(unlimited.pull_back().values()) == {1.0} and tiny.same(full, weights(unlimited))


def test_who_was_scaled_down_learns_on_more_slowly_and_nobody_else(make_learner):
    """The module that answers is mostly the one beyond, and the other one leads the race then."""
    settings = {"budget": {"reverse_kl": 0.1, "every": 1000}, "chase": {"slow_ratio": 0.01}}
    learner = learned(make_learner(learning_rate=3e-2, **settings), steps=8)
    full = {name: own["learning_rate"] for name, own in learner.step(ROWS).modules.items()}
    strengths = learner.pull_back()
    assert strengths["fast"] < 0.9 and strengths["slow"] == 1
    slower = max(strengths["fast"], 0.5)
    kept = learner.snapshot()
    for _ in range(2):
        found = {name: own["learning_rate"] for name, own in learner.step(ROWS).modules.items()}
        assert found == pytest.approx({"fast": slower * full["fast"], "slow": full["slow"]})
        learner.restore(kept)


def test_each_module_alone_is_scaled_down_while_it_learns(make_learner):
    """Otherwise one that is beyond only may not lead, as long as another is not."""
    chase = {"slow_ratio": 0.01, "alpha": 0.0}
    settings = {"learning_rate": 3e-2, "budget": {"reverse_kl": 0.1, "every": 1}, "chase": chase}
    alone, both = (make_learner(**settings) for _ in range(2))
    alone.core.budget.each_alone = True
    for _ in range(6):
        kept, far = alone.step(ROWS), both.step(ROWS)
    assert set(kept.beyond_budget) == set(far.beyond_budget) == {"fast"}
    assert alone.core.state.selector.may_lead == alone.modules and both.leader == "slow"
    asked = [row["prompt"] for row in ROWS]
    kls = [one.reverse_kl(asked, module="fast", max_new_tokens=8) for one in (alone, both)]
    assert kls[0] < kls[1] / 2
    slow = [{"slow": weights(one)["slow"]} for one in (alone, both)]
    assert tiny.same(*slow)


def test_a_learner_of_a_recipe_is_that_of_the_same_settings(model_folder):
    recipe = fs.load_recipe(
        {
            "model": str(model_folder), "data": {"max_length": 96},
            "lora": {"rank": 4, "alpha": 8.0}, "objective": {"name": "davidson", "beta": 0.2},
            "train": {"schedule": "constant", "learning_rate": 1e-3},
        }
    )  # fmt: skip
    made = fs.Learner.from_recipe(recipe)
    own = fs.Learner(
        str(model_folder), objective="davidson", beta=0.2, max_length=96, learning_rate=1e-3,
        peft_config=LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0),
    )  # fmt: skip
    assert tiny.same(weights(learned(made)), weights(learned(own)))
