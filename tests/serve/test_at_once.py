"""One vote that is sent a hundred times at the same moment, over HTTP, on either kind of store."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx2
import pytest
from browsing import Site
from sqlalchemy import select

from fastslow.feedback import ledger, schema
from fastslow.streams import fault_of

TIMES = 100


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request, make_server):
    postgresql = request.param == "postgresql"
    made = Site(make_server(where=request.getfixturevalue("shared_store") if postgresql else None))
    yield made
    made.close()


def test_one_key_a_hundred_times_at_once_is_one_row(site):
    server = site.server
    pair = server.pair(needs=2)
    server.next()
    headers = {"Authorization": f"Bearer {server.tokens['annotator']}", "Idempotency-Key": "once"}
    together = Barrier(TIMES)
    limits = httpx2.Limits(max_connections=TIMES)
    with (
        httpx2.Client(base_url=site.address, headers=headers, limits=limits, timeout=60) as client,
        ThreadPoolExecutor(TIMES) as pool,
    ):

        def send(_):
            together.wait()
            return client.post("/v1/votes", json={"pair_id": pair, "verdict": "a"})

        replies = [*pool.map(send, range(TIMES))]
    assert {reply.status_code for reply in replies} == {202}
    receipts = [reply.json() for reply in replies]
    assert len({receipt["id"] for receipt in receipts}) == 1
    assert sum(not receipt["repeated"] for receipt in receipts) == 1
    server.now += 100
    server.store.write(ledger.admit, now=server.now, check=fault_of)
    with server.store.read() as connection:
        assert len(connection.execute(select(schema.votes)).all()) == 1
        assert len(connection.execute(select(schema.ledger)).all()) == 1
