"""Answers from the engine: streamed to clients, and stored with the model that gave them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fastslow.feedback import items, leases, watching
from fastslow.serve.engine.requests import Alike, Answered, Ask, Piece, whole
from fastslow.serve.live import Live

DRAWS = 3
"""Attempts to sample two different answers."""


@dataclass(frozen=True, slots=True)
class By:
    """The model that gave an answer."""

    model: str
    adapter: str | None
    """Hash of the adapter's weights; None for the base."""
    update_id: int | None


class Engine(Protocol):
    """Generates answers."""

    @property
    def models(self) -> Mapping[str, str | None]:
        """Models by name: the base, and adapters with the hash of their weights."""

    def submit(self, ask: Ask) -> None:
        """Queue a request; raises Busy, Malformed or UnknownModel immediately."""

    def load(self, name: str, folder: Path) -> None:
        """Load the adapter in a PEFT folder and offer it under a new name."""

    def unload(self, name: str) -> None:
        """Stop offering an adapter."""

    def token_text(self, token: int) -> str:
        """Text of a token."""

    def close(self) -> None:
        """Stop."""


async def pieces_of(engine: Engine, **asked: Any) -> AsyncIterator[Piece]:
    """The pieces of a request's answers as they arrive; closing the iterator cancels the request.

    Raises Malformed for a prompt that the store cannot hold, and whatever the engine raises.
    """
    items.check_messages(asked["messages"])
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Piece | Exception]()

    def tell(piece: Piece | Exception) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, piece)

    ask = Ask(tell=tell, **asked)
    engine.submit(ask)
    unfinished = ask.count
    try:
        while unfinished:
            piece = await queue.get()
            if isinstance(piece, Exception):
                raise piece
            unfinished -= piece.finish is not None
            # The text shown is the text stored.
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
    """Sample two answers from the engine and store them as a pair to compare; returns its id.

    `routed` is true if the request did not name the domain. One of the answers may come from the
    previous model, to compare it with the current one. The `owner` gets the pair first.

    Raises Alike, and stores nothing, if both answers are the same in every attempt.
    """
    model, before = live.model_for(domain), live.watched_model(domain)
    for _ in range(DRAWS):
        answers = await _two_answers(live, messages, model, before)
        if answers[0][1].text != answers[1][1].text:
            break
    else:
        raise Alike("the model gives the same answer each time; there is nothing to compare")
    return await live.write(
        _keep_pair,
        messages=messages,
        domain=domain,
        routed=routed,
        given=answers,
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
    samplings = (_answers(live, messages, name, 1) for name in (model, before))
    answers = [answer for group in await asyncio.gather(*samplings) for answer in group]
    live.draw.shuffle(answers)  # Otherwise the answers' ids would reveal which model gave which.
    return answers


async def _answers(
    live: Live, messages: Sequence[dict[str, Any]], model: str, count: int
) -> list[tuple["By", Answered]]:
    assert live.engine is not None
    by = By(model, live.engine.models.get(model), live.update_of(model))
    facts = {"messages": messages, "count": count, "max_tokens": live.settings.answer_tokens}
    pieces = [piece async for piece in pieces_of(live.engine, model=model, **facts)]
    return [(by, answer) for answer in whole(pieces, count)]


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
    """Store a prompt, its answers and who got them; returns the ids."""
    prompt_id = items.add_prompt(
        connection, messages=messages, domain=domain, routed=routed, now=now
    )
    answer_ids = [
        items.add_answer(
            connection,
            prompt_id=prompt_id,
            answer=items.Answer(
                answer.text,
                answer.finish,
                token_ids=answer.token_ids,
                logp_sum=sum(answer.logps),
                params=params,
                seed=None if seed is None else seed + index,
                model=by.model,
                adapter_sha256=by.adapter,
                update_id=by.update_id,
                given_to=given_to,
            ),
            now=now,
        )
        for index, (by, answer) in enumerate(given)
    ]
    return prompt_id, answer_ids
