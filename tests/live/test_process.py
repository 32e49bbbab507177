"""Votes become adapters: each learned once, whatever is stopped, undone or taken over between."""

import json
import math
import random

import pytest

from fastslow.api.learner import Learner
from fastslow.errors import ConfigError
from fastslow.feedback import Fenced, decisions, planning, updates
from fastslow.feedback.places import adapter_folder
from fastslow.live import lessons
from fastslow.live.choice import NEWEST, chosen_module, margins, vote_loss
from fastslow.live.gate import surprise
from fastslow.live.process import LiveLearner


def test_votes_become_adapters_that_answer(town, rows):
    town.votes(rows[:30])
    waiting = town.waiting()
    town.learn()
    history = town.history()
    assert len(history) == len(waiting) // 8 == 3
    assert [one.state for one in history] == ["superseded", "superseded", "promoted"]
    assert town.waiting() == waiting[24:]
    assert town.route().update_id == history[-1].id
    for one in history:
        assert one.adapter.startswith(f"talk-u{one.id}-{one.adapter_sha256[:12]}")
        assert one.gate["verdict"] == "promoted" and one.gate["learned"]["rows"] == 8
        assert {check["name"] for check in one.gate["checks"]} == {
            "surprise", "distance", "chosen", "held-out votes", "held-out loss", "answers",
            "phrases",
        }  # fmt: skip
    assert len({town.weights(one) for one in history}) == 3
    assert json.loads(json.dumps([str(event) for event in town.told]))


def test_a_learner_that_begins_anew_goes_on_to_the_same_bits(make_town, rows):
    whole, broken = make_town("whole"), make_town("broken")
    for town in (whole, broken):
        town.votes(rows[:40])
    whole.learn()
    while broken.waiting()[7:]:
        broken.learn(times=1)
    assert len(whole.history()) >= 3
    assert [one.adapter for one in whole.history()] == [one.adapter for one in broken.history()]


@pytest.mark.parametrize(
    "step",
    [
        "candidate",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("learning", "gating", "decided")),
    ],
)
def test_a_learner_that_dies_anywhere_leaves_all_to_the_next_one(
    make_town, rows, step, monkeypatch
):
    whole, broken = make_town("whole"), make_town("broken")
    for town in (whole, broken):
        town.votes(rows[:40])
    whole.learn()
    learner = broken.learner()
    learner.once(broken.told.append)
    work = {"decided": decisions.promote}.get(step, planning.move)
    write = broken.store.write

    def dies(what, *args, **named):
        if what is work and named.get("state", "decided") == step:
            raise KeyboardInterrupt
        return write(what, *args, **named)

    monkeypatch.setattr(broken.store, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        learner.once(broken.told.append)
    monkeypatch.undo()
    broken.learn()
    assert [one.adapter for one in whole.history()] == [one.adapter for one in broken.history()]
    folders = {path.name for path in (broken.folder / "adapters").iterdir()}
    assert folders == {one.adapter for one in broken.history()}


def test_what_fails_the_gate_leaves_the_route_and_what_comes_later_as_if_it_had_not_been(
    make_town, rows
):
    town, other = make_town("town"), make_town("other")
    for one in (town, other):
        one.votes(rows[:12])
    town.learn()
    other.learn()
    first = town.history()[0]
    town.votes(rows[20:32])
    strict = town.learner(kl_to_champion=1e-9)
    strict.once(town.told.append)
    failed = town.history()[-1]
    assert failed.state == "quarantined" and town.route().update_id == first.id
    (distance,) = [one for one in failed.gate["checks"] if not one["passed"]]
    assert distance["name"] == "distance" and "at most 1e-09" in distance["said"]
    assert "quarantined" in str(town.told[-1]) and distance["said"] in str(town.told[-1])
    left = town.waiting()
    town.votes(rows[40:52])
    town.learn()
    assert not set(left) & set(town.waiting())
    later = town.history()[2:]
    assert later and [one.parent for one in later] == [first.id, *(one.id for one in later[:-1])]


@pytest.mark.parametrize("held_out", [pytest.param(24, marks=pytest.mark.slow), 1])
def test_while_hardly_anything_is_held_out_an_update_is_tested_on_what_was_learned(
    make_town, rows, held_out
):
    town = make_town()
    town.votes(rows[:40])
    learner = town.learn(held_out=held_out, alpha=0.5, kept_advantage=1.0)
    town.votes([{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows[:40]])
    town.learn(learner)
    names = [[check["name"] for check in one.gate["checks"]] for one in town.history()]
    tested = ["learned votes" in own for own in names]
    if held_out == 1:
        assert not any(tested)
        return
    assert tested == [False] * 3 + [True] * (len(tested) - 3)
    failed = {
        check["name"]
        for one in town.history()
        if one.state == "quarantined"
        for check in one.gate["checks"]
        if not check["passed"]
    }
    assert "learned votes" in failed


@pytest.mark.parametrize(
    ("promotion", "held_out", "verdict"),
    [
        ("automatic", 999, "promoted"), ("tested", 999, "waiting"), ("tested", 1, "promoted"),
        ("by_hand", 1, "waiting"),
    ],
)  # fmt: skip
def test_what_passes_answers_or_waits_for_a_person(make_town, rows, promotion, held_out, verdict):
    town = make_town()
    town.live = {"promotion": promotion}
    town.votes(rows[:40])
    learner = town.learn(times=1, held_out=held_out, alpha=0)
    (first,) = town.history()
    assert first.state == first.gate["verdict"] == verdict
    assert first.gate["tested"] is (held_out == 1)
    assert ("too few held-out votes" in str(town.told[0])) is (held_out == 999)
    if verdict == "promoted":
        return
    assert "approve it on the page" in str(town.told[0])
    town.learn(learner)
    assert len(town.history()) == 1 and town.route().update_id is None
    town.write(decisions.approve, update_id=first.id, by=town.voters[0])
    town.learn(learner, times=1)
    assert town.history()[1].parent == town.route().update_id == first.id


@pytest.mark.parametrize("compared", [0, 5])
def test_thumbs_are_learned_from_alone_and_beside_comparisons(town, rows, compared):
    for row in rows[: 16 - compared]:
        town.rating(row["prompt"], row["chosen"], "up")
        town.rating(row["prompt"], row["rejected"], "down")
    town.votes(rows[60 : 60 + compared])
    learner = town.learn(times=1)
    (first,) = town.history()
    assert first.state == "promoted" and first.gate["learned"]["rows"] == 8
    with town.store.read() as connection:
        learned = [one.row for one in updates.rows_of(connection, first.id)]
    rated = [row for row in learned if "label" in row]
    assert rated and not first.gate["learned"]["notes"]
    assert first.gate["learned"]["judged"] == (8 - len(rated) or 8)
    found = learner.learner.score(
        [{"prompt": one["prompt"], "chosen": one["completion"][0]["content"],
          "rejected": "No."}
         for one in rated]
    )  # fmt: skip
    moved = [one.logps[0] - one.reference_logps[0] for one in found]
    up, down = ([m for m, row in zip(moved, rated, strict=True) if row["label"] is which]
                for which in (True, False))  # fmt: skip
    assert sum(up) / len(up) > sum(down) / len(down)


def test_few_ratings_weigh_no_more_than_as_many_votes(town, rows, monkeypatch):
    """They are a batch of their own, of which each row would count several times."""
    learner, steps = town.learner(), []
    step = learner.learner.step

    def noted(batch, *, full):
        alone, result = learner.learner.snapshot(), step(batch, full=full)
        after = learner.learner.snapshot()
        learner.learner.restore(alone)
        whole = step(batch)
        learner.learner.restore(after)
        norms = [one.modules["fast"]["grad_norm"] for one in (result, whole)]
        steps.append((len(batch), norms[0] / norms[1]))
        return result

    monkeypatch.setattr(learner.learner, "step", noted)
    town.rating(rows[0]["prompt"], rows[0]["chosen"], "up")
    town.votes(rows[60:68])
    town.learn(learner, times=1)
    assert [count for count, _ in steps] == [4, 3, 1]
    assert [share for _, share in steps] == pytest.approx([1, 3 / 4, 1 / 4], rel=1e-3)


def test_votes_that_contradict_all_before_wait_for_a_person(make_town, rows, monkeypatch):
    monkeypatch.setattr(surprise, "BEFORE", 16)
    town = make_town(train={"batch_size": 4, "learning_rate": 1e-2, "schedule": "constant"})
    town.votes(rows[:60])
    learner = town.learn(surprise_p=0.05)
    good = town.history()
    assert {one.state for one in good} == {"superseded", "promoted"} and len(good) >= 5
    assert good[-1].gate["learned"]["accuracy"] > 0.7
    town.votes(
        [
            {"prompt": row["prompt"], "chosen": row["rejected"], "rejected": row["chosen"]}
            for row in rows[60:90]
        ]
    )
    town.learn(learner)
    *_, mixed, asked = town.history()  # Some that came before are in the first of them.
    assert asked.state == "waiting" and town.route().update_id == mixed.id
    assert "surprise" in {one["name"] for one in asked.gate["checks"] if not one["passed"]}
    assert "new votes predicted right" in str(town.told[-1])
    assert "approve it on the page" in str(town.told[-1])
    town.write(decisions.discard, update_id=asked.id, by=town.voters[0])
    with town.store.read() as connection:
        spoilt = {row.seq for row in updates.rows_of(connection, asked.id)}
    assert spoilt and not spoilt & set(town.waiting())


def test_rolling_back_goes_on_from_what_is_served_again(make_town, rows):
    town, other = make_town("town"), make_town("other")
    for one in (town, other):
        one.votes(rows[:12])
        one.learn()
    first = town.history()[0]
    town.votes(rows[20:32])
    learner = town.learn()
    bad = town.history()[-1]
    town.write(decisions.roll_back, update_id=bad.id, by=None)
    assert town.route().update_id == first.id
    with town.store.read() as connection:
        undone = {row.seq for row in updates.rows_of(connection, bad.id)}
    town.votes(rows[40:52])
    town.learn(learner)
    again = town.history()[2:]
    assert again[0].parent == first.id and again[-1].state == "promoted"
    with town.store.read() as connection:
        learned = {row.seq for one in again for row in updates.rows_of(connection, one.id)}
    assert learned and not learned & undone


def test_domains_have_chains_of_their_own(town, rows):
    town.votes(rows[:12], "talk")
    town.votes(rows[20:32], "A Letter!")
    town.learn()
    (talk,), (letter,) = town.history("talk"), town.history("A Letter!")
    assert talk.parent is letter.parent is None
    assert letter.adapter.startswith("a-letter-") and town.weights(talk) != town.weights(letter)
    town.votes(rows[40:52], "talk")
    town.learn()
    assert town.history("talk")[-1].parent == talk.id


def test_a_second_learner_ends_the_first(town, rows):
    town.votes(rows[:30])
    old = town.learner()
    town.learn(town.learner(), times=1)
    with pytest.raises(Fenced, match="another learner"):
        old.once(town.told.append)
    assert len(town.history()) == 1


def test_what_was_undone_while_it_was_learned_is_given_back(town, rows, monkeypatch):
    town.votes(rows[:30])
    learner = town.learn(times=1)
    (first,) = town.history()

    def undo(*args):
        monkeypatch.undo()
        town.write(decisions.roll_back, update_id=first.id, by=None)
        return tested(*args)

    tested = LiveLearner._tested
    monkeypatch.setattr(LiveLearner, "_tested", lambda self, *args: undo(self, *args))
    learner.once(town.told.append)
    states = [one.state for one in town.history()]
    assert states == ["rolled_back", "released"] and town.route().update_id is None
    town.learn(learner)
    assert town.history()[2].parent is None and town.history()[-1].state == "promoted"


def test_old_updates_are_removed_from_disk(town, rows):
    town.live = {"keep": 2}
    town.votes(rows[:60])
    town.learn()
    history = town.history()
    kept = {one.adapter for one in history if one.checkpoint}
    assert len(history) >= 4 and kept == {one.adapter for one in history[-2:]}
    assert {path.name for path in (town.folder / "adapters").iterdir()} == kept
    assert len(list((town.folder / "domains" / "talk").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"train": "x.jsonl", "max_length": 96}}, "data.train: votes come from"),
        ({"train": {"schedule": "linear"}}, "train.schedule: votes never end"),
        ({"task": "reward"}, "task: votes train a policy"),
        ({"drift": {}}, "drift: has no effect on"),
        ({"report_to": "tensorboard"}, "report_to: has no effect on"),
    ],
)
def test_settings_that_have_no_effect_are_refused(make_town, change, said):
    town = make_town(**change)
    with pytest.raises(ConfigError, match=said):
        town.learner()


def test_the_module_that_answered_stays_unless_another_predicts_new_votes_better():
    draw = random.Random(7)
    fast = [0.6 + draw.gauss(0, 0.2) for _ in range(NEWEST)]

    def losses(gained, votes=NEWEST):
        slow = [one - gained + draw.gauss(0, 0.2) for one in fast]
        return {"fast": fast[:votes], "slow": slow[:votes]}

    assert chosen_module(losses(0.1), "fast") == "slow"
    assert chosen_module(losses(-0.1), "slow") == "fast"
    assert chosen_module(losses(-0.1), "fast") == "fast"
    assert chosen_module(losses(0.5, votes=16), "fast") == "fast", "too few"
    assert chosen_module({}, "fast") == "fast"
    changed = sum(chosen_module(losses(0.0), "fast") == "slow" for _ in range(200))
    assert changed / 200 < 0.1, "a lead by chance is no reason to change"


def test_modules_are_compared_on_votes_before_they_are_learned(make_town, rows, monkeypatch):
    """On those of earlier updates too, by whichever learner, and on none that is replayed."""
    compared = []
    monkeypatch.setattr(
        lessons, "chosen_module", lambda losses, before: compared.append(losses) or before
    )
    town = make_town()
    town.votes(rows[:12])
    own = town.learn().learner
    compared.clear()  # Modules are the same before the first step.
    town.live = {"max_wait_s": 0.0}
    town.votes(rows[20:24])
    with town.store.read() as connection:
        new = [one.row for one in planning.waiting(connection, "talk")]
    beta = own.core.objective.beta
    expected = {
        name: [vote_loss(one, beta) for one in margins(own, name, new)] for name in own.modules
    }
    town.learn()
    (losses,) = compared
    for name, found in losses.items():
        assert found[:8] == pytest.approx([math.log(2)] * 8), "before the first step"
        assert found[8:] == pytest.approx(expected[name]) and len(found) < 16
    assert losses["fast"] != losses["slow"]


def test_a_module_that_takes_over_may_be_twice_as_far_from_the_one_before(
    make_town, rows, monkeypatch
):
    """Where one update's distance set it aside, it could never answer, and its votes were lost."""

    def distance(name, limit):
        town = make_town(name)
        town.votes(rows[:12])
        town.learn()
        town.votes(rows[20:32])
        town.learn(kl_to_champion=limit)
        (check,) = [one for one in town.history()[1].gate["checks"] if one["name"] == "distance"]
        return check["passed"], check["numbers"]["reverse_kl"]

    _, kl = distance("own", 9.0)
    assert not distance("own again", 0.6 * kl)[0]
    # After the first update's votes.
    monkeypatch.setattr(
        lessons,
        "chosen_module",
        lambda losses, before: "slow" if len(losses["fast"]) > 12 else before,
    )
    _, kl = distance("another", 9.0)
    assert distance("another again", 0.6 * kl)[0]
    assert not distance("another further", 0.4 * kl)[0]


def test_the_fast_module_answers_first_whoever_leads_after_a_few_steps(town, rows, monkeypatch):
    monkeypatch.setattr(Learner, "leader", property(lambda self: "slow"))
    town.votes(rows[:12])
    town.learn()
    assert town.history()[0].gate["learned"]["leader"] == "fast"


def test_every_module_of_a_live_learner_is_kept_within_the_budget(make_town):
    """Any of them may answer."""
    assert make_town(budget={}).learner().learner.core.budget.each_alone


@pytest.mark.parametrize("budget", [{"reverse_kl": 3.0}, {}])
def test_what_an_update_may_move_follows_the_budget(make_town, rows, budget):
    """With answers of a hundred tokens the budget is ten nats; a limit of its own stopped all."""
    town = make_town(budget=budget)
    town.votes(rows[:12])
    town.learn(kl_to_champion=None)
    checks = {one["name"]: one for one in town.history()[0].gate["checks"]}
    limit = checks["distance"]["numbers"]["limit"]
    if budget:
        assert limit == pytest.approx(4.5)
    else:  # 0.15 nats a token of the base's answers.
        assert 0.15 <= limit <= 0.15 * town.recipe.eval.max_new_tokens + 1e-9
    assert f"at most {limit:.3g} allowed" in checks["distance"]["said"]


def test_without_a_budget_the_largest_distance_must_be_given(make_town):
    town = make_town(budget=None)
    with pytest.raises(ConfigError, match="live.gate.kl_to_champion: without a KL budget"):
        town.learner(kl_to_champion=None)
    town.learner(kl_to_champion=1.0)


def test_chosen_answers_are_judged_by_their_tokens_whatever_their_length(town, rows):
    town.votes(rows[:12])
    town.learn()
    (check,) = [one for one in town.history()[0].gate["checks"] if one["name"] == "chosen"]
    learner = town.learner().learner
    learned = town.history()[0]
    with learner.beside({"candidate": adapter_folder(town.folder, learned.adapter)}):
        with town.store.read() as connection:
            entries = planning.last_learned(connection, "talk", limit=99)
        found = learner.score([one.row for one in entries], module="candidate")
    nats = sum(one.logps[0] - one.reference_logps[0] for one in found)
    expected = nats / sum(one.num_tokens[0] for one in found)
    assert check["numbers"]["chosen_ratio"] == pytest.approx(expected, rel=1e-4)
