"""Students of what answers in all domains: requests, and what became of them."""

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
    """Request one student of what answers in all domains. The learner makes it, and it becomes an
    update of each domain, which that domain's gate tests."""
    return asdict(await live.write(consolidating.ask, by=who.id))


@router.get("/consolidations")
async def asked_for(
    _: Reader, live: Shared, limit: Annotated[int, Query(ge=1, le=100)] = PAGE
) -> dict[str, Any]:
    """Requested consolidations with their updates, newest first."""
    return {"consolidations": await live.read(_shown, limit=limit)}


def _shown(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    return [
        _with_updates(connection, one) for one in consolidating.asked_for(connection, limit=limit)
    ]


def _with_updates(connection: Connection, one: Consolidation) -> dict[str, Any]:
    updates = consolidating.updates_of(connection, one.id)
    facts = [
        {"id": update.id, "domain": update.domain, "state": update.state} for update in updates
    ]
    return {**asdict(one), "updates": facts}
