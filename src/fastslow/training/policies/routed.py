"""Weights that depend on the prompt: each request is served by one module of the bank, or by none.

One fixed sum cannot please domains that contradict each other. The router is a softmax regression
on the frozen base's mean prompt embedding, of words and of last hidden states. It learns from the
replay buffers which module to choose: for each domain the one with the lowest mean objective there,
or none if no module beats the base. Choosing one adapter a request is what engines that hold many
adapters serve.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from fastslow.adapters import Modules
from fastslow.errors import StateError
from fastslow.foreign_files import read_json
from fastslow.sampling import Completion
from fastslow.scoring import Scores, Tree, TreeBatch
from fastslow.training.policies.policies import Policies

ROUTED = "routed"
"""Name of the policy that chooses a module for each prompt."""
DECAY = 1e-2
"""Weight of the squared norm of the regression, features having unit variance."""


class Router:
    """Chooses a name for a prompt's embedding.

    Args:
        choices: what can be chosen, BASE among them.
        tensors: `mean`, `scale` [d] of the features; `weight` [C, d], `bias` [C].
    """

    def __init__(self, choices: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        self.choices = tuple(choices)
        self._tensors = dict(tensors)

    @classmethod
    def fit(cls, choices: Sequence[str], features: Tensor, labels: Tensor) -> "Router":
        """The regularised softmax regression of labels [N] (indices of choices) on features [N, d].

        The optimum is unique; it is found by L-BFGS in float64, without chance.
        """
        features = features.cpu().double()
        mean, scale = features.mean(0), features.std(0, unbiased=False).clamp_min(1e-6)
        scaled = (features - mean) / scale
        weight = torch.zeros(len(choices), features.shape[1], dtype=torch.float64)
        bias = torch.zeros(len(choices), dtype=torch.float64)
        parameters = [weight.requires_grad_(), bias.requires_grad_()]
        optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(scaled @ weight.T + bias, labels)
            loss = loss + DECAY * (weight.square().sum() + bias.square().sum())
            loss.backward()
            return loss

        optimizer.step(closure)
        found = {"mean": mean, "scale": scale, "weight": weight, "bias": bias}
        return cls(choices, {key: value.detach().float() for key, value in found.items()})

    def probabilities(self, features: Tensor) -> Tensor:
        """Softmax over the choices for each embedding, [N, C]."""
        t = {key: value.to(features.device) for key, value in self._tensors.items()}
        scaled = (features - t["mean"]) / t["scale"]
        return (scaled @ t["weight"].T + t["bias"]).softmax(-1)

    def choose(self, features: Tensor) -> list[str]:
        """The likeliest choice for each embedding."""
        return [self.choices[i] for i in self.probabilities(features).argmax(-1).tolist()]

    def save(self, folder: Path) -> None:
        """Write `router.json` and `router.safetensors`."""
        save_file(self._tensors, folder / "router.safetensors")
        text = json.dumps({"choices": list(self.choices)}, indent=1) + "\n"
        (folder / "router.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Router":
        """The router that `save` wrote. Raises StateError where there is none."""
        try:
            shape = dict[str, list[str]]
            choices = read_json(folder / "router.json", shape)["choices"]
            tensors = load_file(folder / "router.safetensors")
            count, width = tensors["weight"].shape
            shapes = {"mean": (width,), "scale": (width,), "weight": (count, width)}
            shapes["bias"] = (len(choices),)
            fits = {key: tuple(value.shape) for key, value in tensors.items()} == shapes
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            raise StateError(f"{folder} holds no router that can be read") from None
        if not fits or count != len(choices):
            raise StateError(f"{folder}: router.json and router.safetensors do not fit each other")
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise StateError(f"{folder}: router.safetensors holds numbers that are not finite")
        return cls(choices, tensors)


def _first_responses(trees: Sequence[Tree]) -> list[Tensor]:
    """The places of each tree's responses among those of all."""
    counts = [len(tree.responses) for tree in trees]
    return list(torch.arange(sum(counts)).split(counts))


class RoutedPolicies(Policies):
    """Policies among which ROUTED answers each prompt with the module that its router chooses."""

    def __init__(self, modules: Modules, router: Router, **settings: Any) -> None:
        super().__init__(modules, **settings)
        self.router = router

    def routes(self, prompts: Sequence[tuple[int, ...]]) -> list[str]:
        """The chosen module for each prompt."""
        return self.router.choose(self.embed(prompts))

    def _rows_by_route(self, prompts: Sequence[tuple[int, ...]]) -> dict[str, list[int]]:
        """The places of the prompts that each chosen module answers."""
        rows: dict[str, list[int]] = {}
        for row, route in enumerate(self.routes(prompts)):
            rows.setdefault(route, []).append(row)
        return rows

    def measure(
        self,
        name: str,
        batch: TreeBatch,
        *,
        statistics: Sequence[str] = (),
        temperature: float = 1.0,
        learning: bool = False,
        dropout: bool = True,
    ) -> Scores:
        """As of any policy; ROUTED cannot learn."""
        if name != ROUTED:
            return super().measure(
                name,
                batch,
                statistics=statistics,
                temperature=temperature,
                learning=learning,
                dropout=dropout,
            )
        prompts = [tree.prompt for tree in batch.trees]
        place = dict(enumerate(_first_responses(batch.trees)))
        sums = torch.empty(len(batch.lengths), device=batch.lengths.device)
        found = {name: torch.empty_like(sums) for name in statistics}
        tokens: dict[int, Tensor] = {}
        for route, rows in self._rows_by_route(prompts).items():
            trees = [batch.trees[i] for i in rows]
            of_route = self.batch(trees)
            own = super().measure(route, of_route, statistics=statistics, temperature=temperature)
            places = torch.cat([place[i] for i in rows]).to(sums.device)
            sums[places] = own.sums
            split = own.tokens.split(of_route.lengths.tolist())
            tokens |= dict(zip(places.tolist(), split, strict=True))
            for key, values in own.statistics.items():
                found[key][places] = values
        return Scores(sums, torch.cat([tokens[i] for i in range(len(sums))]), found)

    def kl(self, teacher: str, student: str, batch: TreeBatch, *, learning: bool = False) -> Tensor:
        """As of any policies; ROUTED may be the teacher."""
        if teacher != ROUTED:
            return super().kl(teacher, student, batch, learning=learning)
        place = dict(enumerate(_first_responses(batch.trees)))
        kl = torch.zeros(len(batch.lengths), device=batch.lengths.device)
        for route, rows in self._rows_by_route([tree.prompt for tree in batch.trees]).items():
            of_route = self.batch([batch.trees[i] for i in rows])
            own = super().kl(route, student, of_route, learning=learning)
            kl[torch.cat([place[i] for i in rows]).to(kl.device)] = own
        return kl

    def generate(
        self, name: str, prompts: Sequence[tuple[int, ...]], **settings: Any
    ) -> list[list[Completion]]:
        """As of any policy."""
        if name != ROUTED:
            return super().generate(name, prompts, **settings)
        answers: list[list[Completion]] = [[] for _ in prompts]
        for route, rows in self._rows_by_route(prompts).items():
            given = super().generate(route, [prompts[i] for i in rows], **settings)
            for row, samples in zip(rows, given, strict=True):
                answers[row] = samples
        return answers
