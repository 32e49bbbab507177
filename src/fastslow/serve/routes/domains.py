"""What is known of domains, and whether prompts that are like none of them may be a new one."""

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from fastslow.feedback.labelled import newest_routed
from fastslow.serve.bodies import DEFAULT_DOMAIN
from fastslow.serve.router import ENOUGH, MOST, typical
from fastslow.serve.routes.data import Reader
from fastslow.serve.routes.voting import Shared

router = APIRouter(prefix="/v1")
EXAMPLES = 5
AT_ONCE = 32
"""Prompts that are looked at while other requests wait."""


@router.get("/domains")
async def domains(_: Reader, live: Shared) -> dict[str, Any]:
    """How many prompts of each domain the router knows, and where it would give the newest prompts
    that named none today. Enough that are like none are a suggestion: somebody may name a domain of
    theirs; none is opened by itself."""
    unnamed = await live.read(newest_routed, most=MOST)
    given, unlike = Counter[str](), []
    for place, one in enumerate(unnamed if live.router.tells_apart else ()):
        domain = live.router.choose(one.messages)
        given[domain or DEFAULT_DOMAIN] += 1
        if domain is None:
            unlike.append(one)
        if place % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
    suggested = len(unlike) >= ENOUGH
    return {
        "domains": [{"domain": name, "prompts": n} for name, n in live.router.known.items()],
        "told_apart": live.router.tells_apart,
        "unnamed": dict(given),
        "new_domain_suggested": suggested,
        "examples": [asdict(one) for one in typical(unlike, EXAMPLES)] if suggested else [],
    }
