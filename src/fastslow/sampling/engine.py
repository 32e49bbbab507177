"""Sampling by an external engine over HTTP, with the policy's module loaded there by name.

vLLM's protocol: `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, modules as PEFT folders
that the engine can read.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.errors import UnreachableError
from fastslow.openai_client import ChatServer
from fastslow.records import Text


@dataclass(frozen=True, slots=True)
class EngineCompletion:
    """One completion as text."""

    text: str
    truncated: bool
    """Whether it was cut by the length limit."""


class Engine:
    """Client of the engine at a URL.

    Args:
        model: name of the base model there.
        plain: whether text prompts are sent unchanged, instead of as a user's turn.
        max_concurrency: concurrent requests.
        settings: of `ChatServer`.
    """

    def __init__(
        self, *, url: str, model: str, plain: bool, max_concurrency: int, **settings: Any
    ) -> None:
        self._server = ChatServer(url=url, section="engine", **settings)
        self._model, self._plain, self._max_concurrency = model, plain, max_concurrency
        self._loaded: str | None = None

    @property
    def name(self) -> str:
        """Names the engine in provenance."""
        return f"{self._model} at {self._server.url}"

    def load(self, name: str, folder: Path) -> None:
        """Generate with the module in a PEFT folder from now on.

        The one before is unloaded once the new one is there, so no request finds neither.
        """
        before = self._loaded
        self._server.post(
            "/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())}
        )
        self._loaded = name
        if before is not None:
            self._server.post("/unload_lora_adapter", {"lora_name": before})

    def unload(self) -> None:
        """Answer with the base from now on."""
        if self._loaded is not None:
            self._server.post("/unload_lora_adapter", {"lora_name": self._loaded})
            self._loaded = None

    def generate(
        self,
        prompts: Sequence[Text],
        *,
        count: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
    ) -> list[list[EngineCompletion]]:
        """`count` answers to each prompt, in order. Raises UnreachableError when it gives none."""
        settings = {
            "model": self._loaded or self._model,
            "n": count,
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_new_tokens,
        }

        def ask(place: int) -> list[EngineCompletion]:
            return self._ask(prompts[place], settings | {"seed": seed + place})

        with ThreadPoolExecutor(self._max_concurrency) as pool:
            return list(pool.map(ask, range(len(prompts))))

    def _ask(self, prompt: Text, settings: dict[str, Any]) -> list[EngineCompletion]:
        if isinstance(prompt, str) and self._plain:
            reply = self._server.complete(prompt=prompt, **settings)
            texts = [choice.text for choice in reply.choices]
        else:
            turns = (
                [("user", prompt)]
                if isinstance(prompt, str)
                else [(turn.role, turn.content) for turn in prompt]
            )
            messages = [{"role": role, "content": content} for role, content in turns]
            reply = self._server.chat(messages=messages, **settings)
            texts = [choice.message.content or "" for choice in reply.choices]
        if len(texts) != settings["n"]:
            raise UnreachableError(
                f"{self.name} returned {len(texts)} completions instead of {settings['n']}"
            )
        return [
            EngineCompletion(text, choice.finish_reason == "length")
            for text, choice in zip(texts, reply.choices, strict=True)
        ]
