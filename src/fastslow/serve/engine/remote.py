"""An engine behind a URL that speaks OpenAI's protocol, as vLLM; adapters are loaded there by name.

A name stands for some weights and no others: nothing is ever loaded in another's place. The order
is load, try, offer; and for one that goes: offer no more, wait for its last answer, unload. Of
several servers the last one that has offered it unloads it. What an engine has lost, as it was
started again, it is given again when it is asked.
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
"""Answers that are asked for at a time; the engine has a queue of its own."""
TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
"""Seconds to connect, and between two pieces of a reply."""
EXTRA = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
"""What vLLM is asked beside OpenAI's fields: nothing of its own settings, and the very tokens."""
OF_CONTEXT = ("context length", "context size")
"""How engines speak of it where a prompt, or a prompt with its answer, is too long for them."""
SHOWN = 300
"""Characters of an engine's error that are told."""


class RemoteEngine:
    """Answers of an engine.

    Args:
        url: base of its API, as `http://127.0.0.1:8001/v1`.
        model: its base model; None takes the only one it has.
        key: its API key, if it wants one.
        template_settings: what its chat template is given besides the turns.
        holds: tells which adapters other servers offer; None where there are none.
        transport: of the requests, for tests.

    Raises ConfigError where it is not there or has no such model.
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
        """Of the adapters that the engine is to have."""
        self._holds, self._changing = holds or Holds(), threading.RLock()
        self._closed = False
        self._asked = Underway()
        self._texts: dict[int, str] = {}
        """How tokens are written, as far as replies told."""
        self._base = self._base_of(model)
        self._pool = ThreadPoolExecutor(MOST_ASKED, thread_name_prefix="engine")

    @property
    def models(self) -> dict[str, str | None]:
        """What can be asked, by name: the base, and adapters with the hash of their weights."""
        return {BASE: None, **self._hashes}

    def submit(self, ask: Ask) -> None:
        """Have a request answered; raises Busy or UnknownModel at once."""
        self._asked.begin(ask, lambda: self.models, most=MOST_ASKED)
        self._pool.submit(self._answer, ask)

    def load(self, name: str, folder: Path) -> None:
        """Have the engine take the adapter of a PEFT folder that it can read, under a name of its
        own, and offer it once it answers. Raises StateError with what the engine says."""
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
        """Offer an adapter no more; when it has given its last answer, and no other server offers
        it, unload it."""
        self._asked.retire(name, lambda: self._withdraw(name))
        self._drop(name)

    def _withdraw(self, name: str) -> None:
        if name not in self._hashes:
            raise UnknownModel(f"there is no model {name[:200]!r}")
        self._hashes = {other: found for other, found in self._hashes.items() if other != name}

    def token_text(self, token: int) -> str:
        """How a token is written, as the engine said."""
        return self._texts.get(token, "")

    def close(self) -> None:
        """Stop, and leave no adapter behind that nobody offers; an engine that is gone has none."""
        self._pool.shutdown(cancel_futures=True)
        with self._changing, suppress(StateError):
            self._closed = True
            for name in sorted(self._folders):
                self._drop(name)
        self._holds.close()
        self._client.close()

    def _put(self, name: str) -> None:
        """Have the engine load an adapter unless it has it, as another server had it loaded."""
        folder = self._folders[name]
        place = {"lora_name": name, "lora_path": str(folder.resolve())}
        with self._changing:
            if name in self._listed():
                return
            try:
                self._post("/load_lora_adapter", place, why=_needs(folder))
            except StateError:
                if name not in self._listed():  # Or another server was first.
                    raise

    def _drop(self, name: str) -> None:
        with self._changing:
            if self._folders.pop(name, None) is not None:
                self._holds.drop(name, lambda: self._unload(name))

    def _unload(self, name: str) -> None:
        if name in self._listed():  # One that was started again has none.
            self._post("/unload_lora_adapter", {"lora_name": name})

    def _listed(self) -> dict[str, str | None]:
        """What the engine has by name, adapters with their base."""
        try:
            reply = self._client.get(f"{self.url}/models")
            reply.raise_for_status()
            models = [(str(one["id"]), one.get("parent")) for one in reply.json()["data"]]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(f"{self.url} does not say its models ({_brief(error)})") from None
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
            said = _said(reply.text)
            raise StateError(f"the engine at {self.url} refuses {path}: {said}{why}")

    def _answer(self, ask: Ask) -> None:
        """Ask the engine, in a thread of its own, and tell what it says."""
        try:
            self._tell_all(ask)
        except FastslowError as error:
            ask.give(error)
        except httpx2.HTTPError as error:
            ask.give(StateError(f"the engine at {self.url} failed: {_brief(error)}"))
        except Exception as error:
            ask.give(StateError(f"the engine's reply is none: {_brief(error)}"))
        finally:
            self._asked.end(ask)

    def _tell_all(self, ask: Ask) -> None:
        going, ended, read = set(range(ask.count)), dict[int, str](), 0
        for chunk in self._chunks(ask):
            read = int((chunk.get("usage") or {}).get("prompt_tokens") or read)
            for choice in chunk["choices"]:
                piece = self._piece(choice)
                if piece.finish:
                    # The count of the prompt comes last, and is a part of the last piece.
                    ended[piece.index] = piece.finish
                    going.discard(piece.index)
                ask.give(Piece(piece.index, piece.text, piece.token_ids, piece.logps))
            if ask.cancelled.is_set():
                break
        if going and not ask.cancelled.is_set():
            raise StateError(f"the engine at {self.url} ended its reply too early")
        ended |= dict.fromkeys(sorted(going), "cancelled")
        for index, finish in ended.items():
            ask.give(Piece(index, "", prompt_tokens=read, finish=finish))

    def _chunks(self, ask: Ask) -> Iterator[Any]:
        """The events of the reply; leaving off closes the connection, which ends the answer."""
        url, body, lost = f"{self.url}/chat/completions", self._body(ask), self._folders
        while True:
            with self._client.stream("POST", url, json=body) as reply:
                if reply.is_success:
                    yield from self._events(reply)
                    return
                said = _said(reply.read().decode("utf-8", "replace"))
                refusal = _refusal(reply.status_code, said)
            if isinstance(refusal, UnknownModel) and ask.model in lost:
                self._put(ask.model)
                lost = {}  # Once is enough.
            elif isinstance(refusal, TooLong) and "max_tokens" in body:
                del body["max_tokens"]  # The answer takes what the prompt leaves, which is less.
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
            tokens, content = (), []  # Which log-prob is of which token is not known.
        self._texts.update(
            (token, str(one.get("token", ""))) for token, one in zip(tokens, content, strict=True)
        )
        logps = tuple(float(one["logprob"]) for one in content)
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
    """What an error says, without the form around it."""
    try:
        body = json.loads(text)
        error = body.get("error", body)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:SHOWN]


def _brief(error: Exception) -> str:
    said = " ".join(str(error).split())[:SHOWN]
    return said or type(error).__name__
