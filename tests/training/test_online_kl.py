"""The reverse KL on fresh answers in a run: its gradient, its effect, and that it resumes."""

import pytest
import tiny
import torch

from fastslow import training
from fastslow.adapters import BASE, Modules
from fastslow.config import OnlineKlConfig
from fastslow.errors import ConfigError
from fastslow.records import Demonstration
from fastslow.scoring import Encoder
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.on_policy.online_kl import OnlineKl
from fastslow.training.policies.policies import Policies

KL = ("online_kl.weight=0.5", "online_kl.num_generations=3", "online_kl.max_new_tokens=6")


def moved_module():
    """A module on a tiny model, away from the base."""
    modules = Modules.attach(tiny.model(scale=2.0), ("policy",), rank=2, alpha=4.0)
    generator = torch.Generator().manual_seed(0)
    for parameter in modules.parameters("policy").values():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return modules


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_the_gradient_is_that_of_the_written_formula(at_once, temperature):
    modules = moved_module()
    policies = Policies(modules, bfloat16=False, max_length=96, pad_id=0)
    encoder = Encoder(tiny.tokenizer(), max_length=96)
    items = [
        encoder.encode(Demonstration(f"Describe the {thing}{tail}.", "x"))
        for thing, tail in (("river", ""), ("song", " and the road"), ("story", ""), ("road", "s"))
    ]
    config = OnlineKlConfig(
        weight=0.2, num_generations=3, max_new_tokens=7, temperature=temperature
    )
    online = OnlineKl(config, policies, encoder, MicroBatches(at_once))
    parameters = modules.parameters("policy")
    found = online.add_gradients(
        ["policy"], items, reference=BASE, seed=5, backward=lambda loss: loss.backward()
    )
    gradients = {key: p.grad.clone() for key, p in parameters.items()}

    # By hand, from logits of each answer alone.
    for parameter in parameters.values():
        parameter.grad = None
    prompts = sorted((encoder.prompt_ids(item.example.prompt, room=7) for item in items), key=len)
    answers = policies.generate(
        "policy", prompts, end_ids=sorted(encoder.end_ids), max_new_tokens=7, seed=5,
        temperature=temperature, num_generations=3,
    )  # fmt: skip

    def log_prob(name, prompt, answer):
        with modules.using(name):
            ids = torch.tensor([[*prompt, *answer]])
            logits = modules.causal_lm(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        logps = (logits / temperature).log_softmax(-1)
        return logps.gather(1, torch.tensor(answer)[:, None]).sum()

    policy, ratios = [], []
    for prompt, samples in zip(prompts, answers, strict=True):
        own = [log_prob("policy", prompt, sample.tokens) for sample in samples]
        with torch.no_grad():
            reference = [log_prob(BASE, prompt, sample.tokens) for sample in samples]
        policy.append(own)
        ratios.append([(p - r).item() for p, r in zip(own, reference, strict=True)])
    kl, total = sum(map(sum, ratios)) / 12, 0.0
    for own, gaps in zip(policy, ratios, strict=True):
        others = (12 * kl - sum(gaps)) / 9
        total = total + sum((gap - others) * p for p, gap in zip(own, gaps, strict=True))
    (0.2 * total / 12).backward()
    assert found["policy"]["reverse_kl"] == pytest.approx(kl, abs=1e-4)
    lengths = [len(sample.tokens) for samples in answers for sample in samples]
    assert found["policy"]["mean_length"] == sum(lengths) / 12
    for key, parameter in parameters.items():
        assert torch.allclose(gradients[key], parameter.grad, atol=1e-5), key
    assert max(value.abs().max() for value in gradients.values()) > 1e-3


def test_the_first_step_is_that_of_the_objective_alone(recipe, tmp_path):
    """At the reference the KL has no gradient, whatever its weight."""
    found = []
    for name, extra in (("plain", ()), ("hybrid", KL)):
        made = recipe(f"output_dir={tmp_path / name}", "train.max_steps=1", *extra)
        training.train(made)
        found.append(tiny.adapters(made.output_dir))
    assert tiny.same(*found)


def test_it_holds_the_policy_near_its_reference(recipe, tmp_path):
    kl = {}
    for weight in (None, 1.0):
        extra = ("online_kl=null",) if weight is None else (*KL, f"online_kl.weight={weight}")
        made = recipe(
            f"output_dir={tmp_path / str(weight)}", "train.max_steps=24", "train.epochs=2",
            "chase=null", "eval.num_prompts=16", "eval.num_generations=4", "eval.max_new_tokens=8",
            *extra,
        )  # fmt: skip
        final = training.train(made).eval["final"]
        kl[weight] = final["reverse_kl"]
        assert final["accuracy"] > 0.6
    assert kl[1.0] < 0.6 * kl[None]


def test_each_module_has_answers_and_an_estimate_of_its_own(recipe):
    made = recipe("train.max_steps=4", "chase.slow_every=2", *KL, "online_kl.prompts=2")
    training.train(made)
    logged = [step["modules"] for step in tiny.steps(made.output_dir)]
    assert [sorted(name for name in step if "reverse_kl" in step[name]) for step in logged] == [
        ["fast", "slow"], ["fast"], ["fast", "slow"], ["fast"],
    ]  # fmt: skip
    assert logged[0]["fast"]["reverse_kl"] == 0.0 != logged[2]["fast"]["reverse_kl"]
    assert logged[2]["fast"]["reverse_kl"] != logged[2]["slow"]["reverse_kl"]
    assert all(1 <= step["fast"]["mean_length"] <= 6 for step in logged)


def test_without_a_chase_the_modules_are_runs_of_their_own(recipe, tmp_path):
    selector = recipe(
        f"output_dir={tmp_path / 'race'}", "train.max_steps=3", "chase.alpha=0",
        "chase.slow_ratio=0.5", *KL,
    )  # fmt: skip
    training.train(selector)
    for name, rate in (("fast", 1e-2), ("slow", 5e-3)):
        alone = recipe(
            f"output_dir={tmp_path / name}", "train.max_steps=3", "chase=null",
            f"train.learning_rate={rate}", *KL,
        )  # fmt: skip
        training.train(alone)
        (own,) = tiny.adapters(alone.output_dir).values()
        assert tiny.same({name: own}, {name: tiny.adapters(selector.output_dir)[name]})


def test_resuming_is_as_if_never_stopped(recipe, tmp_path):
    options = ("train.max_steps=6", "checkpoint.every=2", "lora.dropout=0.2", *KL)
    whole = recipe(f"output_dir={tmp_path / 'whole'}", *options)
    training.train(whole)
    broken = recipe(f"output_dir={tmp_path / 'broken'}", *options)

    def stop(event):
        if event["event"] == "step" and event["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(broken, listener=stop)
    training.train(broken)
    assert tiny.same(tiny.adapters(whole.output_dir), tiny.adapters(broken.output_dir))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("online_kl.num_generations=2",), "online_kl.weight: is missing"),
        (("online_kl.weight=0",), "online_kl.weight: got 0"),
        ((*KL, "online_kl.max_new_tokens=96"), "online_kl.max_new_tokens: got 96; must be below"),
        ((*KL, "online_kl.prompts=9"), "online_kl.prompts: got 9; must not be above"),
    ],
)
def test_what_cannot_be_is_refused(recipe, overrides, message):
    with pytest.raises(ConfigError, match=message):
        recipe(*overrides)
