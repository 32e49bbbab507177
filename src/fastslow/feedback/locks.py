"""What transactions on PostgreSQL wait for each other by; SQLite's come one after the other.

A write that needs several of these locks them in this order: the chains, a person, admission, a
vote, its pair. It reads what it decides by afterwards: only then does it see what the one wrote
that it has waited for. Writes that share a commit may still wait for another process's, and that
for them; PostgreSQL ends one of the two, and the store begins it again.
"""

from sqlalchemy import Connection, bindparam, select

from fastslow.feedback.schema import meta, pairs, principals

CHAINS = select(meta.c.value).where(meta.c.key == "epoch").with_for_update()
PERSON = (
    select(principals.c.disabled)
    .where(principals.c.id == bindparam("who"))
    .with_for_update(read=True)
)
ADMISSION = select(meta.c.value).where(meta.c.key == "store").with_for_update()
# Not stronger: a vote that was written, and not committed, has locked that there is such a pair.
PAIR = select(pairs.c.id).where(pairs.c.id == bindparam("pair")).with_for_update(key_share=True)


def lock_chains(connection: Connection) -> int:
    """Nobody else plans, serves or undoes an update meanwhile, or becomes the learner; the number
    of the learner of now."""
    return int(connection.scalar(CHAINS) or 0)


def lock_person(connection: Connection, who: int) -> bool:
    """Nobody disables or forgets somebody meanwhile; whether somebody has. Others may lock them so
    too: people who vote do not wait for their own votes."""
    return bool(connection.scalar(PERSON, {"who": who}))


def lock_admission(connection: Connection) -> None:
    """Nobody else gives votes their places in the ledger meanwhile."""
    connection.execute(ADMISSION)


def lock_pair(connection: Connection, pair_id: int) -> None:
    """Nobody else opens or closes a pair meanwhile."""
    connection.execute(PAIR, {"pair": pair_id})
