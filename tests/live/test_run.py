"""`fastslow learn`: what it says, and what it needs."""

import time

import pytest

from fastslow.config import load_recipe
from fastslow.errors import ConfigError, StateError
from fastslow.feedback import Store, voting
from fastslow.live.run import learn


@pytest.fixture
def told():
    said = []

    def run(town, **changes):
        settings = {"store_url": None, "once": True, "say": said.append, **changes}
        learn(town.folder, load_recipe(town.settings()), **settings)
        return said

    return run


def test_votes_that_no_server_has_admitted_are_learned(town, rows, told):
    """A server that stops within their minute of grace leaves them."""
    town.now = time.time() - 10 * voting.GRACE
    town.votes(rows[:12], admitted=False)
    said = told(town)
    assert len(town.history()) == 1 and said[-1].startswith("1 update decided; ")


def test_what_waits_is_said(town, rows, told):
    town.now = time.time()
    town.votes(rows[:3], admitted=False)
    assert "0 updates decided; 0 rows wait for more" in told(town)[-1]
    assert "3 sent in the last 60 s can still be taken back" in told(town)[-1]


def test_no_store_is_made_where_none_is(town, told, tmp_path):
    town.folder = tmp_path / "typo"
    with pytest.raises(StateError, match=r"typo holds no votes .*; start fastslow serve"):
        told(town)
    assert not town.folder.exists()


@pytest.mark.parametrize("name", ["config.json", "config.yaml", "adapter_config.json"])
def test_votes_are_not_put_into_the_folder_of_a_model_or_a_run(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match="keep votes in a separate folder"):
        Store(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {name}
