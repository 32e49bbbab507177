"""A step of the reference towards the policy, by arithmetic."""

import torch

from fastslow.dynamics import ema_update


def tensors(seed, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=dtype) for shape in ((3, 2), (2, 5))]


def test_the_reference_goes_the_stated_share_of_the_way():
    reference, policy = tensors(0, torch.float64), tensors(1, torch.float64)
    expected = [0.75 * own + 0.25 * its for own, its in zip(reference, policy, strict=True)]
    before = [its.clone() for its in policy]
    ema_update(reference, policy, share=0.25)
    for own, wanted in zip(reference, expected, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-15, atol=1e-15)
    assert all(torch.equal(its, was) for its, was in zip(policy, before, strict=True))


def test_the_whole_way_is_a_copy_bit_for_bit():
    reference, policy = tensors(0), tensors(1)
    ema_update(reference, policy, share=1.0)
    assert all(torch.equal(own, its) for own, its in zip(reference, policy, strict=True))
    assert all(own is not its for own, its in zip(reference, policy, strict=True))


def test_every_step_a_little_is_an_exponential_moving_average():
    reference, policies = [torch.tensor([2.0])], [[torch.tensor([float(i)])] for i in (5, -1, 4)]
    for policy in policies:
        ema_update(reference, policy, share=0.1)
    # 0.9^3 2 + 0.1 (0.81 * 5 + 0.9 * -1 + 4) = 1.458 + 0.1 (4.05 - 0.9 + 4) = 2.173
    torch.testing.assert_close(reference[0], torch.tensor([2.173]))


def test_gradients_of_the_policy_stay_out():
    policy = torch.ones(2, requires_grad=True)
    reference = torch.zeros(2)
    ema_update([reference], [policy], share=0.5)
    assert not reference.requires_grad and policy.grad is None
