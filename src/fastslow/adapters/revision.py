"""Names of bases: a folder, or a Hub id, which may have a revision, as `owner/name@v1`."""

from pathlib import Path

OF_REVISION = "_fastslow_revision"
"""Attribute of a loaded base that holds its revision."""


def at_revision(model: str) -> tuple[str, str | None]:
    """The folder or id, and the commit, tag or branch named with it; None is the newest.

    >>> at_revision("owner/name@v1"), at_revision("owner/name")
    (('owner/name', 'v1'), ('owner/name', None))
    """
    name, _, revision = model.partition("@")
    if not revision or Path(model).exists():
        return model, None
    return name, revision
