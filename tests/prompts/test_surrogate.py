"""The surrogate against closed forms, brute force and finite differences."""

import pytest
import torch
from torch import nn

from fastslow.prompts.surrogate import NtkKernel, Surrogate


def points(count, dim, *, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=draw, dtype=torch.float64)


def by_brute_force(kernel, a, b):
    """The kernel from the Jacobian that autograd makes of every single parameter."""
    parts = []
    for weight, bias in zip(kernel.weights, kernel.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.weight.data, layer.bias.data = weight, bias
        parts += [layer, nn.ReLU()]
    network = nn.Sequential(*parts[:-1])

    def jacobian(point):
        network.zero_grad()
        network(point).sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

    return torch.stack([jacobian(p) for p in a]) @ torch.stack([jacobian(p) for p in b]).T


def test_a_net_of_two_parameters_has_the_kernel_of_its_two_derivatives():
    """phi(z) = w z + b, so k(z, z') = z z' + 1."""
    a, b = torch.tensor([[2.0], [-1.0]]).double(), torch.tensor([[3.0], [0.5]]).double()
    assert NtkKernel(1, widths=())(a, b).tolist() == [[7.0, 2.0], [-2.0, 0.5]]


@pytest.mark.parametrize("widths", [(), (1,), (32, 32), (5, 3, 4)])
def test_the_kernel_is_that_of_all_derivatives(widths):
    kernel, a, b = NtkKernel(6, widths=widths), points(5, 6), points(4, 6, seed=1)
    torch.testing.assert_close(kernel(a, b), by_brute_force(kernel, a, b), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(kernel.diagonal(a), kernel(a, a).diagonal(), rtol=1e-12, atol=0.0)


def test_the_kernel_is_symmetric_and_positive_semidefinite():
    matrix = NtkKernel(8)(z := points(30, 8), z)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-13, atol=0.0)
    values = torch.linalg.eigvalsh(matrix)
    assert values.min() > -1e-10 * values.max()


def test_weights_are_normal_and_the_seed_decides_them():
    first, again, other = NtkKernel(200), NtkKernel(200), NtkKernel(200, seed=1)
    assert [tuple(weight.shape) for weight in first.weights] == [(32, 200), (32, 32), (1, 32)]
    assert torch.equal(first.weights[0], again.weights[0])
    assert not torch.equal(first.weights[0], other.weights[0])
    assert abs(float(first.weights[0].std()) - 1) < 0.05


def test_the_posterior_is_the_closed_form():
    z, y, new = points(12, 5), points(12, 1, seed=3)[:, 0], points(3, 5, seed=4)
    kernel, noise = NtkKernel(5), 1e-2
    surrogate = Surrogate(kernel, z, y, noise=noise)
    low, span = z.amin(0), z.amax(0) - z.amin(0)
    inside, at = (z - low) / span, (new - low) / span
    inverse = (kernel(inside, inside) + noise * torch.eye(12).double()).inverse()
    across = kernel(at, inside)
    torch.testing.assert_close(surrogate.mean(new), across @ inverse @ y, rtol=1e-6, atol=1e-8)
    variance = kernel(at, at) - across @ inverse @ across.T
    torch.testing.assert_close(surrogate.variance(new), variance.diagonal(), rtol=1e-6, atol=1e-6)


def test_the_gradient_of_the_mean_agrees_with_finite_differences_and_the_closed_form():
    z, y, kernel = points(20, 7), points(20, 1, seed=5)[:, 0], NtkKernel(7)
    surrogate, point, step = Surrogate(kernel, z, y, noise=1e-4), points(1, 7, seed=6)[0], 1e-6
    found = surrogate.predict(point).gradient
    moved = step * torch.eye(7).double()
    differences = (surrogate.mean(point + moved) - surrogate.mean(point - moved)) / (2 * step)
    torch.testing.assert_close(found, differences, rtol=1e-5, atol=1e-7)
    # d k(z)^T / dz (K + noise I)^-1 y, by another way to the kernel's derivative.
    low, span = z.amin(0), z.amax(0) - z.amin(0)
    inside = (z - low) / span
    weights = torch.linalg.solve(kernel(inside, inside) + 1e-4 * torch.eye(20).double(), y)
    of_kernel = torch.autograd.functional.jacobian(
        lambda at: kernel(((at - low) / span)[None], inside)[0], point
    )
    torch.testing.assert_close(found, of_kernel.T @ weights, rtol=1e-8, atol=1e-10)


def test_without_noise_the_mean_goes_through_the_scores_and_nothing_is_uncertain_there():
    z, y = points(10, 6), points(10, 1, seed=2)[:, 0]
    surrogate = Surrogate(NtkKernel(6), z, y, noise=1e-10)
    torch.testing.assert_close(surrogate.mean(z), y, rtol=0, atol=1e-6)
    assert surrogate.variance(z).abs().max() < 1e-6
    assert surrogate.variance(points(5, 6, seed=9)).min() > 1.0


def test_at_an_evaluated_point_the_variance_is_at_most_the_noise():
    z = points(20, 6)
    surrogate = Surrogate(NtkKernel(6), z, torch.zeros(20).double(), noise=1e-4)
    variance = surrogate.variance(z)
    assert variance.max() <= 1.01e-4 and variance.min() > 0


def test_a_coordinate_that_is_equal_in_all_points_is_not_divided_by_zero():
    z = points(6, 3)
    z[:, 1] = 4.0
    surrogate = Surrogate(NtkKernel(3), z, torch.arange(6).double(), noise=1e-4)
    found = surrogate.predict(torch.tensor([0.5, 5.0, -0.5]).double())
    assert torch.isfinite(found.gradient).all() and found.variance > 0
    alone = Surrogate(NtkKernel(3), z[:1], torch.ones(1).double(), noise=1e-4).predict(z[0])
    assert alone.mean == pytest.approx(1, abs=1e-4) and torch.isfinite(alone.gradient).all()


def test_the_scale_of_the_embeddings_does_not_matter_to_the_mean():
    z, y, new = points(8, 4), points(8, 1, seed=1)[:, 0], points(3, 4, seed=2)
    plain = Surrogate(NtkKernel(4), z, y, noise=1e-4).mean(new)
    scaled = Surrogate(NtkKernel(4), 1000 * z - 7, y, noise=1e-4).mean(1000 * new - 7)
    torch.testing.assert_close(plain, scaled, rtol=1e-6, atol=1e-8)
