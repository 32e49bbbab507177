"""Creates the first people of a store, and a file of their tokens that only its owner can read."""

from pathlib import Path

from filelock import FileLock

from fastslow.atomic_io import write_text
from fastslow.feedback import Store
from fastslow.feedback.people import add_principal, all_principals, new_token

FILE = "tokens"
FIRST = {"admin": "admin", "annotator": "annotator"}
"""People of a new store by name, with their roles."""


def first_tokens(store: Store, folder: Path, *, now: float) -> dict[str, str] | None:
    """Create the first people of a new store, or new tokens if the file was removed.

    Returns the new tokens by name, also written to `folder/tokens`; None if the file exists.
    """
    path = folder / FILE
    with FileLock(folder / f"{FILE}.lock"):  # Several servers may start on the folder at once.
        if path.exists():
            return None
        with store.read() as connection:
            known = {principal.name: principal.id for principal in all_principals(connection)}
        tokens = {}
        for name, role in FIRST.items():
            if name in known:
                tokens[name] = store.write(new_token, principal_id=known[name], now=now, by=None)
            else:
                _, tokens[name] = store.write(add_principal, name=name, role=role, now=now)
        lines = (f"{name} {token}\n" for name, token in tokens.items())
        write_text(path, "".join(lines), private=True)
        return tokens
