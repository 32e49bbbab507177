"""Held-out measurements against sums done by hand."""

import pytest
import tiny
import torch

from fastslow.adapters import BASE, Modules
from fastslow.config import EvalConfig
from fastslow.judges import scored
from fastslow.objectives import make_objective
from fastslow.records import Pair, Rating
from fastslow.sampling import generate
from fastslow.scoring import Encoder, Tree
from fastslow.training.loop.evaluator import Evaluator
from fastslow.training.policies import policies
from fastslow.training.policies.policies import Policies

MODULES = Modules.attach(tiny.model(), ("policy",), rank=4, alpha=8.0)
for parameter in MODULES.parameters("policy").values():
    parameter.data.add_(0.05)
POLICIES = Policies(MODULES, bfloat16=False, max_length=96, pad_id=0)
ENCODER = Encoder(tiny.tokenizer(), max_length=96)
PAIRS = [
    ENCODER.encode(Pair(f"Say {i % 7}.", row["chosen"], row["rejected"]))
    for i, row in enumerate(tiny.rows(12))
]


class Rewarding:
    name = "fake"

    def judge(self, asked):
        return [scored([fake_reward(one.prompt, a) for a in one.answers]) for one in asked]


def held_out(judge=None, **options):
    settings = EvalConfig(**({"num_prompts": 5, "max_new_tokens": 10} | options))
    return Evaluator(PAIRS, ENCODER, make_objective("dpo"), sampling=settings, seed=1, judge=judge)


def measure_with(held, name, *, reference=BASE):
    return held.evaluate(
        POLICIES,
        name,
        reference=reference,
        progress=lambda done, total: None,
    )


def measure(name, **options):
    return measure_with(held_out(**options), name)


def score(name, prompt, response):
    from fastslow.scoring import Scorer

    with MODULES.using(name), torch.no_grad():
        return (
            Scorer(MODULES.causal_lm)
            .score_alone(prompt, response, device=torch.device("cpu"))
            .item()
        )


def test_means_by_hand():
    measured = measure("policy")
    rows = []
    for item in PAIRS:
        values = [
            [score(name, item.tree.prompt, response) for response in item.tree.responses]
            for name in ("policy", BASE)
        ]
        rows.append(values)
    (sw, sl), (rw, rl) = torch.tensor(rows, dtype=torch.float64).permute(1, 2, 0)
    delta = (sw - rw) - (sl - rl)
    assert measured.pairs == 12
    assert measured.margin == pytest.approx(delta.mean().item(), abs=1e-3)
    assert measured.accuracy == pytest.approx((delta > 0).double().mean().item())
    assert measured.chosen_logp == pytest.approx(sw.mean().item(), abs=1e-3)
    assert measured.rejected_logp == pytest.approx(sl.mean().item(), abs=1e-3)
    assert measured.chosen_log_ratio == pytest.approx((sw - rw).mean().item(), abs=1e-3)
    lengths = [len(item.tree.responses[0]) for item in PAIRS]
    assert measured.chosen_length == sum(lengths) / 12 and len(set(lengths)) > 1
    loss = -torch.nn.functional.logsigmoid(0.1 * delta).mean().item()
    assert measured.loss == pytest.approx(loss, abs=1e-4)


def test_chosen_responses_of_ratings_are_those_that_were_liked():
    rated = [
        ENCODER.encode(Rating(f"Say {i}.", row["chosen"] * (i + 1), desirable=i < 2))
        for i, row in enumerate(tiny.rows(4))
    ]
    lengths = [len(item.tree.responses[0]) for item in rated]
    options = {"sampling": EvalConfig(num_prompts=0), "seed": 1}
    kto = make_objective("kto")
    found = measure_with(Evaluator(rated, ENCODER, kto, **options), "policy")
    assert found.chosen_length == sum(lengths[:2]) / 2 != sum(lengths) / 4
    none = measure_with(Evaluator(rated[2:], ENCODER, kto, **options), "policy")
    assert none.chosen_length is None is none.chosen_log_ratio


def test_reverse_kl_is_the_mean_log_ratio_of_the_policys_own_answers():
    measured = measure("policy")
    distinct = list(dict.fromkeys(item.example.prompt for item in PAIRS))[:5]
    prompts = sorted((ENCODER.prompt_ids(p, room=10) for p in distinct), key=len)
    with MODULES.using("policy"):
        answers = generate(
            MODULES.causal_lm, prompts, end_ids=[2], pad_id=0, max_new_tokens=10, seed=1
        )
    ratios = [
        score("policy", prompt, a.tokens) - score(BASE, prompt, a.tokens)
        for prompt, (a,) in zip(prompts, answers, strict=True)
    ]
    assert measured.reverse_kl == pytest.approx(sum(ratios) / 5, abs=1e-3)
    assert measured.mean_length == sum(len(a.tokens) for (a,) in answers) / 5


def test_long_answers_are_scored_in_several_passes(monkeypatch):
    whole, sizes = measure("policy", num_generations=2), []
    batch = Policies.batch

    def watched(self, trees):
        sizes.append(sum(tree.num_tokens for tree in trees))
        return batch(self, trees)

    monkeypatch.setattr(Policies, "batch", watched)
    monkeypatch.setattr(policies, "TOKENS_AT_ONCE", 60)
    parts = measure("policy", num_generations=2)
    answers = sizes[1:]  # Behind the held-out pairs.
    assert len(answers) > 2 and sum(answers) > 120 >= 60 >= max(answers)
    assert parts.reverse_kl == pytest.approx(whole.reverse_kl, abs=1e-5)
    # A long tree goes alone.
    trees = [Tree((1,) * count, ()) for count in (30, 30, 1, 70, 2)]
    assert [len(some) for some in policies.in_passes(trees)] == [2, 1, 1, 1]


def test_the_reference_against_itself_is_exactly_nothing():
    measured = measure(BASE)
    assert (measured.accuracy, measured.margin, measured.reverse_kl) == (0.5, 0.0, 0.0)


def test_without_samples_there_is_no_kl():
    measured = measure("policy", num_prompts=0)
    assert (measured.reverse_kl, measured.mean_length, measured.truncated) == (None, None, None)


def fake_reward(prompt, answer):
    """Equal for many answers, so that there are ties."""
    return float(len(answer) % 3) + prompt.count("3")


def answers_of(name, prompts, *, count):
    with MODULES.using(name):
        rows = generate(
            MODULES.causal_lm, prompts, end_ids=[2], pad_id=0, max_new_tokens=10, seed=1,
            num_generations=count,
        )  # fmt: skip
    decode = ENCODER.tokenizer.decode
    return [[decode(a.tokens, skip_special_tokens=True) for a in row] for row in rows]


@pytest.mark.parametrize("count", [1, 3])
def test_reward_and_win_rate_by_hand(count):
    distinct = list(dict.fromkeys(item.example.prompt for item in PAIRS))[:5]
    ordered = sorted(distinct, key=lambda p: len(ENCODER.prompt_ids(p, room=10)))
    ids = [ENCODER.prompt_ids(p, room=10) for p in ordered]
    rewards = {
        name: [
            fake_reward(prompt, answer)
            for prompt, answers in zip(ordered, answers_of(name, ids, count=count), strict=True)
            for answer in answers
        ]
        for name in ("policy", BASE)
    }
    mine, its = rewards["policy"], rewards[BASE]
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(mine, its, strict=True))
    assert any(a == b for a, b in zip(mine, its, strict=True))
    total = 5 * count
    assert len(mine) == total

    measured = measure("policy", judge=Rewarding(), num_generations=count)
    assert measured.reward == pytest.approx(sum(mine) / total)
    assert measured.win_rate == pytest.approx(wins / total)
    # The ends of Wilson's interval solve (p - w)^2 = z^2 p (1 - p) / n, where n counts prompts:
    # more answers to one of them say nothing of others.
    share, z = wins / total, 1.959963984540054
    for end in (measured.win_rate_low, measured.win_rate_high):
        assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / 5, rel=1e-6)
    assert measured.win_rate_low < share < measured.win_rate_high


def test_the_base_against_itself_wins_half():
    measured = measure(BASE, judge=Rewarding(), num_generations=2)
    assert measured.win_rate == 0.5
    unknown = measure("policy")
    assert (unknown.reward, unknown.win_rate, unknown.win_rate_low) == (None, None, None)


class LikingThePlace:
    """A judge to whom the first answer is the best, whatever it says."""

    name, cost = "place", {}

    def judge(self, asked):
        return [scored([1.0, 0.0]) for _ in asked]


@pytest.mark.parametrize(("prompts", "count", "share"), [(4, 1, 0.5), (4, 3, 0.5), (3, 1, 2 / 3)])
def test_a_liking_for_a_place_wins_nothing(prompts, count, share):
    """But for one answer where they are odd."""
    facts = {"num_prompts": prompts, "num_generations": count}
    for policy in ("policy", BASE):
        assert measure(policy, judge=LikingThePlace(), **facts).win_rate == pytest.approx(share)


def test_the_bases_answers_are_drawn_once(monkeypatch):
    asked = []
    plain = Policies.generate

    def counted(self, name, prompts, **settings):
        asked.append(name)
        return plain(self, name, prompts, **settings)

    monkeypatch.setattr(Policies, "generate", counted)
    held = held_out(judge=Rewarding())
    first, again, base = (measure_with(held, name) for name in ("policy", "policy", BASE))
    assert asked == ["policy", BASE, "policy", BASE]
    assert first == again and base.win_rate == 0.5


def test_a_prompt_with_other_tools_is_another_prompt():
    asked = [{}, {"tools": [{"name": "a"}]}, {"tools": [{"name": "b"}]}, {"tools": [{"name": "a"}]}]
    pairs = [ENCODER.encode(Pair("Say.", "yes", "no", template_kwargs=given)) for given in asked]
    sampling = EvalConfig(num_prompts=9, max_new_tokens=4)
    held = Evaluator(pairs, ENCODER, make_objective("dpo"), sampling=sampling, seed=1)
    assert held.num_answers == 3


def test_answers_side_by_side():
    names = {"before": BASE, "after": "policy"}
    shown = held_out(num_prompts=7, judge=Rewarding(), num_generations=2).side_by_side(
        POLICIES, names
    )
    distinct = list(dict.fromkeys(item.example.prompt for item in PAIRS))
    assert [row["prompt"] for row in shown] == distinct[:6]
    ids = [ENCODER.prompt_ids(p, room=10) for p in distinct[:6]]
    for label, name in names.items():
        expected = [answers[0] for answers in answers_of(name, ids, count=2)]
        assert [row["answers"][label] for row in shown] == expected
        assert [row["rewards"][label] for row in shown] == [
            fake_reward(prompt, answer)
            for prompt, answer in zip(distinct[:6], expected, strict=True)
        ]
    assert {row["domain"] for row in shown} == {"default"}
    without = held_out(num_prompts=2).side_by_side(POLICIES, names)
    assert len(without) == 2 and without[0]["rewards"] is None
    assert held_out(num_prompts=0).side_by_side(POLICIES, names) == []


def test_a_measurement_is_against_the_reference_it_names_also_after_another():
    held = held_out(num_prompts=0)
    assert measure_with(held, "policy").margin != 0.0
    assert measure_with(held, "policy", reference="policy").margin == 0.0
    assert measure_with(held, "policy") == measure_with(held_out(num_prompts=0), "policy")
