"""The ledger as a source of training rows: in order, once each, without what was taken back."""

import json

import pytest

from fastslow import load_recipe, training
from fastslow.errors import ConfigError, DataError
from fastslow.feedback import export, ledger, voting
from fastslow.streams import ExampleStream, Followed, Waiting, fault_of, open_sources


@pytest.fixture
def spec(town, where):
    """What a recipe names."""
    return f"feedback:{where}"


def voted(town, count, voter=0):
    """Votes that are in the ledger; each prefers its own answer."""
    who, made = town.voters[voter], []
    for _ in range(count):
        pair = town.pair(text=f"prompt {town.made}", first=f"good {town.made}")
        town.made += 1
        town.next(who, count=20)
        made.append(town.vote(who, pair, "a"))
    admit(town)
    return made


def admit(town):
    town.now += voting.GRACE
    town.write(ledger.admit, check=fault_of)


@pytest.fixture
def town_of_rows(town):
    town.made = 0
    return town


def numbers(source, start=0):
    return [number for number, _ in source.rows(start)]


def test_rows_have_their_place_in_the_ledger(town_of_rows, spec):
    town = town_of_rows
    first = voted(town, 3)
    (source,) = open_sources([spec])
    assert source.name == spec and numbers(source) == [1, 2, 3] and numbers(source, 2) == [3]
    before = source.fingerprint()
    voted(town, 1)
    assert numbers(source) == [1, 2, 3], "what comes later is read when it is looked for"
    assert source.look() and not source.look() and numbers(source, 3) == [4]
    assert source.continues(before) and source.fingerprint() != before
    town.write(voting.retract, voter=town.voters[0], vote_id=first[1].id)
    admit(town)
    assert source.look()
    assert numbers(source) == [1, 3, 4], "what was taken back does not come, nor moves others"


def test_prompts_that_are_held_out_are_a_source_of_their_own(town_of_rows, spec):
    voted(town_of_rows, 40)
    learned, held_out = open_sources([spec, f"{spec}:held_out"])
    both = numbers(learned), numbers(held_out)
    assert both[0] and both[1] and sorted(both[0] + both[1]) == list(range(1, 41))
    assert all(row["held_out"] for _, row in held_out.rows())


def test_a_followed_ledger_gives_votes_as_they_are_admitted(town_of_rows, spec):
    voted(town_of_rows, 2)
    stream = ExampleStream(Followed([spec]), poll=True)
    examples = (one for one in stream if not isinstance(one, Waiting))
    found = [next(examples), next(examples)]
    voted(town_of_rows, 1)
    found.append(next(examples))
    assert [one.source.rpartition(":")[2] for one in found] == ["1", "2", "3"]


@pytest.mark.parametrize("later", [0, 3])
def test_a_stream_goes_on_behind_a_row_that_was_taken_back(later, town_of_rows, spec):
    town = town_of_rows
    votes = voted(town, 3)
    first = ExampleStream(open_sources([spec]))
    examples = iter(first)
    read = [next(examples).source, next(examples).source]
    town.write(voting.retract, voter=town.voters[0], vote_id=votes[1].id)
    if not later:
        town.write(voting.retract, voter=town.voters[0], vote_id=votes[2].id)
    voted(town, later)
    second = ExampleStream(open_sources([spec]))
    second.load_state(json.loads(json.dumps(first.state())))
    rest = [one.source for one in second]
    with town.store.read() as connection:
        page = export.export_page(connection)
    left = [row["seq"] for row in page.rows if not row["held_out"] and row["seq"] > 2]
    assert [name.rpartition(":")[2] for name in read] == ["1", "2"]
    assert [int(name.rpartition(":")[2]) for name in rest] == left


def test_a_ledger_put_back_to_an_older_state_is_refused(town_of_rows, spec):
    voted(town_of_rows, 2)
    (source,) = open_sources([spec])
    with pytest.raises(DataError, match="ends at 2, but rows up to 3 were read"):
        list(source.rows(3))
    newer = [*source.fingerprint()]
    newer[1] = 3
    assert not source.continues(newer)


def test_where_there_is_no_store_is_said(tmp_path):
    with pytest.raises(DataError, match="holds no store.db"):
        open_sources([f"feedback:{tmp_path}"])
    assert not (tmp_path / "store.db").exists()


def test_a_password_would_stand_in_the_run_folder():
    with pytest.raises(ConfigError, match="PGPASSWORD"):
        open_sources(["feedback:postgresql+psycopg://me:secret@host/db"])


def test_a_store_without_rows_says_how_many_votes_are_waiting(town_of_rows, spec):
    town = town_of_rows
    with pytest.raises(DataError, match="no rows in feedback:[^;]*$"):
        list(ExampleStream(open_sources([spec])))
    pair = town.pair()
    town.next(town.voters[0], count=20)
    town.vote(town.voters[0], pair, "a")
    with pytest.raises(DataError, match="; 1 votes are not admitted yet"):
        list(ExampleStream(open_sources([spec])))


def test_a_run_learns_each_vote_once_as_they_come(town_of_rows, spec, tmp_path, model_folder):
    town, folder = town_of_rows, tmp_path / "run"
    recipe = load_recipe(
        {
            "model": str(model_folder),
            "output_dir": str(folder),
            "data": {"train": spec, "max_length": 96, "replay_buffer_size": 1000},
            "lora": {"rank": 2, "alpha": 4.0},
            "train": {"batch_size": 4, "schedule": "constant"},
            "chase": None,
            "budget": None,
        }
    )
    with pytest.raises(DataError, match="no rows in feedback"):
        training.train(recipe)
    votes = voted(town, 6)
    seen = training.train(recipe).pairs_seen
    town.write(voting.retract, voter=town.voters[0], vote_id=votes[0].id)
    voted(town, 5)
    training.train(recipe)
    rows = [json.loads(line) for line in (folder / "memory.jsonl").read_text().splitlines()]
    learned = [entry.seq for entry in _entries(town) if entry.row and not entry.holdout]
    assert seen == sum(seq <= 6 for seq in learned)
    assert sorted(row["prompt"][0]["content"] for row in rows) == sorted(
        f"prompt {seq - 1}" for seq in learned
    )


def _entries(town):
    with town.store.read() as connection:
        return list(ledger.entries(connection))
