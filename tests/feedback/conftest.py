import itertools
import random
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parent))

import postgres  # noqa: E402

from fastslow.feedback import Store, items, leases, people, voting  # noqa: E402

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres_server():
    with postgres.running() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """A place for a store: a folder, or a schema of its own on a real server."""
    if request.param == "sqlite":
        return str(tmp_path / "live")
    server = request.getfixturevalue("postgres_server")
    name = f"store{next(NUMBERS)}"
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return f"{server}&options=-csearch_path%3D{name}"


@pytest.fixture
def store(where):
    with Store(where) as opened:
        yield opened


class Town:
    """A store with people and pairs in it, and a clock."""

    def __init__(self, store, voters=2):
        self.store, self.now, self.draw = store, 1000.0, random.Random(3)
        self.voters = [self.person(f"voter {number}") for number in range(voters)]

    def person(self, name, role="annotator"):
        who, _ = self.write(people.add_principal, name=name, role=role)
        return who.id

    def write(self, work, **named):
        return self.store.write(work, now=self.now, **named)

    def prompt(self, text="Hi", domain="talk"):
        messages = [{"role": "user", "content": text}]
        return self.write(items.add_prompt, messages=messages, domain=domain)

    def answer(self, prompt_id, text, **facts):
        return self.write(items.add_answer, prompt_id=prompt_id, answer=items.Answer(text, **facts))

    def pair(self, text="Hi", first="good", second="bad", domain="talk", **facts):
        prompt_id = self.prompt(text, domain)
        both = [self.answer(prompt_id, said) for said in (first, second)]
        return self.write(
            items.add_pair, prompt_id=prompt_id, first=both[0], second=both[1], draw=self.draw,
            **facts,
        )  # fmt: skip

    def next(self, voter, **named):
        return self.write(leases.next_pairs, voter=voter, **named)

    def vote(self, voter, pair_id, verdict="a", key=None, **named):
        key = key or f"key {next(NUMBERS)}"
        return self.write(
            voting.vote, voter=voter, pair_id=pair_id, verdict=verdict, key=key, **named
        )


@pytest.fixture
def town(store):
    return Town(store)
