"""Sampling by an external engine over HTTP, with the policy's module loaded there by name.

vLLM's protocol: `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, modules as PEFT folders
that the engine can read.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock
from typing import Any

from fastslow.errors import RefusedError, ReplyError
from fastslow.openai_client import ChatServer
from fastslow.openai_replies import Reply, quoted
from fastslow.records import Text

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank may be."""
ENDS = ("stop", "length")
"""Reasons to end that leave a completion of the policy; others are of a filter or of a fault."""


@dataclass(frozen=True, slots=True)
class EngineCompletion:
    """One completion as text."""

    text: str
    truncated: bool
    """Whether it was cut by the length limit."""
    prompt_tokens: int = 0
    """As the engine counts them; 0 where it does not."""
    tokens: tuple[int, ...] = ()
    """The very tokens, an end token among them; empty where it does not say them."""
    logps: tuple[float, ...] = ()
    """The log-prob of each, nats at temperature 1; empty where they were not asked for."""
    reply_tokens: int = 0
    """Of all completions of the request, as the engine counts them; 0 where it does not."""


class Engine:
    """Client of the engine at a URL.

    Args:
        model: name of the base model there.
        plain: whether text prompts are sent unchanged, instead of as a user's turn.
        max_concurrency: concurrent requests.
        extra_body: fields of every request for completions besides those of OpenAI's API.
        template_settings: variables of the chat template for every conversation.
        settings: of `ChatServer`.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        plain: bool,
        max_concurrency: int,
        extra_body: Mapping[str, Any],
        template_settings: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self._server = ChatServer(url=url, section="engine", **settings)
        self._model, self._plain, self._max_concurrency = model, plain, max_concurrency
        self._extra_body = dict(extra_body)
        self._template_settings = dict(template_settings or {})
        self._loaded: str | None = None
        self._before: set[str] = set()
        """Modules that were loaded once."""
        self._asked: Counter[str] = Counter()
        """Calls of `generate` that are not over, by who answers."""
        self._lock = Lock()
        self._idle = Condition(self._lock)

    @property
    def name(self) -> str:
        """Names the engine in provenance."""
        return f"{self._model} at {self._server.url}"

    def load(self, name: str, folder: Path, *, rank: int) -> None:
        """Generate with the module in a PEFT folder from now on.

        The new one is loaded and tried, then requests go to it, then the one before, which has
        given its last answer, is unloaded. Raises UnreachableError, with what an adapter of that
        rank needs where it is refused; the one before answers then as until now.
        """
        before = self._loaded
        try:
            self._server.post(
                "/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())}
            )
            self._try(name)
        except RefusedError as error:
            raise RefusedError(f"{error} {_started_with(rank)}") from None
        with self._lock:
            self._loaded = name
        if before is not None:
            self._unload(before)

    def unload(self) -> None:
        """Answer with the base from now on."""
        with self._lock:
            before, self._loaded = self._loaded, None
        if before is not None:
            self._unload(before)

    def _unload(self, name: str) -> None:
        """Once its last answer is there: a server may fail those that are being generated."""
        with self._lock:
            self._before.add(name)
            while self._asked[name]:
                self._idle.wait()
        self._server.post("/unload_lora_adapter", {"lora_name": name})

    def _try(self, name: str) -> None:
        """Raises UnreachableError where the module does not answer."""
        if self._plain:
            self._server.complete(prompt="Hi", model=name, max_tokens=1)
        else:
            turns = [{"role": "user", "content": "Hi"}]
            self._server.chat(messages=turns, model=name, max_tokens=1)

    def generate(
        self,
        prompts: Sequence[Text],
        *,
        count: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
        template_kwargs: Sequence[Mapping[str, Any]] | None = None,
        logps: bool = False,
    ) -> list[list[EngineCompletion]]:
        """`count` answers to each prompt, in order. Raises UnreachableError when it gives none.

        `template_kwargs` are what the chat template is given for each prompt, `tools` among them.
        With `logps` the log-probs of the tokens are asked for.

        All that shapes the distribution is in the request, so that a server's own generation
        settings change nothing.
        """
        with self._lock:
            model = self._loaded or self._model
            self._asked[model] += 1
        settings = {
            **self._extra_body,
            "model": model,
            "n": count,
            "temperature": temperature,
            "top_p": top_p,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "max_tokens": max_new_tokens,
        }

        def ask(place: int) -> list[EngineCompletion]:
            own = template_kwargs[place] if template_kwargs else {}
            return self._ask(prompts[place], own, settings | {"seed": _seed_of(seed, place)})

        if logps:
            settings["logprobs"] = 0 if self._plain else True
        try:
            with ThreadPoolExecutor(self._max_concurrency) as pool:
                return list(pool.map(ask, range(len(prompts))))
        finally:
            with self._lock:
                self._asked[model] -= 1
                self._idle.notify_all()

    def _ask(
        self, prompt: Text, template_kwargs: Mapping[str, Any], settings: dict[str, Any]
    ) -> list[EngineCompletion]:
        if isinstance(prompt, str) and self._plain:
            reply = self._server.complete(prompt=prompt, **settings)
        else:
            reply = self._server.chat(
                messages=_messages(prompt),
                **_template_fields({**self._template_settings, **template_kwargs}),
                **settings,
            )
        self._check(reply, settings)
        return [
            EngineCompletion(
                choice.text,
                choice.finish_reason == "length",
                reply.prompt_tokens,
                choice.tokens,
                choice.logps,
                reply.completion_tokens,
            )
            for choice in reply.choices
        ]

    def _check(self, reply: Reply, settings: Mapping[str, Any]) -> None:
        """Raise ReplyError where these are not the completions that were asked for."""
        if len(reply.choices) != settings["n"]:
            raise ReplyError(
                f"{self.name} returned {len(reply.choices)} completions instead of {settings['n']}"
            )
        if reply.model != settings["model"] and reply.model in {self._model, *self._before}:
            raise ReplyError(
                f"{self.name} answered with {quoted(reply.model)} instead of {settings['model']}"
            )
        for choice in reply.choices:
            if choice.finish_reason not in ENDS:
                raise ReplyError(
                    f"{self.name} returned a completion that ended by "
                    f"{quoted(choice.finish_reason)}; it must end by {' or '.join(ENDS)}"
                )


def _seed_of(seed: int, place: int) -> int:
    """Of the request for the prompt at a place. For several answers servers count on from it, as
    callers do from batch to batch, so that requests' own seeds are far apart."""
    return random.Random(f"{seed}/{place}").getrandbits(48)


def vllm_room(rank: int) -> int | None:
    """The least --max-lora-rank of vLLM for an adapter; None where it is beyond all.

    >>> vllm_room(16), vllm_room(17), vllm_room(2), vllm_room(600)
    (16, 32, 8, None)
    """
    return next((room for room in RANKS if room >= rank), None)


def _started_with(rank: int) -> str:
    known = vllm_room(rank) or rank
    return (
        f"The adapter has rank {rank}: vLLM needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, "
        f"--enable-lora, --max-lora-rank {known} or more, --max-loras 2 or more, and must be able "
        "to read its folder."
    )


def _messages(prompt: Text) -> list[dict[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": turn.role, "content": turn.content, **turn.extra} for turn in prompt]


def _template_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the template is given, in the fields of a request: tools have their own."""
    variables, fields = dict(given), dict[str, Any]()
    if tools := variables.pop("tools", None):
        fields |= {"tools": tools, "tool_choice": "none"}  # They are read, but nothing is called.
    return fields | ({"chat_template_kwargs": variables} if variables else {})
