"""Pairs to compare, and the votes, ratings and edits on them."""

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
    """The caller."""
    return {"id": who.id, "name": who.name, "role": who.role}


@router.post("/pairs", status_code=201)
async def new_pair(request: Request, body: NewPair, who: Voter, live: Shared) -> dict[str, Any]:
    """Put two answers up for comparison; without any, the engine samples them.

    Only admins and services may send answers, several reviewers or gold questions.
    """
    if who.role == "annotator" and (body.answers is not None or body.needs > 1):
        raise Refused(403, "only admins and services may send answers or ask for several reviewers")
    if body.answers is None:
        return await unless_gone(request, _sampled_pair(body, who, live))
    pair_id = await live.write(_write_pair, body=body, draw=live.draw)
    return {"id": pair_id}


async def _sampled_pair(body: NewPair, who: Principal, live: Live) -> dict[str, Any]:
    """A pair sampled from the engine, leased to the caller."""
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
            answer=items.Answer(answer.text, answer.finish, model=answer.model),
            now=now,
        )
        for answer in body.answers or ()
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
    """Pairs to compare, leased to the caller for ten minutes; none if there are no more."""
    pairs = await live.write(leases.next_pairs, voter=who.id, count=body.count, domain=body.domain)
    return {"pairs": [_shown(pair) for pair in pairs]}


def _shown(pair: leases.ShownPair) -> dict[str, Any]:
    a, b = (
        {"text": text, "html": as_html(text), "truncated": truncated}
        for text, truncated in zip((pair.a, pair.b), pair.truncated, strict=True)
    )
    facts = {"id": pair.id, "domain": pair.domain, "messages": pair.messages}
    return {**facts, "a": a, "b": b, "until": pair.until}


@router.post("/votes", status_code=202)
async def vote(body: Vote, who: Voter, live: Shared, key: Key) -> dict[str, Any]:
    """Record a vote. It is on disk before the reply; the same key again gives the same reply."""
    receipt = await live.write(voting.vote, voter=who.id, key=key, **body.model_dump())
    return _receipt(receipt, live)


@router.post("/ratings", status_code=202)
async def rate(body: Rated, who: Voter, live: Shared, key: Key) -> dict[str, Any]:
    """Record a good or bad rating of an answer."""
    await _check_given(body.answer_id, who, live)
    receipt = await live.write(voting.rate, voter=who.id, key=key, **body.model_dump())
    return _receipt(receipt, live)


@router.post("/edits", status_code=202)
async def edit(body: Edited, who: Voter, live: Shared, key: Key) -> dict[str, Any]:
    """Record a corrected answer."""
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
    """Raters can read what they rated, so only readers of everything may rate others' answers."""
    if who.role not in READERS:
        await live.read(leases.check_answer_given, answer_id=answer_id, voter=who.id)


@router.delete("/votes/{vote_id}")
async def retract(vote_id: Number, who: Voter, live: Shared) -> dict[str, Any]:
    """Take back a vote, a rating or an edit."""
    receipt = await live.write(voting.retract, voter=who.id, vote_id=vote_id)
    return _receipt(receipt, live)


@router.get("/votes")
async def own_votes(
    who: Voter,
    live: Shared,
    before: Annotated[int | None, Query(ge=1, le=LARGEST)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = standing.PAGE,
) -> dict[str, Any]:
    """The caller's own votes and what became of them, newest first; `before` an id for more."""
    votes = await live.read(standing.standings, voter=who.id, before=before, limit=limit)
    return {
        "votes": [asdict(vote_standing) for vote_standing in votes],
        "more": len(votes) == limit,
    }


def _receipt(receipt: voting.Receipt, live: Live) -> dict[str, Any]:
    until = None if receipt.retracted else receipt.at + live.settings.grace
    return {**asdict(receipt), "retractable_until": until}
