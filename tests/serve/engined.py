"""Updates whose adapters are real ones of a tiny model, and what each says by itself."""

import pytest
import torch
from asking import begin, pieces_of
from test_learning import Chain

from fastslow.adapters import Factors, load_base
from fastslow.config import load_recipe
from fastslow.feedback.places import adapter_folder
from fastslow.serve.engine.embedded import EmbeddedEngine
from fastslow.serve.engine.opening import SLOTS
from fastslow.serve.engine.requests import whole

LONGEST = 8
"""Tokens of an answer."""


def adapter(folder, base, *, seed, rank=4, size=0.05):
    """A random adapter on some layers of a base."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for name, part in base.named_modules():
        if name.endswith(("q_proj", "down_proj")):
            out, width = part.weight.shape
            a = torch.randn(rank, width, generator=generator)
            layers[name] = (a, size * torch.randn(out, rank, generator=generator))
    Factors(layers, ("q_proj", "down_proj")).write(folder)
    return folder


def two_adapters(folder, model):
    """Folders of two adapters of a model, `x` and `y`."""
    base = load_base(str(model))
    return {name: adapter(folder / name, base, seed=place) for place, name in enumerate("xy")}


class RealChain(Chain):
    """A store with updates whose adapters are random ones of a model."""

    def __init__(self, folder, store, model):
        super().__init__(folder, store)
        self._base = load_base(str(model))

    def write_adapter(self, folder, number):
        adapter(folder, self._base, seed=number)


def chat(text, **facts):
    """A request of which the answer is certain, to what answers in its domain."""
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "temperature": 0, "max_tokens": LONGEST, **facts}


def said_alone(model, folder, made, asked):
    """Tokens and the sum of log-probs of each update's answers, and the base's under None, from an
    engine in which nothing else happens."""
    engine = make_engine(model)
    found = {None: _said(engine, "base", asked)}
    for one in made:
        engine.load(one.adapter, adapter_folder(folder, one.adapter))
        found[one.id] = _said(engine, one.adapter, asked)
        engine.unload(one.adapter)
    engine.close()
    return found


def _said(engine, name, asked):
    found = {}
    for text in asked:
        _, got = begin(engine, text, model=name, temperature=0.0, max_tokens=LONGEST)
        (own,) = whole(pieces_of(got), 1)
        found[text] = (own.token_ids, pytest.approx(sum(own.logps), abs=1e-3))
    return found


def make_engine(model):
    """What `fastslow serve` makes for a model."""
    recipe = load_recipe({"model": str(model), "data": {"max_length": 64}})
    return EmbeddedEngine(recipe, slots=SLOTS)
