"""The chase: its gradients by arithmetic, and who leads."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from fastslow.dynamics import LeaderSelector, chase_terms


def gradients(leader, chaser, alpha=1.0, beta=0.1, objective=True, detached=True):
    m_l = torch.tensor([leader], dtype=torch.float64, requires_grad=True)
    m_c = torch.tensor([chaser], dtype=torch.float64, requires_grad=True)
    if detached:
        terms = chase_terms(m_l, m_c, alpha=alpha, beta=beta)
    else:
        term = -alpha * logsigmoid(beta * (m_l - m_c))
        terms = (term, -term)
    loss = sum(terms)
    if objective:
        loss = loss - logsigmoid(beta * m_l) - logsigmoid(beta * m_c)
    loss.backward()
    return m_l.grad.item(), m_c.grad.item()


# With u = alpha beta sigmoid(-beta gap) and the DPO slope beta sigmoid(-beta m):
# (20, 0): u = 0.1 * sigmoid(-2) = 0.01192, slopes 0.1 * sigmoid(-2) and 0.1 * sigmoid(0) = 0.05
@pytest.mark.parametrize(
    ("margins", "with_chase", "plain"),
    [
        ((20.0, 0.0), (-0.0238, -0.0619), (-0.0119, -0.0500)),
        ((60.0, 40.0), (-0.0122, -0.0137), (-0.0002, -0.0018)),
        ((200.0, 190.0), (-0.0269, -0.0269), (0.0, 0.0)),
    ],
)
def test_gradients_by_arithmetic(margins, with_chase, plain):
    assert gradients(*margins) == pytest.approx(with_chase, abs=6e-5)
    # Without stop-gradients the two terms cancel and plain DPO is left.
    assert gradients(*margins, detached=False) == pytest.approx(plain, abs=6e-5)


@pytest.mark.parametrize("gap", [-300.0, -5.0, 0.0, 5.0, 300.0])
def test_both_modules_get_the_same_push_up_the_margin(gap):
    alpha, beta = 0.4, 0.1
    push = alpha * beta / (1 + math.exp(beta * gap))
    leader, chaser = gradients(gap, 0.0, alpha=alpha, beta=beta, objective=False)
    assert leader == pytest.approx(-push, rel=1e-9, abs=1e-300)
    assert chaser == pytest.approx(leader, rel=1e-12, abs=1e-300)


def test_values_at_a_tie_and_under_exchange():
    m = torch.tensor([3.0], dtype=torch.float64)
    leader, chaser = chase_terms(m, m, alpha=0.5, beta=0.1)
    assert leader.item() == pytest.approx(0.5 * math.log(2))
    assert chaser.item() == pytest.approx(-0.5 * math.log(2))
    # L(-z) - L(z) = z with z = beta * gap
    other = m + 20
    forward, _ = chase_terms(other, m, alpha=1.0, beta=0.1)
    backward, _ = chase_terms(m, other, alpha=1.0, beta=0.1)
    assert (backward - forward).item() == pytest.approx(2.0)


def test_alpha_zero_adds_exactly_nothing():
    assert gradients(1e4, -1e4, alpha=0.0, objective=False) == (0.0, 0.0)
    with_zero = gradients(7.0, 3.0, alpha=0.0)
    m = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    (-logsigmoid(0.1 * m)).backward()
    assert with_zero[0] == m.grad.item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_gaps_stay_finite(dtype):
    big = torch.tensor([1e4, -1e4], dtype=dtype, requires_grad=True)
    zero = torch.zeros(2, dtype=dtype)
    leader, chaser = chase_terms(big, zero, alpha=1.0, beta=1.0)
    leader.sum().backward()
    assert leader.isfinite().all() and chaser.isfinite().all() and big.grad.isfinite().all()


@pytest.mark.parametrize(("alpha", "p"), [(0.0, 0.8), (0.1, 0.8), (0.1, 0.94), (0.5, 0.6)])
def test_where_labels_are_noisy_the_chase_makes_both_surer_than_people_are(alpha, p):
    # Labels with probability p for one answer. The expected gradient up the leader's margin is
    # p - sigmoid(b D) + alpha (p - sigmoid(b (m_L - m_C))), and so is the chaser's: they meet at
    # sigmoid(b D) = p + alpha (p - 1/2), which exists only below p = (1 + alpha/2) / (1 + alpha).
    beta = 0.5
    margins = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)

    def expected():
        total = 0.0
        for sign, weight in ((1, p), (-1, 1 - p)):
            leader, chaser = sign * margins[0], sign * margins[1]
            terms = chase_terms(leader, chaser, alpha=alpha, beta=beta)
            total = total + weight * (sum(terms) - logsigmoid(beta * leader))
            total = total - weight * logsigmoid(beta * chaser)
        return total

    optimizer = torch.optim.SGD([margins], lr=4.0)
    for _ in range(1500):
        optimizer.zero_grad()
        expected().backward()
        optimizer.step()
    settled = torch.sigmoid(beta * margins.detach())
    assert settled.tolist() == pytest.approx([p + alpha * (p - 0.5)] * 2, abs=1e-6)


def selector(**options):
    return LeaderSelector(("fast", "slow"), **options)


def test_the_lower_loss_since_the_last_check_leads():
    run = selector(swap_every=2)
    run.record({"fast": 5.0, "slow": 4.0})
    assert not run.finish_step() and run.leader == "fast"
    run.record({"fast": 1.0, "slow": 1.5})
    assert run.finish_step() and run.leader == "slow"  # 6.0 against 5.5
    run.record({"fast": 1.0, "slow": 1.0})
    assert not run.finish_step()
    run.record({"fast": 1.0, "slow": 1.0})
    assert not run.finish_step() and run.leader == "slow"  # a tie keeps the leader


def test_a_race_with_memory_counts_earlier_losses_less_and_less():
    run = selector(swap_every=1, decay=0.5)
    run.record({"fast": 1.0, "slow": 4.0})
    assert not run.finish_step()
    run.record({"fast": 3.0, "slow": 2.0})
    assert not run.finish_step()  # 3 + 1/2 against 2 + 4/2: the paper's rule would have swapped
    run.record({"fast": 3.0, "slow": 2.0})
    assert run.finish_step() and run.leader == "slow"  # 3 + 3.5/2 against 2 + 4/2
    assert run.loss_sums == {"fast": 4.75 / 2, "slow": 4.0 / 2}


def test_swap_never_keeps_the_leader():
    run = selector(swap_every=1, may_swap=False)
    run.record({"fast": 9.0, "slow": 1.0})
    assert not run.finish_step() and run.leader == "fast"


def test_a_race_of_one_and_of_three():
    alone = LeaderSelector(("policy",), swap_every=1)
    alone.record({"policy": 1.0})
    assert not alone.finish_step() and alone.leader == "policy"
    three = LeaderSelector(("a", "b", "c"), swap_every=1)
    three.record({"a": 3.0, "b": 2.0, "c": 1.0})
    assert three.finish_step() and three.leader == "c"


def test_state_goes_through_json_and_back():
    import json

    first, second = selector(swap_every=3), selector(swap_every=3)
    first.record({"fast": 1 / 3, "slow": 0.1})
    first.finish_step()
    second.load_state(json.loads(json.dumps(first.state())))
    assert second == first
