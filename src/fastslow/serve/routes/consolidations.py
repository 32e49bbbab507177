"""Students of what answers in all domains: asked for, and what has become of them."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from fastslow.feedback import Connection, consolidating
from fastslow.feedback.consolidating import Consolidation
from fastslow.serve.routes.data import Admin, Reader
from fastslow.serve.routes.voting import Shared

router = APIRouter(prefix="/v1")
PAGE = 20


@router.post("/consolidations", status_code=202)
async def ask(who: Admin, live: Shared) -> dict[str, Any]:
    """Want one student of what answers in all domains; the learner makes it, and it becomes an
    update of each, which that domain's gate tests."""
    return asdict(await live.write(consolidating.ask, by=who.id))


@router.get("/consolidations")
async def asked_for(
    _: Reader, live: Shared, limit: Annotated[int, Query(ge=1, le=100)] = PAGE
) -> dict[str, Any]:
    """Those that were asked for, the newest first, with the updates that they are."""
    return {"consolidations": await live.read(_shown, limit=limit)}


def _shown(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    return [
        _with_updates(connection, one) for one in consolidating.asked_for(connection, limit=limit)
    ]


def _with_updates(connection: Connection, one: Consolidation) -> dict[str, Any]:
    found = consolidating.updates_of(connection, one.id)
    facts = [{"id": own.id, "domain": own.domain, "state": own.state} for own in found]
    return {**asdict(one), "updates": facts}
