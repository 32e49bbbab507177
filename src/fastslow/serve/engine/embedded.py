"""An engine in this process: one thread decodes; requests and adapters change between tokens."""

import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from fastslow.adapters import load_base, load_tokenizer
from fastslow.adapters.base import context_length_of
from fastslow.atomic_io import file_hash
from fastslow.config import Recipe
from fastslow.errors import ConfigError, FastslowError, StateError
from fastslow.feedback import Malformed
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.records import Message, Prompt
from fastslow.sampling import probe_batching
from fastslow.serve.engine.decoding import Group, Row
from fastslow.serve.engine.requests import BASE, Ask, Piece, TooLong, Underway
from fastslow.serve.engine.slots import Slots
from fastslow.serve.engine.text_stream import TextStream
from fastslow.training.policies.loading import make_encoder

T = TypeVar("T")
MOST_ROWS = 16
"""Answers decoded at once, if rows have `data.max_length` tokens; fewer if they are longer."""
MOST_WAITING = 64
"""Answers that may wait besides."""


@dataclass(slots=True)
class _Waiting:
    """A request that is not decoded yet."""

    ask: Ask
    prompt: Sequence[int]
    most: int
    """Longest answer, in tokens."""

    @property
    def tokens(self) -> int:
        """Tokens of the prompt with its longest answer."""
        return len(self.prompt) + self.most


@dataclass(slots=True)
class _Running:
    """Rows under one adapter."""

    slot: str
    group: Group
    longest: int
    """Tokens that a row may grow to; shorter ones are padded."""
    asks: list[Ask] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens that need memory."""
        return self.longest * len(self.group.rows)


class EmbeddedEngine:
    """Answers with a base model and adapters on it.

    Args:
        recipe: gives model and template. The memory budget is MOST_ROWS rows of its
            `data.max_length`; one prompt with its answer may use all of it, up to the model's
            context.
        slots: number of adapter slots at the start; more are added when needed.
        max_rank: largest rank of an adapter.
    """

    def __init__(self, recipe: Recipe, *, slots: int = 4, max_rank: int = 64) -> None:
        tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
        self._encoder = make_encoder(recipe, tokenizer)
        self._tokenizer = tokenizer
        base = load_base(
            recipe.model,
            precision=recipe.train.precision,
            trust_remote_code=recipe.trust_remote_code,
        )
        self._slots = Slots(base, count=slots, rank=max_rank)
        self._model = self._slots.modules.model
        self._pad_id = int(tokenizer.pad_token_id or 0)
        self._memory = MOST_ROWS * recipe.data.max_length
        self._longest, self._padded = self._limits(recipe)
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: list[_Waiting] = []
        self._running: list[_Running] = []
        self._rows = Underway()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def models(self) -> dict[str, str | None]:
        """Models by name: the base, and adapters with the hash of their weights."""
        return {BASE: None, **self._slots.hashes}

    def submit(self, ask: Ask) -> None:
        """Queue a request; raises Busy, Malformed, TooLong or UnknownModel immediately."""
        turns = tuple(Message(turn["role"], turn["content"]) for turn in ask.messages)
        try:
            prompt = self._encoder.whole_prompt_ids_of(Prompt(prompt=turns))
        except FastslowError as error:
            raise Malformed(str(error)) from None
        room = self._longest - len(prompt)
        if room < 1:
            raise TooLong(
                f"the prompt has {len(prompt)} tokens, at most {self._longest - 1} are allowed: "
                f"prompt and answer share {self._longest}; shorten it"
            )
        most = min(ask.max_tokens, room)
        self._rows.begin(ask, lambda: self.models, most=MOST_ROWS + MOST_WAITING)
        self._commands.put(lambda: self._waiting.append(_Waiting(ask, prompt, most)))

    def load(self, name: str, folder: Path) -> None:
        """Load the adapter in a PEFT folder into a slot, under a new name."""
        factors, digest = self._slots.read(folder), file_hash(folder / ADAPTER_WEIGHTS)
        self._between_tokens(lambda: self._slots.put(name, factors, digest)).result()

    def unload(self, name: str) -> None:
        """Stop offering an adapter, and free its slot after its last answer."""
        self._rows.retire(name, lambda: self._slots.retire(name))
        self._between_tokens(lambda: self._slots.remove(name)).result()

    def token_text(self, token: int) -> str:
        """Text of a token, also of special ones."""
        text: Any = self._tokenizer.decode([token])
        return str(text)

    def close(self) -> None:
        """Stop; unfinished requests get an error."""
        self._commands.put(None)
        self._thread.join()

    def _limits(self, recipe: Recipe) -> tuple[int, bool]:
        """Longest prompt with its answer in tokens, and whether prompts of different lengths can be
        batched; both found by probing the model.

        Raises ConfigError for a model whose cache changes its answers.
        """
        model, learned = self._slots.modules.causal_lm, recipe.data.max_length
        longest = min(context_length_of(model.config) or learned, self._memory)
        # Positions that are stretched in long rows may not be in shorter ones.
        for most in (longest, min(longest, learned)):
            probed = probe_batching(model, pad_id=self._pad_id, max_length=most)
            if probed.cached and not probed.stretched:
                return most, probed.padded
        raise ConfigError(
            f"model: {recipe.model} does not answer token by token as it is scored (its cache or "
            "its positions change what it says); serve it with an external engine, by --engine"
        )

    def _between_tokens(self, work: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)

        self._commands.put(call)
        return future

    def _run(self) -> None:
        while self._take_commands():
            self._begin()
            for running in list(self._running):
                self._advance(running)
        unanswered = [waiting.ask for waiting in self._waiting]
        unanswered += [ask for running in self._running for ask in running.asks]
        for ask in unanswered:
            ask.give(StateError("the engine was stopped"))

    def _take_commands(self) -> bool:
        """Run the commands queued since the last token; returns whether to continue."""
        idle = not self._running and not self._waiting
        while idle or not self._commands.empty():
            command = self._commands.get()
            if command is None:
                return False
            command()
            idle = False
        return True

    def _begin(self) -> None:
        """Prefill waiting prompts, those of one adapter together; only those of one length where
        padding would change the model's answers."""
        chosen: dict[tuple[str, int], list[_Waiting]] = {}
        for waiting in self._next():
            length = 0 if self._padded else len(waiting.prompt)
            chosen.setdefault((waiting.ask.model, length), []).append(waiting)
        for (model, _), batch in chosen.items():
            asks = [waiting.ask for waiting in batch]
            try:
                slot = BASE if model == BASE else self._slots.slot_of(model)
                rows = [row for waiting in batch for row in self._rows_of(waiting)]
                with self._slots.modules.using(slot):
                    group = Group(self._model, rows, pad_id=self._pad_id)
            except Exception as error:
                self._fail(asks, error)
                continue
            longest = max(waiting.tokens for waiting in batch)
            self._running.append(_Running(slot, group, longest, asks))

    def _next(self) -> list[_Waiting]:
        """Take the requests that can start: the first in the queue, as many as there are rows and
        memory for, and at least one where nothing else is running."""
        rows = sum(len(running.group.rows) for running in self._running)
        memory = self._memory - sum(running.tokens for running in self._running)
        taken: list[_Waiting] = []
        started = longest = 0
        for waiting in list(self._waiting):
            if waiting.ask.cancelled.is_set():
                self._waiting.remove(waiting)
                for index in range(waiting.ask.count):
                    waiting.ask.give(Piece(index, "", finish="cancelled"))
                self._rows.end(waiting.ask)
                continue
            started, longest = started + waiting.ask.count, max(longest, waiting.tokens)
            fits = rows + started <= MOST_ROWS and started * longest <= memory
            if (rows or taken) and not fits:
                break
            self._waiting.remove(waiting)
            taken.append(waiting)
        return taken

    def _advance(self, running: _Running) -> None:
        if running.group.rows:
            try:
                with self._slots.modules.using(running.slot):
                    running.group.step()
            except Exception as error:
                self._running.remove(running)
                self._fail(running.asks, error)
                return
        if not running.group.rows:
            self._running.remove(running)
            for ask in running.asks:
                self._rows.end(ask)

    def _rows_of(self, waiting: _Waiting) -> list[Row]:
        ask = waiting.ask
        seed = secrets.randbits(62) if ask.seed is None else ask.seed
        return [
            Row(
                waiting.prompt,
                torch.Generator().manual_seed((seed + index) % 2**63),
                ask.temperature,
                ask.top_p,
                self._teller(waiting, index),
            )
            for index in range(ask.count)
        ]

    def _teller(self, waiting: _Waiting, index: int) -> Callable[[int, float], bool]:
        ask, most, read = waiting.ask, waiting.most, len(waiting.prompt)
        stream, count = TextStream(self._decode, ask.stop), 0

        def tell(token: int, logp: float) -> bool:
            nonlocal count
            count += 1
            if ask.cancelled.is_set():
                ask.give(Piece(index, "", finish="cancelled"))
                return False
            ended = token in self._encoder.end_ids
            text = stream.end() if ended else stream.add(token)
            finish = "stop" if ended or stream.stopped else "length" if count >= most else None
            if finish == "length":
                text += stream.end()
            ask.give(Piece(index, text, (token,), (logp,), read, finish))
            return finish is None

        return tell

    def _decode(self, tokens: Sequence[int]) -> str:
        text: Any = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return str(text)

    def _fail(self, asks: Sequence[Ask], error: Exception) -> None:
        for ask in asks:
            ask.give(error)
            self._rows.end(ask)
