"""A Gaussian process on embeddings whose kernel is the empirical NTK of a small ReLU network.

    k(z, z') = <d phi(z) / d theta, d phi(z') / d theta>,  phi a network with fixed N(0, 1) weights

The posterior is exact, in float64, with mean 0 before anything was observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WIDTHS = (32, 32)
"""Units of the hidden layers."""


class NtkKernel:
    """The empirical neural tangent kernel of a ReLU network with one output.

    Args:
        dim: coordinates of a point.
        widths: units of the hidden layers; without any the network is linear.
        seed: draws weights and biases from N(0, 1).
    """

    def __init__(self, dim: int, *, widths: Sequence[int] = WIDTHS, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        sizes = (dim, *widths, 1)
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        for given, made in zip(sizes, sizes[1:], strict=False):
            both = torch.randn(made, given + 1, generator=generator, dtype=torch.float64)
            self.weights.append(both[:, :given])
            self.biases.append(both[:, given])

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The kernel of each of N points with each of M, [N, M].

        Of a layer with inputs h and output gradients d, the weights' gradient is d h^T and the
        biases' is d, so that a layer adds <d, d'> (<h, h'> + 1) and no Jacobian is ever made.
        """
        kernel = a.new_zeros(len(a), len(b))
        for of_a, of_b in zip(self._layers(a), self._layers(b), strict=True):
            kernel = kernel + (of_a[1] @ of_b[1].T) * (of_a[0] @ of_b[0].T + 1)
        return kernel

    def diagonal(self, a: Tensor) -> Tensor:
        """The kernel of each point with itself, [N]."""
        kernel = a.new_zeros(len(a))
        for given, gradient in self._layers(a):
            kernel = kernel + gradient.square().sum(1) * (given.square().sum(1) + 1)
        return kernel

    def _layers(self, points: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each layer its inputs, and the gradients of phi with respect to its outputs."""
        inputs, active = [points], []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            outputs = inputs[-1] @ weight.T + bias
            inputs.append(outputs.relu())
            active.append((outputs > 0).to(outputs.dtype))
        gradients = [points.new_ones(len(points), 1)]
        for weight, mask in zip(reversed(self.weights[1:]), reversed(active), strict=True):
            gradients.insert(0, (gradients[0] @ weight) * mask)
        return list(zip(inputs, gradients, strict=True))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a surrogate makes of one point."""

    mean: float
    variance: float
    """Of the value, without the noise of an observation."""
    gradient: Tensor
    """Of the mean with respect to the point as it was given, not scaled, [d]."""


class Surrogate:
    """The posterior, given N points and their scores.

    Coordinates are scaled so that over these points each runs from 0 to 1; one that is equal in all
    of them is only shifted.

    Args:
        points: [N, d], float64.
        scores: [N], float64, not scaled.
        noise: variance of an observation.
    """

    def __init__(self, kernel: NtkKernel, points: Tensor, scores: Tensor, *, noise: float) -> None:
        self._kernel = kernel
        self._low = points.amin(0)
        span = points.amax(0) - self._low
        self._span = torch.where(span > 0, span, torch.ones_like(span))
        self._points = self._scaled(points)
        matrix = kernel(self._points, self._points)
        matrix = matrix + noise * torch.eye(len(points), dtype=matrix.dtype)
        self._root = torch.linalg.cholesky(matrix)
        self._weights = torch.cholesky_solve(scores[:, None], self._root)[:, 0]

    def mean(self, points: Tensor) -> Tensor:
        """k(z)^T (K + noise I)^-1 y of each point, [N]."""
        across: Tensor = self._kernel(self._scaled(points), self._points)
        return torch.mv(across, self._weights)

    def variance(self, points: Tensor) -> Tensor:
        """k(z, z) - k(z)^T (K + noise I)^-1 k(z) of each point, [N]."""
        scaled = self._scaled(points)
        across = self._kernel(self._points, scaled)
        explained = torch.linalg.solve_triangular(self._root, across, upper=False)
        variance: Tensor = self._kernel.diagonal(scaled) - explained.square().sum(0)
        return variance

    def predict(self, point: Tensor) -> Prediction:
        """Mean, variance and the mean's gradient at one point, [d]."""
        z = point.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            mean = self.mean(z[None])[0]
            (gradient,) = torch.autograd.grad(mean, z)
        with torch.no_grad():
            variance = self.variance(point[None])[0]
        return Prediction(float(mean.detach()), float(variance), gradient)

    def _scaled(self, points: Tensor) -> Tensor:
        scaled: Tensor = (points - self._low) / self._span
        return scaled
