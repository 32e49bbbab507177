"""Updates learned from the votes, and decisions on them by hand."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from fastslow.feedback import decisions, updates
from fastslow.serve.background import follow
from fastslow.serve.bodies import Number, Short
from fastslow.serve.routes.data import Admin, Reader
from fastslow.serve.routes.voting import Shared

router = APIRouter(prefix="/v1")
PAGE = 100
DECISIONS: Mapping[str, Callable[..., Any]] = {
    "approve": decisions.approve,
    "rollback": decisions.roll_back,
    "release": decisions.release,
    "discard": decisions.discard,
}


@router.get("/updates")
async def history(
    _: Reader,
    live: Shared,
    domain: Short | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = PAGE,
) -> dict[str, Any]:
    """Updates with their gate results, newest first, and what answers in each domain."""
    listed = await live.read(updates.history, domain=domain, limit=limit)
    routes = await live.read(updates.all_routes)
    return {
        "updates": [asdict(update) for update in listed],
        "routes": [{**asdict(route), "model": live.model_for(route.domain)} for route in routes],
    }


@router.get("/votes/{vote_id}/updates")
async def uses(vote_id: Number, _: Reader, live: Shared) -> dict[str, Any]:
    """The updates that learned from a vote."""
    users = await live.read(updates.uses_of, vote_id=vote_id)
    return {"updates": [asdict(update) for update in users]}


@router.post("/updates/{update_id}/{decision}")
async def decide(
    update_id: Number,
    decision: Literal["approve", "rollback", "release", "discard"],
    who: Admin,
    live: Shared,
) -> dict[str, Any]:
    """Approve what answers: slow drift is measured from it. Roll back an update at once, with those
    after it. Release the rows of one that was set aside to another update, or discard them."""
    route = await live.write(DECISIONS[decision], update_id=update_id, by=who.id)
    await follow(live)
    return asdict(route)
