"""The chat model that is asked: in this process, or a server. Only its texts are looked at."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from fastslow.adapters import load_context_length, load_tokenizer
from fastslow.config import EngineConfig, Recipe
from fastslow.errors import DataError
from fastslow.records import Prompt, Text
from fastslow.sampling import Engine, generate, probe_batching
from fastslow.scoring.layers import backbone_of
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import make_base, make_encoder

TOGETHER = 32
"""Prompts that are answered in one batch in this process."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chat model says."""

    text: str
    truncated: bool = False
    """Whether it was cut by the length limit."""


class BlackBox(Protocol):
    """A chat model."""

    cost: Counter[str]
    """What asking has cost so far: `calls`, `prompt_tokens`, `completion_tokens`; tokens of a
    server as far as it counts them."""

    def answer(
        self,
        prompts: Sequence[Text],
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        template_kwargs: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Answer]:
        """One answer to each prompt, whose chat template is given `template_kwargs`. Raises
        UnreachableError where a server gives none."""
        ...


class LocalModel:
    """The recipe's model in this process, loaded when it is first needed; it embeds texts too.

    Raises ConfigError where it cannot be loaded, DataError for a prompt that cannot be encoded or
    that is too long.
    """

    def __init__(self, recipe: Recipe, processes: ProcessGroup) -> None:
        self._recipe, self._processes = recipe, processes
        self.cost: Counter[str] = Counter()

    def answer(
        self,
        prompts: Sequence[Text],
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        template_kwargs: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Answer]:
        """One answer to each prompt; the same seed gives the same ones."""
        given_to = template_kwargs or [{}] * len(prompts)
        asked = [
            self._ids(Prompt(prompt, template_kwargs=own), max_new_tokens)
            for prompt, own in zip(prompts, given_to, strict=True)
        ]
        answers: list[Answer] = []
        for start in range(0, len(asked), TOGETHER):
            batch = asked[start : start + TOGETHER]
            given = generate(
                self._base,
                batch,
                end_ids=sorted(self._encoder.end_ids),
                pad_id=self._pad_id,
                max_new_tokens=max_new_tokens,
                seed=seed + start,
                temperature=temperature,
                batching=self._batching,
            )
            tokens = [completions[0].tokens for completions in given]
            texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
            cut = (completions[0].truncated for completions in given)
            answers += map(Answer, texts, cut)
            self.cost["calls"] += len(batch)
            self.cost["prompt_tokens"] += sum(map(len, batch))
            self.cost["completion_tokens"] += sum(map(len, tokens))
        return answers

    def _ids(self, prompt: Prompt, room: int) -> tuple[int, ...]:
        """The prompt's tokens. Raises DataError where it does not fit: cut, it would lose its
        beginning, in which the instruction stands."""
        ids: tuple[int, ...] = self._encoder.prompt_ids_of(prompt, room=room)
        length = self._encoder.prompt_length(prompt)
        limit = min(self._recipe.data.max_length, self._context) - room
        if length > limit:
            raise DataError(
                f"prompts: a prompt with what stands around it has {length} tokens, but "
                f"data.max_length and the model's context leave {limit} beside an answer of {room};"
                " raise data.max_length, take shorter rows, or lower prompts.shown"
            )
        return ids

    def embed(self, texts: Sequence[str]) -> Iterator[Tensor]:
        """Of each text as a user's turn, the last hidden state of the last position, [d]."""
        for text in texts:
            ids = torch.tensor([self._encoder.prompt_ids(text, room=1)], device=self._device)
            with torch.no_grad():
                states = backbone_of(self._base)(input_ids=ids, use_cache=False).last_hidden_state
            yield states[0, -1].to("cpu", torch.float64)

    @cached_property
    def _base(self) -> Any:
        return make_base(self._recipe, self._processes)

    @cached_property
    def _tokenizer(self) -> Any:
        recipe = self._recipe
        return load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)

    @cached_property
    def _encoder(self) -> Any:
        return make_encoder(self._recipe, self._tokenizer)

    @cached_property
    def _context(self) -> int:
        recipe = self._recipe
        known = load_context_length(recipe.model, trust_remote_code=recipe.trust_remote_code)
        return known or recipe.data.max_length

    @cached_property
    def _batching(self) -> Any:
        length = self._recipe.data.max_length
        return probe_batching(self._base, pad_id=self._pad_id, max_length=length)

    @property
    def _pad_id(self) -> int:
        pad_id, rows = self._tokenizer.pad_token_id, self._base.get_input_embeddings().weight
        known = pad_id is not None and pad_id < len(rows)
        return int(pad_id if known else self._tokenizer.eos_token_id)

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._base.get_input_embeddings().weight.device
        return device


class ServerModel:
    """A chat model behind an API like OpenAI's."""

    def __init__(self, config: EngineConfig, *, plain: bool, template: Mapping[str, Any]) -> None:
        settings = config.model_dump(exclude={"folder"})
        self._engine = Engine(plain=plain, template_settings=template, **settings)
        self.cost: Counter[str] = Counter()

    def answer(
        self,
        prompts: Sequence[Text],
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        template_kwargs: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Answer]:
        """One answer to each prompt. Raises UnreachableError where the server gives none."""
        given = self._engine.generate(
            prompts,
            count=1,
            temperature=temperature,
            top_p=1.0,
            max_new_tokens=max_new_tokens,
            seed=seed,
            template_kwargs=template_kwargs,
        )
        answers = [completions[0] for completions in given]
        self.cost["calls"] += len(answers)
        self.cost["prompt_tokens"] += sum(answer.prompt_tokens for answer in answers)
        # The very tokens are said by few servers.
        tokens = sum(answer.reply_tokens or len(answer.tokens) for answer in answers)
        self.cost["completion_tokens"] += tokens
        return [Answer(answer.text, answer.truncated) for answer in answers]
