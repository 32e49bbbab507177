"""Runs whose answers come from an engine or are judged meanwhile."""

import json
import threading
from pathlib import Path

import pytest
import tiny
import torch
from loopback import chat_reply
from tiers import fast
from tiny import components

import fastslow
from fastslow import training
from fastslow.adapters import BASE, Modules, load_tokenizer
from fastslow.config import OnlineConfig
from fastslow.errors import ConfigError, ReplyError, UnreachableError
from fastslow.judges import RuleJudge
from fastslow.records import Prompt
from fastslow.sampling import Engine, generate
from fastslow.scoring import Encoder
from fastslow.training.on_policy.generation import generate_with_engine

RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
SHORT = ("train.max_steps=6", "eval.num_prompts=2", "train.batch_size=4", "checkpoint.every=2")


class TinyEngine:
    """What an engine does: holds the base and modules by name, and answers by their names."""

    def __init__(self, model_folder):
        self.folder, self.loaded, self.asked = model_folder, {}, []
        self.tokenizer = load_tokenizer(str(model_folder))
        self.encoder = Encoder(self.tokenizer, max_length=96)
        self.lock = threading.Lock()
        self.fail = self.says_tokens = False

    def handle(self, path, body):
        with self.lock:
            if self.fail:
                return 503, None
            if path == "/v1/load_lora_adapter":
                base = tiny.model()
                self.loaded[body["lora_name"]] = Modules.load(
                    base, {"m": Path(body["lora_path"])}, trainable=()
                )
                return 200, {}
            if path == "/v1/unload_lora_adapter":
                del self.loaded[body["lora_name"]]
                return 200, {}
            return 200, self.answer(body)

    def answer(self, body):
        modules = self.loaded.get(body["model"])
        if body["max_tokens"] == 1:
            return chat_reply(["x"])  # Whether it answers at all.
        self.asked.append(body["model"])
        turns = tuple(fastslow.records.Message(**turn) for turn in body["messages"])
        with modules.using("m"):
            (samples,) = generate(
                modules.causal_lm, [self.encoder.prompt_ids(turns, room=body["max_tokens"])],
                end_ids=[2], pad_id=0, max_new_tokens=body["max_tokens"], seed=body["seed"],
                temperature=body["temperature"], num_generations=body["n"],
            )  # fmt: skip
        texts = [self.tokenizer.decode(s.tokens, skip_special_tokens=True) for s in samples]
        reply = chat_reply(texts)
        for choice, sample in zip(reply["choices"], samples, strict=True):
            choice["finish_reason"] = "length" if sample.truncated else "stop"
            if self.says_tokens and body.get("return_token_ids"):
                choice["token_ids"] = list(sample.tokens)
                if body.get("logprobs"):
                    logps = self.logps(modules, turns, body, sample.tokens)
                    choice["logprobs"] = {"content": [{"logprob": logp} for logp in logps]}
        return reply

    def logps(self, modules, turns, body, tokens):
        prompt = self.encoder.prompt_ids(turns, room=body["max_tokens"])
        ids = torch.tensor([[*prompt, *tokens]])
        with modules.using("m"), torch.no_grad():
            found = modules.causal_lm(ids).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, ids.shape[1] - 1)
        return [float(found[place, token]) for place, token in zip(places, tokens, strict=True)]


@pytest.fixture
def engine(loopback, model_folder):
    made = TinyEngine(model_folder)
    made.url = loopback(made.handle).url
    return made


@pytest.fixture
def online(recipe, tmp_path):
    """Makes a recipe of fresh answers; keyword arguments are of its `online`."""
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)

    def make(*overrides, **section):
        settings = {"max_new_tokens": 8, "temperature": 1.5} | section
        judge = {"kind": "rule", "file": str(rule)}
        return recipe(*SHORT, *overrides, online=settings, judge=judge)

    return make


def at(engine):
    return {"url": engine.url, "model": "base", "retries": 0}


def test_the_engine_answers_with_the_leaders_module_of_now(online, engine):
    made = online("chase=null", steps_per_generation=2, engine=at(engine))
    training.train(made)
    steps = tiny.steps(made.output_dir)
    assert [step["staleness"] for step in steps] == [0, 1] * 3
    names = list(dict.fromkeys(engine.asked))
    assert len(names) == 3 and BASE not in names and not engine.loaded
    served = list((Path(made.output_dir) / "served").iterdir())
    assert len(served) == 1


def test_its_answers_are_learned_in_our_tokens_with_our_log_probs(online, engine):
    run = components(
        online("chase=null", "objective.name=rloo", num_generations=3, engine=at(engine))
    )
    batch = next(iter(run.reader))
    for item in batch:
        scored = run.learner.policies.measure(
            "policy", run.learner.policies.batch([item.tree]), temperature=1.5
        ).sums
        assert scored.tolist() == pytest.approx(list(item.sampled), abs=1e-4)
        texts = [run.reader.sampler.encoder.tokenizer.decode(t, skip_special_tokens=True)
                 for t in item.tree.responses]  # fmt: skip
        assert texts == list(item.example.responses)


def test_an_engine_that_dies_leaves_a_checkpoint_to_go_on_from(online, engine, tmp_path):
    made = online("chase=null", engine=at(engine))

    def die(event):
        engine.fail = event["event"] == "step" and event["step"] == 3

    with pytest.raises(UnreachableError, match="rerun the command to resume"):
        training.train(made, listener=die)
    assert (Path(made.output_dir) / "checkpoints" / "step-00000003").exists()
    engine.fail = False
    assert training.train(made).steps == 6


def test_rounds_are_answered_by_an_engine_too(recipe, engine, train_file, tmp_path):
    (tmp_path / "rule.py").write_text(RULE)
    made = recipe(
        *SHORT, "train.max_steps=2", "data.train=[]", "chase=null",
        rounds={"count": 2, "prompts": str(train_file), "prompts_per_round": 4,
                "max_new_tokens": 8, "temperature": 1.5,
                "engine": at(engine) | {"folder": str(tmp_path / "shared")}},
        judge={"kind": "rule", "file": str(tmp_path / "rule.py")},
        lora={"start_from": str(_start(recipe, tmp_path))},
    )  # fmt: skip
    training.train(made)
    assert len(set(engine.asked)) == 2 and not engine.loaded
    copies = sorted(path.name for path in (tmp_path / "shared" / "run").iterdir())
    assert copies == ["round-01", "round-02"]


def _start(recipe, tmp_path):
    made = recipe(*SHORT, "train.max_steps=1", f"output_dir={tmp_path / 'start'}", "chase=null",
                  "lora.rank=2")  # fmt: skip
    training.train(made)
    return tmp_path / "start" / "adapters" / "policy"


@pytest.mark.parametrize("every", [1, 2])
def test_what_is_judged_meanwhile_is_a_set_older_and_never_more(online, every):
    made = online(steps_per_generation=every, overlap=True)
    training.train(made)
    ages = [step["staleness"] for step in tiny.steps(made.output_dir)]
    assert ages == ([0, 1, 1, 1, 1, 1] if every == 1 else [0, 1, 2, 3, 2, 3])


def test_the_judge_works_while_the_policy_learns(online, monkeypatch):
    seen, judge = [], RuleJudge.judge

    def watched(self, asked):
        seen.append(threading.current_thread() is threading.main_thread())
        return judge(self, asked)

    monkeypatch.setattr(RuleJudge, "judge", watched)
    training.train(online("data.eval=null", overlap=True))
    assert seen and not any(seen)


def test_log_probs_that_are_not_known_are_not_learned_from(online, engine):
    made = online("objective.name=rloo", overlap=True, engine=at(engine))
    with pytest.raises(ConfigError, match="online.overlap: objective rloo needs sampling"):
        training.train(made)
    made = online("objective.name=rloo", overlap=True, engine=at(engine), temperature=1.0)
    with pytest.raises(ReplyError, match="did not report the tokens it sampled"):
        training.train(made)
    assert not engine.loaded


def test_the_very_tokens_are_learned_with_the_log_probs_they_were_sampled_with(online, engine):
    """In the background: what the policy was by then is not there to be asked."""
    engine.says_tokens = True
    made = online(
        "chase=null", "objective.name=rloo", "train.max_steps=4",
        num_generations=3, overlap=True, engine=at(engine), temperature=1.0,
    )  # fmt: skip
    assert training.train(made).steps == 4
    run = components(made)
    batch = next(iter(run.reader))
    for item in batch:
        trees = run.learner.policies.batch([item.tree])
        scored = run.learner.policies.measure("policy", trees, temperature=1.0).sums
        assert list(item.sampled) == pytest.approx(scored.tolist(), abs=1e-4)
    run.reader.close()
    assert not engine.loaded


def test_tokens_that_text_does_not_give_back_are_learned_as_they_were_sampled(loopback):
    """The same text has a shorter way to be written in tokens."""
    encoder = Encoder(tiny.tokenizer(), max_length=64)
    text = "calm"
    pieces = [encoder.tokenizer.convert_tokens_to_ids(letter) for letter in text] + [2]
    assert pieces[:-1] != encoder.tokenizer(text, add_special_tokens=False)["input_ids"]

    def handle(path, body):
        reply = chat_reply([text, "bright"])
        reply["choices"][0]["token_ids"] = pieces
        reply["choices"][1]["token_ids"] = told[0]
        return 200, reply

    engine = Engine(
        url=loopback(handle).url, model="m", plain=False, max_concurrency=1, timeout_s=5,
        retries=0, api_key_env="NONE", extra_body={},
    )  # fmt: skip
    config, prompt = OnlineConfig(num_generations=2, max_new_tokens=8), Prompt("Hi.", source="p:1")
    bright = encoder.tokenizer("bright", add_special_tokens=False)["input_ids"]
    told = []
    for second, exact in (([*bright, 2], True), (bright, False), ([99999, 2], False)):
        told[:] = [second]
        (group,) = generate_with_engine(engine, encoder, config, [prompt], seed=0)
        assert (group.tree.responses[0] == tuple(pieces)) == exact, "all of them or none"
        assert group.tree.prompt == encoder.prompt_ids(prompt.prompt, room=8)


@pytest.mark.parametrize("section", fast(["online"], ["online", "rounds"]))
def test_what_a_judge_costs_is_in_the_summary_after_a_stop_too(
    recipe,
    train_file,
    loopback,
    tmp_path,
    section,
):
    server = loopback(
        lambda path, body: (200, chat_reply(["C"], prompt_tokens=50, completion_tokens=1,
                                            total_tokens=51))
    )  # fmt: skip
    settings = {
        "prompts": str(train_file),
        "num_generations": 2,
        "max_new_tokens": 8,
        "temperature": 1.5,
    }
    if section == "rounds":
        settings |= {"count": 1, "prompts_per_round": 40}
    made = recipe(
        *SHORT, "data.eval=null", "objective.name=davidson",
        judge={"kind": "llm", "url": server.url, "model": "m", "retries": 0}, **{section: settings},
    )  # fmt: skip

    def stop(event):
        if event["event"] == "step" and event["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=stop)
    before = len(server.requests)
    summary = training.train(made)
    if section == "online":
        # Two questions a prompt; what was asked after the checkpoint of step 2 is asked again.
        assert summary.data["judge_questions"] == summary.data["judge_reply_tokens"] == 48
        assert len(server.requests) > before
    else:
        cost = json.loads((Path(made.output_dir) / "answers" / "01" / "counts.json").read_text())
        assert cost["judge_questions"] == len(server.requests) == before


TEMPLATE_ROWS = [
    {
        "prompt": [{"role": "user", "content": f"Say {i}.", "name": "ann"}],
        "chat_template_kwargs": {"style": "brief"},
    }
    for i in range(4)
]


def test_an_engine_is_sent_what_the_template_is_given(online, loopback, tmp_path, model_folder):
    prompts = tiny.write_rows(tmp_path / "prompts.jsonl", TEMPLATE_ROWS)
    asked = []

    def handle(path, body):
        asked.append(body)
        return 200, chat_reply(["calm", "bright"][: body.get("n", 1)])

    server = loopback(handle)
    engine = {"url": server.url, "model": "base", "retries": 0}
    settings = {"prompts": str(prompts), "engine": engine}
    run = components(online("chase=null", "data.chat_template_kwargs={date: today}", **settings))
    next(iter(run.reader))
    body = next(body for body in asked if "n" in body)
    assert body["chat_template_kwargs"] == {"date": "today", "style": "brief"}
    assert body["messages"][0]["name"] == "ann"


@pytest.mark.parametrize(
    ("extra", "warned"), [({}, False), ({"prompt_tokens": 5}, True), ("right", False)]
)
def test_an_engine_that_reads_other_prompts_is_warned_of(loopback, recwarn, extra, warned):
    encoder = Encoder(tiny.tokenizer(), max_length=64)
    prompt = Prompt(prompt="Describe the river.", source="p:1")
    right = len(encoder.prompt_ids(prompt.prompt, room=8))
    usage = {"prompt_tokens": right} if extra == "right" else extra
    server = loopback(lambda path, body: (200, chat_reply(["calm", "bright"], **usage)))
    engine = Engine(
        url=server.url, model="m", plain=False, max_concurrency=1, timeout_s=5, retries=0,
        api_key_env="NONE", extra_body={},
    )  # fmt: skip
    config = OnlineConfig(num_generations=2, max_new_tokens=8)
    generate_with_engine(engine, encoder, config, [prompt], seed=0)
    said = [str(w.message) for w in recwarn if "counts different prompt tokens" in str(w.message)]
    assert bool(said) == warned


def test_a_completion_longer_than_asked_for_is_none(loopback):
    encoder = Encoder(tiny.tokenizer(), max_length=64)
    server = loopback(lambda path, body: (200, chat_reply(["calm", "bright and " * 20])))
    engine = Engine(
        url=server.url, model="m", plain=False, max_concurrency=1, timeout_s=5, retries=0,
        api_key_env="NONE", extra_body={},
    )  # fmt: skip
    config = OnlineConfig(num_generations=2, max_new_tokens=4)
    with pytest.raises(ReplyError, match="tokens, where 4 were asked for"):
        generate_with_engine(engine, encoder, config, [Prompt("Hi.", source="p:1")], seed=0)
