import random
import sys
from pathlib import Path

import pytest
import tiny
from sqlalchemy import update

sys.path.append(str(Path(__file__).parent))  # Helpers of these tests, and of the store's.
sys.path.append(str(Path(__file__).parents[1] / "feedback"))

from town import Town

from fastslow.config import load_recipe
from fastslow.feedback import Store, leases, ledger, planning, updates, voting
from fastslow.feedback.places import adapter_folder
from fastslow.feedback.schema import meta
from fastslow.live.process import LiveLearner
from fastslow.streams import fault_of

ROWS = 8
LENIENT = {
    "prompts": 4, "kl_to_champion": 1e9, "chosen_ratio": -1e9, "shorter": 0, "longer": 1e9,
    "unfinished": 1, "repeated": 1, "phrase_p": 0,
}  # fmt: skip
"""A tiny random model says nothing that could be tested."""


class LiveTown(Town):
    """A store with votes, and learners of them."""

    def __init__(self, store, folder, recipe):
        super().__init__(store)
        self.folder, self.recipe, self.told = folder, recipe, []
        self.live = {}

    def votes(self, rows, domain="talk", *, admitted=True):
        """Votes on pairs of rows, in the ledger; a held-out prompt's come beside them."""
        for row in rows:
            pair = self.pair(row["prompt"], row["chosen"], row["rejected"], domain)
            voter = self.voters[0]
            self.store.write(leases.lease, pair_id=pair, voter=voter, until=self.now)
            with self.store.read() as connection:
                (shown,) = leases._shown(connection, [pair], 0.0)
            self.vote(voter, pair, "a" if shown.a == row["chosen"] else "b")
        if not admitted:
            return
        self.now += voting.GRACE
        while self.write(ledger.admit, check=fault_of).rows == ledger.AT_ONCE:
            pass

    def rating(self, prompt, text, verdict):
        """A thumb on an answer, in the ledger."""
        answer = self.answer(self.prompt(prompt), text)
        voter = self.voters[0]
        self.write(voting.rate, voter=voter, answer_id=answer, verdict=verdict, key=f"r{answer}")
        self.now += voting.GRACE
        self.write(ledger.admit, check=fault_of)

    def settings(self, **limits):
        """The recipe, with thresholds of the gate."""
        live = {"rows": ROWS, "max_wait_s": 1e12, "gate": LENIENT | limits, **self.live}
        return self.recipe.model_dump(mode="json") | {"live": live}

    def learner(self, **limits):
        return LiveLearner(self.store, self.folder, load_recipe(self.settings(**limits)))

    def learn(self, learner=None, times=99, **limits):
        learner = learner or self.learner(**limits)
        for _ in range(times):
            if not learner.once(self.told.append):
                break
        return learner

    def weights(self, update):
        """The bytes of an update's adapter."""
        folder = adapter_folder(self.folder, update.adapter)
        return (folder / "adapter_model.safetensors").read_bytes()

    def history(self, domain="talk"):
        with self.store.read() as connection:
            return updates.history(connection, domain)[::-1]

    def route(self, domain="talk"):
        with self.store.read() as connection:
            return updates.route_of(connection, domain)

    def waiting(self, domain="talk"):
        with self.store.read() as connection:
            return [row.seq for row in planning.waiting(connection, domain)]


@pytest.fixture
def make_town(model_folder, tmp_path):
    made = []

    def make(name="live", **sections):
        raw = {
            "model": str(model_folder),
            "data": {"max_length": 64},
            "lora": {"rank": 4, "alpha": 8.0},
            "objective": {"name": "davidson"},
            "train": {"batch_size": 4, "learning_rate": 1e-2, "schedule": "constant"},
            "eval": {"num_prompts": 0, "max_new_tokens": 4},
            "budget": None,
        }
        store = Store(tmp_path / name)
        made.append(store)
        # What is held out hangs on the store's name, which is random otherwise.
        fixed = update(meta).where(meta.c.key == "store").values(value="store")
        store.write(lambda connection: connection.execute(fixed))
        return LiveTown(store, tmp_path / name, load_recipe(raw | sections))

    yield make
    for store in made:
        store.close()


@pytest.fixture
def town(make_town):
    return make_town()


@pytest.fixture(scope="session")
def rows():
    draw = random.Random(5)
    return [
        {
            "prompt": f"Describe {draw.choice(tiny.THINGS)} {number}.",
            "chosen": f"It is {draw.choice(tiny.GOOD)}.",
            "rejected": f"It is {draw.choice(tiny.BAD)}.",
        }
        for number in range(120)
    ]
