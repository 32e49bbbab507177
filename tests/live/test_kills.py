"""A live learner that is killed at any point, however often, learns every vote once, to the same
bits, and what answers is whole all the time. FASTSLOW_KILLS says how often."""

import os

import fork_server
import pytest
from live_kills import kill_often

from fastslow.config import dump_recipe, load_recipe
from fastslow.feedback import consolidating

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.mark.parametrize("consolidated", [False, True])
def test_kills_change_no_bit_of_what_is_learned_and_lose_no_vote(
    make_town, rows, tmp_path, consolidated
):
    kills = int(os.environ.get("FASTSLOW_KILLS", 24 if fork_server.COLD else 12))
    town = make_town("town")
    town.votes(rows[:40])
    if consolidated:
        town.votes(rows[40:60], "letter")
        town.learn()
        town.write(consolidating.ask, by=None)
        town.votes(rows[60:70])
    town.store.close()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(load_recipe(town.settings())))
    found = kill_often(town.folder, recipe, tmp_path, kills=kills, seed=0)
    assert found.total() >= kills and len(found) >= min(6, kills // 6), found
