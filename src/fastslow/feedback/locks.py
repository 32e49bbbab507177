"""Row locks between transactions on PostgreSQL; SQLite's writes run one after the other.

A write that needs several locks takes them in this order: the chains, a person, admission, a vote,
its pair. It reads what its decision depends on afterwards, since only then does it see what the
transaction that it waited for wrote. Writes that share a commit may still deadlock with another
process's; PostgreSQL ends one of the two, and the store retries it.
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
# Not stronger: an uncommitted vote holds a foreign-key lock on its pair.
PAIR = select(pairs.c.id).where(pairs.c.id == bindparam("pair")).with_for_update(key_share=True)


def lock_chains(connection: Connection) -> int:
    """Keep others from planning, serving or undoing an update, or becoming the learner; returns the
    current learner's number."""
    return int(connection.scalar(CHAINS) or 0)


def lock_person(connection: Connection, who: int) -> bool:
    """Keep others from disabling or forgetting a person; True if the person is disabled. The lock
    is shared: people who vote do not wait for their own votes."""
    return bool(connection.scalar(PERSON, {"who": who}))


def lock_admission(connection: Connection) -> None:
    """Keep others from admitting votes to the ledger."""
    connection.execute(ADMISSION)


def lock_pair(connection: Connection, pair_id: int) -> None:
    """Keep others from opening or closing a pair."""
    connection.execute(PAIR, {"pair": pair_id})
