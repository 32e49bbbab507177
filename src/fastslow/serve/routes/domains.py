"""What the router knows of domains, and whether prompts that fit none suggest a new one."""

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
"""Prompts routed before other requests get a turn."""


@router.get("/domains")
async def domains(_: Reader, live: Shared) -> dict[str, Any]:
    """How many prompts of each domain the router knows, and where it would send the newest prompts
    without a named domain today. Enough that fit none suggest a new domain, for somebody to name;
    none is created automatically."""
    unnamed = await live.read(newest_routed, most=MOST)
    assigned, unlike = Counter[str](), []
    for place, prompt in enumerate(unnamed if live.router.tells_apart else ()):
        domain = live.router.choose(prompt.messages)
        assigned[domain or DEFAULT_DOMAIN] += 1
        if domain is None:
            unlike.append(prompt)
        if place % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
    suggested = len(unlike) >= ENOUGH
    return {
        "domains": [{"domain": name, "prompts": n} for name, n in live.router.known.items()],
        "told_apart": live.router.tells_apart,
        "unnamed": dict(assigned),
        "new_domain_suggested": suggested,
        "examples": [asdict(prompt) for prompt in typical(unlike, EXAMPLES)] if suggested else [],
    }
