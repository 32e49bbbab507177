"""Held-out measurements against sums done by hand."""

import pytest
import tiny
import torch

from fastslow.adapters import BASE, Modules
from fastslow.config import EvalConfig
from fastslow.objectives import make_objective
from fastslow.records import Pair
from fastslow.sampling import generate
from fastslow.scoring import Encoder
from fastslow.training.heldout import HeldOut
from fastslow.training.policies import Policies

MODULES = Modules.attach(tiny.model(), ("policy",), rank=4, alpha=8.0)
for parameter in MODULES.parameters("policy").values():
    parameter.data.add_(0.05)
POLICIES = Policies(MODULES, bfloat16=False, max_length=96, pad_id=0)
ENCODER = Encoder(tiny.tokenizer(), max_length=96)
PAIRS = [
    ENCODER.encode(Pair(f"Say {i % 7}.", row["chosen"], row["rejected"]))
    for i, row in enumerate(tiny.rows(12))
]


def measure(name, **options):
    settings = EvalConfig(**({"samples": 5, "sample_tokens": 10} | options))
    return HeldOut(PAIRS, ENCODER, sampling=settings, seed=1).measure(
        POLICIES,
        name,
        reference=BASE,
        objective=make_objective("dpo"),
        progress=lambda done, total: None,
    )


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
    loss = -torch.nn.functional.logsigmoid(0.1 * delta).mean().item()
    assert measured.loss == pytest.approx(loss, abs=1e-4)


def test_reverse_kl_is_the_mean_log_ratio_of_the_policys_own_answers():
    measured = measure("policy")
    distinct = list(dict.fromkeys(item.pair.prompt for item in PAIRS))[:5]
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


def test_the_reference_against_itself_is_exactly_nothing():
    measured = measure(BASE)
    assert (measured.accuracy, measured.margin, measured.reverse_kl) == (0.5, 0.0, 0.0)


def test_without_samples_there_is_no_kl():
    measured = measure("policy", samples=0)
    assert (measured.reverse_kl, measured.mean_length, measured.ended) == (None, None, None)
