"""A remote engine such as vLLM, with OpenAI's API at a URL; adapters are loaded there by name.

A name stands for fixed weights and is never reused for others. An adapter is loaded, tried, then
offered. To remove one, stop offering it, wait for its last answer, unload it. Of several servers,
the last one that offered it unloads it. Adapters that an engine lost in a restart are loaded again
when they are requested.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from fastslow.atomic_io import file_hash
from fastslow.errors import ConfigError, FastslowError, StateError
from fastslow.feedback import Malformed
from fastslow.feedback.sharing import Holds
from fastslow.foreign_files import ADAPTER_WEIGHTS, read_json
from fastslow.serve.engine.requests import (
    BASE,
    Ask,
    Busy,
    Piece,
    TooLong,
    Underway,
    UnknownModel,
)

MOST_ASKED = 128
"""Answers requested at once; the engine has its own queue."""
TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
"""Seconds to connect, and between two pieces of a reply."""
EXTRA = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
"""Request fields for vLLM besides OpenAI's: none of its own sampling settings, and token ids."""
OF_CONTEXT = ("context length", "context size")
"""What engines write where a prompt, or a prompt with its answer, is too long for them."""
SHOWN = 300
"""Characters of an engine's error that are shown."""


class RemoteEngine:
    """Answers with a remote engine.

    Args:
        url: base URL of its API, such as `http://127.0.0.1:8001/v1`.
        model: its base model; None: the only one it has.
        key: its API key, if it needs one.
        template_settings: arguments of its chat template besides the turns.
        holds: knows which adapters other servers offer; None: there are no other servers.
        transport: of the requests, for tests.

    Raises ConfigError if it cannot be reached or has no such model.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        template_settings: Mapping[str, Any] | None = None,
        holds: Holds | None = None,
        transport: Any = None,
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(
            timeout=TIMEOUT, headers=headers, transport=transport, follow_redirects=False
        )
        self._template = {"chat_template_kwargs": template_settings} if template_settings else {}
        self._hashes: dict[str, str] = {}
        self._folders: dict[str, Path] = {}
        """Of the adapters that the engine should have."""
        self._holds, self._changing = holds or Holds(), threading.RLock()
        self._closed = False
        self._asked = Underway()
        self._texts: dict[int, str] = {}
        """Texts of tokens, as far as replies gave them."""
        self._base = self._base_of(model)
        self._pool = ThreadPoolExecutor(MOST_ASKED, thread_name_prefix="engine")

    @property
    def models(self) -> dict[str, str | None]:
        """Models by name: the base, and adapters with the hash of their weights."""
        return {BASE: None, **self._hashes}

    def submit(self, ask: Ask) -> None:
        """Queue a request; raises Busy or UnknownModel immediately."""
        self._asked.begin(ask, lambda: self.models, most=MOST_ASKED)
        self._pool.submit(self._answer, ask)

    def load(self, name: str, folder: Path) -> None:
        """Have the engine load the adapter in a PEFT folder, which it must be able to read, under a
        new name; offer it once it answers. Raises StateError with the engine's error."""
        turns = [{"role": "user", "content": "Hi"}]
        with self._changing:
            if self._closed:
                raise StateError("the server stops; nothing more is loaded")
            self._holds.take(name)
            self._folders[name] = folder
            try:
                self._put(name)
                self._post("/chat/completions", {"model": name, "messages": turns, "max_tokens": 1})
                self._hashes = {**self._hashes, name: file_hash(folder / ADAPTER_WEIGHTS)}
            except BaseException:
                self._drop(name)
                raise

    def unload(self, name: str) -> None:
        """Stop offering an adapter; after its last answer, unload it unless another server offers
        it."""
        self._asked.retire(name, lambda: self._withdraw(name))
        self._drop(name)

    def _withdraw(self, name: str) -> None:
        if name not in self._hashes:
            raise UnknownModel(f"there is no model {name[:200]!r}")
        self._hashes = {other: digest for other, digest in self._hashes.items() if other != name}

    def token_text(self, token: int) -> str:
        """Text of a token, as the engine wrote it."""
        return self._texts.get(token, "")

    def close(self) -> None:
        """Stop, and unload the adapters that nobody else offers, if the engine still runs."""
        self._pool.shutdown(cancel_futures=True)
        with self._changing, suppress(StateError):
            self._closed = True
            for name in sorted(self._folders):
                self._drop(name)
        self._holds.close()
        self._client.close()

    def _put(self, name: str) -> None:
        """Have the engine load an adapter, unless another server already did."""
        folder = self._folders[name]
        place = {"lora_name": name, "lora_path": str(folder.resolve())}
        with self._changing:
            if name in self._listed():
                return
            try:
                self._post("/load_lora_adapter", place, why=_needs(folder))
            except StateError:
                if name not in self._listed():  # Otherwise another server was first.
                    raise

    def _drop(self, name: str) -> None:
        with self._changing:
            if self._folders.pop(name, None) is not None:
                self._holds.drop(name, lambda: self._unload(name))

    def _unload(self, name: str) -> None:
        if name in self._listed():  # A restarted engine has none.
            self._post("/unload_lora_adapter", {"lora_name": name})

    def _listed(self) -> dict[str, str | None]:
        """The engine's models by name, adapters with their base."""
        try:
            reply = self._client.get(f"{self.url}/models")
            reply.raise_for_status()
            models = [(str(model["id"]), model.get("parent")) for model in reply.json()["data"]]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(f"{self.url} does not list its models ({_brief(error)})") from None
        return dict(models)

    def _base_of(self, model: str | None) -> str:
        try:
            listed = self._listed()
        except StateError as error:
            raise ConfigError(
                f"--engine: {error}; give the base URL of OpenAI's API, as http://127.0.0.1:8001/v1"
            ) from None
        bases = [name for name, parent in listed.items() if parent is None]
        if model is not None and model in bases:
            return model
        if model is None and len(bases) == 1:
            return bases[0]
        raise ConfigError(
            f"--engine-model: {self.url} has {', '.join(bases) or 'no model'}; name one of them"
        )

    def _post(self, path: str, body: Mapping[str, Any], *, why: str = "") -> None:
        try:
            reply = self._client.post(self.url + path, json=body)
        except httpx2.HTTPError as error:
            raise StateError(f"the engine at {self.url} failed: {_brief(error)}") from None
        if not reply.is_success:
            message = _said(reply.text)
            raise StateError(f"the engine at {self.url} refuses {path}: {message}{why}")

    def _answer(self, ask: Ask) -> None:
        """Ask the engine and pass on its reply; runs in a thread of the pool."""
        try:
            self._tell_all(ask)
        except FastslowError as error:
            ask.give(error)
        except httpx2.HTTPError as error:
            ask.give(StateError(f"the engine at {self.url} failed: {_brief(error)}"))
        except Exception as error:
            ask.give(StateError(f"the engine's reply is invalid: {_brief(error)}"))
        finally:
            self._asked.end(ask)

    def _tell_all(self, ask: Ask) -> None:
        unfinished, ended, prompt_tokens = set(range(ask.count)), dict[int, str](), 0
        for chunk in self._chunks(ask):
            prompt_tokens = int((chunk.get("usage") or {}).get("prompt_tokens") or prompt_tokens)
            for choice in chunk["choices"]:
                piece = self._piece(choice)
                if piece.finish:
                    # The prompt's token count comes last, and is passed on with the last piece.
                    ended[piece.index] = piece.finish
                    unfinished.discard(piece.index)
                ask.give(Piece(piece.index, piece.text, piece.token_ids, piece.logps))
            if ask.cancelled.is_set():
                break
        if unfinished and not ask.cancelled.is_set():
            raise StateError(f"the engine at {self.url} ended its reply too early")
        ended |= dict.fromkeys(sorted(unfinished), "cancelled")
        for index, finish in ended.items():
            ask.give(Piece(index, "", prompt_tokens=prompt_tokens, finish=finish))

    def _chunks(self, ask: Ask) -> Iterator[Any]:
        """The events of the reply; stopping early closes the connection, which ends the answer."""
        url, body, lost = f"{self.url}/chat/completions", self._body(ask), self._folders
        while True:
            with self._client.stream("POST", url, json=body) as reply:
                if reply.is_success:
                    yield from self._events(reply)
                    return
                message = _said(reply.read().decode("utf-8", "replace"))
                refusal = _refusal(reply.status_code, message)
            if isinstance(refusal, UnknownModel) and ask.model in lost:
                self._put(ask.model)
                lost = {}  # Retried only once.
            elif isinstance(refusal, TooLong) and "max_tokens" in body:
                del body["max_tokens"]  # The answer gets what the prompt leaves, which is less.
            else:
                raise refusal

    def _events(self, reply: Any) -> Iterator[Any]:
        for line in reply.iter_lines():
            data = line.removeprefix("data:").strip()
            if not line.startswith("data:") or data == "[DONE]":
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise StateError(f"the engine at {self.url} failed: {_said(data)}")
            yield chunk

    def _body(self, ask: Ask) -> dict[str, Any]:
        body = {
            **EXTRA,
            **self._template,
            "model": self._base if ask.model == BASE else ask.model,
            "messages": list(ask.messages),
            "n": ask.count,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "max_tokens": ask.max_tokens,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logprobs": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if ask.seed is not None:
            body["seed"] = ask.seed
        return body | ({"stop": list(ask.stop)} if ask.stop else {})

    def _piece(self, choice: Mapping[str, Any]) -> Piece:
        text = (choice.get("delta") or {}).get("content") or ""
        tokens = tuple(int(token) for token in choice.get("token_ids") or ())
        content = (choice.get("logprobs") or {}).get("content") or []
        if len(content) != len(tokens):
            tokens, content = (), []  # Log-probs cannot be matched to tokens.
        self._texts.update(
            (token, str(entry.get("token", "")))
            for token, entry in zip(tokens, content, strict=True)
        )
        logps = tuple(float(entry["logprob"]) for entry in content)
        return Piece(int(choice["index"]), str(text), tokens, logps, finish=_finish(choice))


def _finish(choice: Mapping[str, Any]) -> str | None:
    finish = choice.get("finish_reason")
    if finish in (None, "stop", "length"):
        return finish
    raise StateError(f"the engine ended an answer by {str(finish)[:40]!r}")


def _refusal(status: int, said: str) -> FastslowError:
    if status == 429:
        return Busy(f"the engine is busy: {said}")
    if status == 404:
        return UnknownModel(f"the engine has no such model: {said}")
    if status in (400, 413, 422):
        kind = TooLong if any(words in said for words in OF_CONTEXT) else Malformed
        return kind(f"the engine refuses the request: {said}")
    return StateError(f"the engine fails with status {status}: {said}")


def _needs(folder: Path) -> str:
    rank = read_json(folder / "adapter_config.json", dict[str, Any]).get("r")
    return (
        f". The adapter has rank {rank}: vLLM needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, "
        "--enable-lora, a --max-lora-rank of that or more, and must be able to read the folder"
    )


def _said(text: str) -> str:
    """The message of an error, without the JSON around it."""
    try:
        body = json.loads(text)
        error = body.get("error", body)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:SHOWN]


def _brief(error: Exception) -> str:
    message = " ".join(str(error).split())[:SHOWN]
    return message or type(error).__name__
