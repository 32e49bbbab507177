"""The model under a learner, as an object or by name, and a learner's own random numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fastslow.adapters import absolute, load_config, load_end_ids, load_tokenizer
from fastslow.adapters.base import context_length_of, listed_ids, num_embeddings_of
from fastslow.adapters.objects import check_model, precision_of
from fastslow.config import Recipe
from fastslow.errors import ConfigError
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import SharedBase, clear_base
from fastslow.training.state.state import generator_states, restore_generators

IN_MEMORY = "a model in memory"
"""Stands for the model's name where it is given as an object."""


class LearnerBase:
    """A model, as an object or by name, and what must be known of it."""

    def __init__(self, model: Any, tokenizer: Any, *, trust_remote_code: bool) -> None:
        self.processes = ProcessGroup()
        self.model: Any = None
        self.precision = "float32"
        if isinstance(model, (str, Path)):
            self.name = absolute(str(model))
            self.tokenizer = tokenizer or load_tokenizer(
                self.name, trust_remote_code=trust_remote_code
            )
            config = load_config(self.name, trust_remote_code=trust_remote_code)
            self.context = context_length_of(config)
            self.num_embeddings = num_embeddings_of(config)
            self.end_ids = load_end_ids(self.name)
            return
        check_model(model)
        if tokenizer is None:
            raise ConfigError("tokenizer: is missing; a model object needs its tokenizer beside it")
        self.name, self.model, self.tokenizer = IN_MEMORY, model, tokenizer
        self.precision = precision_of(model)
        self.context = context_length_of(model.config)
        self.num_embeddings = model.get_input_embeddings().weight.shape[0]
        self.end_ids = listed_ids(getattr(model.generation_config, "eos_token_id", None))
        self._was_training = model.training
        self._learned = [p for p in model.parameters() if p.requires_grad]

    @contextmanager
    def attaching(self, recipe: Recipe) -> Iterator[Any]:
        """Inside, modules are put on the frozen model; it is as it was where that fails."""
        if self.model is None:
            yield SharedBase(self.processes).load(recipe)
            return
        self.model.requires_grad_(False).eval()
        try:
            yield self.model
        except BaseException:
            self.detach(self.model)
            raise

    def detach(self, model: Any) -> None:
        """Take the modules off."""
        clear_base(model)
        if self.model is not None:
            model.train(self._was_training)
            for parameter in self._learned:
                parameter.requires_grad_(True)


class RandomState:
    """Torch's global generators as one learner has them.

    Args:
        seed: to begin with.
    """

    def __init__(self, seed: int) -> None:
        with self._forked():
            torch.manual_seed(seed)
            self._state = generator_states()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, they are the learner's own, which go on; outside, they are untouched."""
        with self._forked():
            restore_generators(self._state)
            try:
                yield
            finally:
                self._state = generator_states()

    def _forked(self) -> Any:
        return torch.random.fork_rng(devices=list(range(torch.cuda.device_count())))
