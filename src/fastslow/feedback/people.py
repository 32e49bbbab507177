"""People and services that may use the server, each with a role and one secret token."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from fastslow.feedback.refusals import Malformed, UnknownItem
from fastslow.feedback.schema import ROLES, audit, insert_row, principals

TOKEN_BYTES = 32
LONGEST_NAME = 200
OF_TOKEN = select(principals).where(principals.c.token_sha256 == bindparam("hash"))


@dataclass(frozen=True, slots=True)
class Principal:
    """A person or service."""

    id: int
    name: str
    role: str
    disabled: bool = False


def add_principal(
    connection: Connection, *, name: str, role: str, now: float, by: int | None = None
) -> tuple[Principal, str]:
    """Add a person or service; returns it and its token, which is stored nowhere.

    Raises Malformed for an unknown role, or a name that is empty, too long or taken.
    """
    if role not in ROLES:
        raise Malformed(f"unknown role {role!r}; use one of {', '.join(ROLES)}")
    if not 0 < len(name.strip()) <= LONGEST_NAME:
        raise Malformed(f"a name must have 1 to {LONGEST_NAME} characters")
    if connection.scalar(select(principals.c.id).where(principals.c.name == name)) is not None:
        raise Malformed(f"the name {name!r} is taken; choose another")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    values = {
        "name": name,
        "role": role,
        "token_sha256": _hash(token),
        "disabled": False,
        "at": now,
    }
    number = insert_row(connection, principals, values)
    note(connection, by, "add_principal", {"name": name, "role": role}, now=now)
    return Principal(number, name, role), token


def principal_of(connection: Connection, token: str) -> Principal | None:
    """The owner of a token; None if there is none, or it is disabled."""
    row = connection.execute(OF_TOKEN, {"hash": _hash(token)}).one_or_none()
    return None if row is None or row.disabled else _principal(row)


def all_principals(connection: Connection) -> list[Principal]:
    """Everyone, in the order in which they were added."""
    return [_principal(row) for row in connection.execute(select(principals).order_by("id"))]


def new_token(connection: Connection, *, principal_id: int, now: float, by: int | None) -> str:
    """Replace somebody's token; the old one is no longer valid."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    _change(connection, principal_id, token_sha256=_hash(token))
    note(connection, by, "new_token", {"principal": principal_id}, now=now)
    return token


def set_disabled(
    connection: Connection, *, principal_id: int, disabled: bool, now: float, by: int | None
) -> None:
    """Disable or enable somebody. Raises Malformed for oneself: no admin might remain."""
    if disabled and principal_id == by:
        raise Malformed("you cannot disable yourself; another admin can")
    _change(connection, principal_id, disabled=disabled)
    action = "disable" if disabled else "enable"
    note(connection, by, action, {"principal": principal_id}, now=now)


def note(
    connection: Connection, by: int | None, action: str, detail: Mapping[str, Any], *, now: float
) -> None:
    """Record who did what in the audit log."""
    values = {"at": now, "principal_id": by, "action": action, "detail": dict(detail)}
    connection.execute(audit.insert().values(values))


def last_note(connection: Connection) -> int:
    """The number of the newest note in the audit log; 0 if there is none."""
    return int(connection.scalar(select(func.max(audit.c.id))) or 0)


def _change(connection: Connection, principal_id: int, **values: Any) -> None:
    done = connection.execute(
        update(principals).where(principals.c.id == principal_id).values(values)
    )
    if not done.rowcount:
        raise UnknownItem(f"there is no person {principal_id}")


def _principal(row: Row[Any]) -> Principal:
    return Principal(row.id, row.name, row.role, row.disabled)


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
