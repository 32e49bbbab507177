"""Several servers on one store: nobody gets a pair twice, no vote is lost or doubled."""

import json
import urllib.error
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from running import Running, pairs_file
from sqlalchemy import select

from fastslow.feedback import Store, people
from fastslow.feedback.schema import leases, votes

pytestmark = pytest.mark.processes

PEOPLE, PAIRS = 8, 60


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    if request.param == "sqlite":
        return str(tmp_path / "shared")
    return request.getfixturevalue("shared_store")


def test_two_servers_share_a_store(place, tmp_path):
    file = pairs_file(tmp_path, PAIRS)
    with Store(place) as store:
        made = [
            store.write(people.add_principal, name=f"p{n}", role="annotator", now=0.0)
            for n in range(PEOPLE)
        ]
        tokens = [token for _, token in made]
        first = Running(tmp_path / "one", "--store", place, "--pairs", file)
        second = Running(tmp_path / "two", "--store", place, "--pairs", file)
        assert f"0 new pairs, {PAIRS} already present" in second.process.stdout
        for place_of, server in enumerate((first, second)):
            server.tokens |= {f"p{n}": token for n, token in enumerate(tokens)}
            server.number = place_of
        given = Counter()

        def annotate(n):
            """Ask one server for a pair, and give the verdict to the other."""
            own, turn = [], n
            while True:
                ask, tell = (first, second) if turn % 2 else (second, first)
                turn += 1
                shown = ask.ask("/v1/pairs/next", {}, who=f"p{n}")["pairs"]
                if not shown:
                    return own
                pair = shown[0]["id"]
                body = {"pair_id": pair, "verdict": "a"}
                for _ in range(2):  # The second one is the same vote.
                    tell.ask("/v1/votes", body, who=f"p{n}", key=f"{n}-{pair}")
                own.append(pair)

        with ThreadPoolExecutor(PEOPLE) as pool:
            for own in pool.map(annotate, range(PEOPLE)):
                given.update(own)
        assert len(given) == PAIRS and set(given.values()) == {1}
        with store.read() as connection:
            kept = connection.execute(select(votes.c.pair_id)).scalars().all()
            assert sorted(kept) == sorted(given)
            shown = connection.execute(select(leases.c.pair_id, leases.c.voter)).all()
        assert len(shown) == len(set(shown))
        with pytest.raises(urllib.error.HTTPError) as refused:
            first.ask("/v1/votes", {"pair_id": kept[0], "verdict": "b"}, who="p0", key="again")
        assert json.load(refused.value)["error"]["message"]
        for server in (first, second):
            server.stop()
