"""Export, statistics and metrics of the store; people and their access."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from fastslow.feedback import forgetting, holding, people
from fastslow.feedback.export import PAGE, export_page
from fastslow.feedback.people import Principal
from fastslow.serve.access import ADMINS, READERS, allowed
from fastslow.serve.background import follow
from fastslow.serve.bodies import LARGEST, Enabled, NewPerson, Number
from fastslow.serve.metrics import CONTENT_TYPE, as_prometheus
from fastslow.serve.routes.voting import Shared

router = APIRouter()
Reader = Annotated[Principal, allowed(READERS)]
Admin = Annotated[Principal, allowed(ADMINS)]


@router.get("/v1/export")
async def export(
    _: Reader,
    live: Shared,
    after: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = PAGE,
    include: Literal["pending"] | None = None,
) -> dict[str, Any]:
    """Rows in TRL's columns after a cursor; `include=pending` adds votes still in their grace."""
    page = await live.read(export_page, after=after, limit=limit, pending=include == "pending")
    return asdict(page)


@router.get("/v1/statistics")
async def numbers(_: Reader, live: Shared) -> dict[str, Any]:
    """Counts of votes and how well people agree, as of `at`; newer ones are available after
    `again_in_s`."""
    figures = await live.figures.now()
    return {**asdict(figures.statistics), "at": figures.at, "again_in_s": figures.again_in_s}


@router.get("/metrics")
async def metrics(_: Reader, live: Shared) -> Response:
    """The counts in Prometheus' format."""
    return Response(
        as_prometheus((await live.figures.now()).statistics.counts), media_type=CONTENT_TYPE
    )


@router.post("/v1/people", status_code=201)
async def add_person(body: NewPerson, who: Admin, live: Shared) -> dict[str, Any]:
    """Give somebody access; the token in the reply is shown only once."""
    person, token = await live.write(
        people.add_principal, name=body.name, role=body.role, by=who.id
    )
    return {**asdict(person), "token": token}


@router.post("/v1/people/{person_id}/token")
async def new_token(person_id: Number, who: Admin, live: Shared) -> dict[str, Any]:
    """Issue a new token to somebody; the old one is invalid from now on."""
    token = await live.write(people.new_token, principal_id=person_id, by=who.id)
    live.forget_principals()
    return {"id": person_id, "token": token}


@router.post("/v1/people/{person_id}/forget")
async def forget(person_id: Number, who: Admin, live: Shared) -> dict[str, Any]:
    """Take back all votes of somebody, and relearn without them the updates that used them."""
    done = await live.write(forgetting.forget_person, principal_id=person_id, by=who.id)
    live.forget_principals()
    await follow(live)
    return {"id": person_id, **asdict(done)}


@router.post("/v1/people/{person_id}/let-through")
async def let_through(person_id: Number, who: Admin, live: Shared) -> dict[str, Any]:
    """Learn what somebody has sent until now, including held-back rows."""
    rows = await live.write(holding.let_through, principal_id=person_id, by=who.id)
    return {"id": person_id, "rows": rows}


@router.put("/v1/people/{person_id}/enabled")
async def set_enabled(person_id: Number, body: Enabled, who: Admin, live: Shared) -> dict[str, Any]:
    """Disable or enable somebody's access."""
    await live.write(
        people.set_disabled, principal_id=person_id, disabled=not body.enabled, by=who.id
    )
    live.forget_principals()
    return {"id": person_id, "enabled": body.enabled}
