"""The engine's answers for requests: streamed, counted, and kept with what gave them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fastslow.feedback import items, leases
from fastslow.serve.engine.requests import Answered, Ask, Piece, whole
from fastslow.serve.live import Live


class Engine(Protocol):
    """What answers."""

    @property
    def models(self) -> Mapping[str, str | None]:
        """What can be asked, by name: the base, and adapters with the hash of their weights."""

    def submit(self, ask: Ask) -> None:
        """Have a request answered; raises Busy, Malformed or UnknownModel at once."""

    def load(self, name: str, folder: Path) -> None:
        """Offer the adapter of a PEFT folder, under a name of its own."""

    def unload(self, name: str) -> None:
        """Offer an adapter no more."""

    def token_text(self, token: int) -> str:
        """How a token is written."""

    def close(self) -> None:
        """Stop."""


async def pieces_of(engine: Engine, **asked: Any) -> AsyncIterator[Piece]:
    """The pieces of a request's answers as they come; who stops listening cancels it.

    Raises what the engine raises.
    """
    loop, got = asyncio.get_running_loop(), asyncio.Queue[Piece | Exception]()

    def tell(piece: Piece | Exception) -> None:
        loop.call_soon_threadsafe(got.put_nowait, piece)

    ask = Ask(tell=tell, **asked)
    engine.submit(ask)
    going = ask.count
    try:
        while going:
            piece = await got.get()
            if isinstance(piece, Exception):
                raise piece
            going -= piece.finish is not None
            yield piece
    finally:
        ask.cancelled.set()


async def sampled_pair(
    live: Live,
    messages: Sequence[dict[str, Any]],
    *,
    domain: str,
    needs: int = 1,
    owner: int | None = None,
) -> int:
    """Ask the engine for two answers and put them up for comparison; the pair's number.

    An `owner` is the first to get it.
    """
    assert live.engine is not None
    model = live.model_for(domain)
    facts = {
        "messages": messages, "model": model, "count": 2,
        "max_tokens": live.settings.answer_tokens,
    }  # fmt: skip
    got = [piece async for piece in pieces_of(live.engine, **facts)]
    return await live.write(
        _keep_pair,
        messages=messages,
        domain=domain,
        model=model,
        adapter=live.engine.models.get(model),
        update_id=live.update_of(model),
        given=whole(got, 2),
        draw=live.draw,
        needs=needs,
        owner=owner,
    )


def _keep_pair(
    connection: Any,
    *,
    messages: Sequence[dict[str, Any]],
    domain: str,
    model: str,
    adapter: str | None,
    update_id: int | None,
    given: Sequence[Answered],
    draw: Any,
    needs: int,
    owner: int | None,
    now: float,
) -> int:
    prompt_id, (first, second) = keep_answers(
        connection, messages=messages, domain=domain, model=model, adapter=adapter,
        update_id=update_id, params={}, seed=None, given=given, now=now,
    )  # fmt: skip
    pair_id = items.add_pair(
        connection, prompt_id=prompt_id, first=first, second=second, now=now, draw=draw,
        needs=needs,
    )  # fmt: skip
    if owner is not None:
        leases.lease(connection, pair_id=pair_id, voter=owner, until=now + leases.LEASE)
    return pair_id


def keep_answers(
    connection: Any,
    *,
    messages: Sequence[dict[str, Any]],
    domain: str,
    model: str,
    adapter: str | None,
    update_id: int | None,
    params: dict[str, Any],
    seed: int | None,
    given: Sequence[Answered],
    now: float,
) -> tuple[int, list[int]]:
    """Keep a prompt and what was answered to it; their numbers."""
    prompt_id = items.add_prompt(connection, messages=messages, domain=domain, now=now)
    numbers = [
        items.add_answer(
            connection,
            prompt_id=prompt_id,
            answer=items.Answer(
                one.text,
                one.finish,
                token_ids=one.token_ids,
                logp_sum=sum(one.logps),
                params=params,
                seed=None if seed is None else seed + index,
                model=model,
                adapter_sha256=adapter,
                update_id=update_id,
            ),
            now=now,
        )
        for index, one in enumerate(given)
    ]
    return prompt_id, numbers
