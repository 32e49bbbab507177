"""The engine's answers for requests: streamed, counted, and kept with what gave them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fastslow.feedback import items, leases, watching
from fastslow.serve.engine.requests import Alike, Answered, Ask, Piece, whole
from fastslow.serve.live import Live

DRAWS = 3
"""Times that two answers are asked for until they are not the same."""


@dataclass(frozen=True, slots=True)
class By:
    """What gave an answer."""

    model: str
    adapter: str | None
    """Hash of its weights; None of the base."""
    update_id: int | None


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

    Raises Malformed for a prompt whose answers could not be kept, and what the engine raises.
    """
    items.check_messages(asked["messages"])
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
            # What is said is what is kept.
            yield replace(piece, text=items.storable(piece.text))
    finally:
        ask.cancel()


async def sampled_pair(
    live: Live,
    messages: Sequence[dict[str, Any]],
    *,
    domain: str,
    routed: bool = False,
    needs: int = 1,
    owner: int | None = None,
) -> int:
    """Ask the engine for two answers and put them up for comparison; the pair's number.

    `routed` says whether nobody named the domain. One of them may be of what answered before,
    to watch what answers now. An `owner` is the first to get the pair.

    Raises Alike, and puts nothing up, where both say the same however often they are asked for.
    """
    model, before = live.model_for(domain), live.watched_model(domain)
    for _ in range(DRAWS):
        given = await _two_answers(live, messages, model, before)
        if given[0][1].text != given[1][1].text:
            break
    else:
        raise Alike("the model gives the same answer each time; there is nothing to compare")
    return await live.write(
        _keep_pair,
        messages=messages,
        domain=domain,
        routed=routed,
        given=given,
        draw=live.draw,
        purpose="learn" if before is None else watching.WATCH,
        needs=needs,
        owner=owner,
    )


async def _two_answers(
    live: Live, messages: Sequence[dict[str, Any]], model: str, before: str | None
) -> list[tuple["By", Answered]]:
    if before is None:
        return await _answers(live, messages, model, 2)
    both = (_answers(live, messages, one, 1) for one in (model, before))
    given = [one for own in await asyncio.gather(*both) for one in own]
    live.draw.shuffle(given)  # Or the lower number of an answer would tell whose it is.
    return given


async def _answers(
    live: Live, messages: Sequence[dict[str, Any]], model: str, count: int
) -> list[tuple["By", Answered]]:
    assert live.engine is not None
    by = By(model, live.engine.models.get(model), live.update_of(model))
    facts = {"messages": messages, "count": count, "max_tokens": live.settings.answer_tokens}
    got = [piece async for piece in pieces_of(live.engine, model=model, **facts)]
    return [(by, one) for one in whole(got, count)]


def _keep_pair(
    connection: Any,
    *,
    messages: Sequence[dict[str, Any]],
    domain: str,
    routed: bool,
    given: Sequence[tuple["By", Answered]],
    draw: Any,
    purpose: str,
    needs: int,
    owner: int | None,
    now: float,
) -> int:
    prompt_id, (first, second) = keep_answers(
        connection, messages=messages, domain=domain, routed=routed, params={}, seed=None,
        given=given, given_to=owner, now=now,
    )  # fmt: skip
    pair_id = items.add_pair(
        connection, prompt_id=prompt_id, first=first, second=second, now=now, draw=draw,
        purpose=purpose, needs=needs,
    )  # fmt: skip
    if owner is not None:
        leases.lease(connection, pair_id=pair_id, voter=owner, until=now + leases.LEASE)
    return pair_id


def keep_answers(
    connection: Any,
    *,
    messages: Sequence[dict[str, Any]],
    domain: str,
    routed: bool,
    params: dict[str, Any],
    seed: int | None,
    given: Sequence[tuple["By", Answered]],
    given_to: int | None,
    now: float,
) -> tuple[int, list[int]]:
    """Keep a prompt and what was answered to it, and to whom; their numbers."""
    prompt_id = items.add_prompt(
        connection, messages=messages, domain=domain, routed=routed, now=now
    )
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
                model=by.model,
                adapter_sha256=by.adapter,
                update_id=by.update_id,
                given_to=given_to,
            ),
            now=now,
        )
        for index, (by, one) in enumerate(given)
    ]
    return prompt_id, numbers
