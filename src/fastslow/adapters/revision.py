"""A base's name: a folder, an id of the Hub, or one at a revision, as `owner/name@v1`."""

from pathlib import Path

OF_REVISION = "_fastslow_revision"
"""Attribute of a base that was loaded at one."""


def at_revision(model: str) -> tuple[str, str | None]:
    """A folder or an id, and the commit, tag or branch that is named; None is the newest.

    >>> at_revision("owner/name@v1"), at_revision("owner/name")
    (('owner/name', 'v1'), ('owner/name', None))
    """
    name, _, revision = model.partition("@")
    if not revision or Path(model).exists():
        return model, None
    return name, revision
