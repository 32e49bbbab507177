"""Pairs to compare, and what is sent of them."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request

from fastslow.feedback import items, leases, standing, voting
from fastslow.feedback.people import Principal
from fastslow.serve.access import ANYONE, READERS, VOTERS, allowed, live_of
from fastslow.serve.answering import sampled_pair
from fastslow.serve.bodies import (
    DEFAULT_DOMAIN,
    LARGEST,
    Edited,
    NewPair,
    Number,
    Rated,
    Vote,
    Wanted,
)
from fastslow.serve.disconnects import unless_gone
from fastslow.serve.live import Live
from fastslow.serve.rendering import as_html
from fastslow.serve.replies import Refused

router = APIRouter(prefix="/v1")
Shared = Annotated[Live, Depends(live_of)]
Anyone = Annotated[Principal, allowed(ANYONE)]
Voter = Annotated[Principal, allowed(VOTERS)]
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


@router.get("/me")
async def me(who: Anyone) -> dict[str, Any]:
    """Who asks."""
    return {"id": who.id, "name": who.name, "role": who.role}


@router.post("/pairs", status_code=201)
async def new_pair(request: Request, body: NewPair, who: Voter, live: Shared) -> dict[str, Any]:
    """Put two answers up for comparison; without any, the engine is asked for them.

    Answers of one's own, several reviewers and gold questions are for admins and services.
    """
    if who.role == "annotator" and (body.answers is not None or body.needs > 1):
        raise Refused(403, "answers of one's own and several reviewers are for admins and services")
    if body.answers is None:
        return await unless_gone(request, _sampled_pair(body, who, live))
    pair_id = await live.write(_write_pair, body=body, draw=live.draw)
    return {"id": pair_id}


async def _sampled_pair(body: NewPair, who: Principal, live: Live) -> dict[str, Any]:
    """Two answers of the engine's, for who asked."""
    if live.engine is None:
        raise Refused(409, "this server has no engine; send two answers along")
    if body.gold_verdict is not None:
        raise Refused(422, "a gold question needs answers of your own")
    messages = body.conversation()
    assigned = live.router.assign(messages, body.domain)
    pair_id = await sampled_pair(
        live,
        messages,
        domain=assigned.domain,
        routed=assigned.by != "label",
        needs=body.needs,
        owner=who.id,
    )
    shown = _shown(await live.read(leases.pair_of, pair_id=pair_id, voter=who.id))
    return {**shown, "domain_by": assigned.by}


def _write_pair(connection: Any, *, body: NewPair, draw: Any, now: float) -> int:
    prompt_id = items.add_prompt(
        connection, messages=body.conversation(), domain=body.domain or DEFAULT_DOMAIN, now=now
    )
    first, second = (
        items.add_answer(
            connection,
            prompt_id=prompt_id,
            answer=items.Answer(given.text, given.finish, model=given.model),
            now=now,
        )
        for given in body.answers or ()
    )
    return items.add_pair(
        connection,
        prompt_id=prompt_id,
        first=first,
        second=second,
        now=now,
        draw=draw,
        purpose="learn" if body.gold_verdict is None else "gold",
        needs=body.needs,
        gold_verdict=body.gold_verdict,
    )


@router.post("/pairs/next")
async def next_pairs(body: Wanted, who: Voter, live: Shared) -> dict[str, Any]:
    """Pairs to compare, kept for who asks for ten minutes; none where there are no more."""
    found = await live.write(leases.next_pairs, voter=who.id, count=body.count, domain=body.domain)
    return {"pairs": [_shown(pair) for pair in found]}


def _shown(pair: leases.ShownPair) -> dict[str, Any]:
    a, b = (
        {"text": text, "html": as_html(text), "truncated": truncated}
        for text, truncated in zip((pair.a, pair.b), pair.truncated, strict=True)
    )
    facts = {"id": pair.id, "domain": pair.domain, "messages": pair.messages}
    return {**facts, "a": a, "b": b, "until": pair.until}


@router.post("/votes", status_code=202)
async def vote(body: Vote, who: Voter, live: Shared, key: Key) -> dict[str, Any]:
    """Take a vote. It is on disk when this replies; the same key again gives the same reply."""
    receipt = await live.write(voting.vote, voter=who.id, key=key, **body.model_dump())
    return _receipt(receipt, live)


@router.post("/ratings", status_code=202)
async def rate(body: Rated, who: Voter, live: Shared, key: Key) -> dict[str, Any]:
    """Take a thumb up or down on an answer."""
    await _check_given(body.answer_id, who, live)
    receipt = await live.write(voting.rate, voter=who.id, key=key, **body.model_dump())
    return _receipt(receipt, live)


@router.post("/edits", status_code=202)
async def edit(body: Edited, who: Voter, live: Shared, key: Key) -> dict[str, Any]:
    """Take an answer as it should have been."""
    answer_id = body.answer_id
    if answer_id is None:
        answer_id = await live.read(
            leases.answer_of, pair_id=body.pair_id, side=body.side, voter=who.id
        )
    await _check_given(answer_id, who, live)
    receipt = await live.write(
        voting.edit, voter=who.id, key=key, answer_id=answer_id, text=body.text
    )
    return _receipt(receipt, live)


async def _check_given(answer_id: int, who: Principal, live: Live) -> None:
    """What somebody has rated they can read: only who may read all may rate what others got."""
    if who.role not in READERS:
        await live.read(leases.check_answer_given, answer_id=answer_id, voter=who.id)


@router.delete("/votes/{vote_id}")
async def retract(vote_id: Number, who: Voter, live: Shared) -> dict[str, Any]:
    """Take something back that was sent."""
    receipt = await live.write(voting.retract, voter=who.id, vote_id=vote_id)
    return _receipt(receipt, live)


@router.get("/votes")
async def own_votes(
    who: Voter,
    live: Shared,
    before: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = standing.PAGE,
) -> dict[str, Any]:
    """What one sent oneself and what became of it, the newest first; `before` a number for more."""
    found = await live.read(standing.standings, voter=who.id, before=before, limit=limit)
    return {"votes": [asdict(one) for one in found], "more": len(found) == limit}


def _receipt(receipt: voting.Receipt, live: Live) -> dict[str, Any]:
    until = None if receipt.retracted else receipt.at + live.settings.grace
    return {**asdict(receipt), "retractable_until": until}
