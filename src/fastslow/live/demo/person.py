"""A person in the demo: an HTTP client with a token, which asks the server as the page does."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx2

from fastslow.errors import StateError

PATIENCE = 60.0
"""Seconds that a reply may take."""


class Gone(StateError):
    """The server has been stopped and does not answer."""


class Person:
    """One person's client of a server.

    Args:
        address: such as `http://127.0.0.1:8000`.
        token: this person's.
    """

    def __init__(self, address: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx2.Client(base_url=address, headers=headers, timeout=PATIENCE)

    def close(self) -> None:
        """Close the client."""
        self._client.close()

    def pairs(self, count: int) -> list[dict[str, Any]]:
        """Pairs to compare, at most `count`; empty if there are none yet."""
        pairs: list[dict[str, Any]] = self._post("/v1/pairs/next", {"count": count})["pairs"]
        return pairs

    def vote(self, pair: Mapping[str, Any], verdict: str) -> None:
        """Vote on a pair; `verdict` is the better answer, `a` or `b`."""
        self._post("/v1/votes", {"pair_id": pair["id"], "verdict": verdict})

    def newcomer(self, name: str) -> "Person":
        """Add a person who may vote; returns their client. For admins."""
        made = self._post("/v1/people", {"name": name, "role": "annotator"})
        return Person(str(self._client.base_url), made["token"])

    def updates(self) -> list[dict[str, Any]]:
        """Updates, newest first. For readers."""
        updates: list[dict[str, Any]] = self._ask("GET", "/v1/updates")["updates"]
        return updates

    def discard(self, number: int) -> None:
        """Never learn the votes of an update that waits. For admins."""
        self._post(f"/v1/updates/{number}/discard", {})

    def roll_back(self, number: int) -> dict[str, Any]:
        """Undo an update and those after it; returns what answers then. For admins."""
        return self._post(f"/v1/updates/{number}/rollback", {})

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"Idempotency-Key": uuid4().hex}
        return self._ask("POST", path, json=body, headers=headers)

    def _ask(self, method: str, path: str, **facts: Any) -> dict[str, Any]:
        try:
            reply = self._client.request(method, path, **facts)
        except httpx2.TimeoutException:
            raise StateError(f"{path}: the server does not answer within {PATIENCE:g} s") from None
        except httpx2.HTTPError as error:
            raise Gone(f"{path}: the server does not answer: {error}") from None
        if not reply.is_success:
            raise StateError(f"{reply.request.url.path}: {reply.status_code} {reply.text[:200]}")
        body: dict[str, Any] = reply.json()
        return body


def close_all(people: Sequence[Person]) -> None:
    """Close their clients."""
    for person in people:
        person.close()
