"""One student of what answers in every domain, tested, served and undone as an update of each."""

import pytest
import torch
from safetensors.torch import load_file

from fastslow.feedback import Malformed, consolidating, decisions, forgetting, planning, updates
from fastslow.feedback.places import CONSOLIDATIONS, adapter_folder
from fastslow.live import students
from fastslow.live.gate.gate import Gate
from fastslow.live.lessons import Lessons
from fastslow.live.students import Students
from fastslow.training.continual import distillation
from fastslow.training.loop.signals import StopToken

DOMAINS = ("letter", "talk")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(students, "MOST_STEPS", 6)
    monkeypatch.setattr(distillation, "KEPT_EVERY", 2)


def voted(town, rows):
    """A first update in each of two domains, which want opposite things."""
    town.votes(rows[:12], "talk")
    opposite = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    town.votes(opposite[20:32], "letter")
    return town.learn()


def asked(town):
    return town.write(consolidating.ask, by=town.voters[0])


def last(town):
    return {domain: town.history(domain)[-1] for domain in DOMAINS}


def tensors(town, update):
    return load_file(adapter_folder(town.folder, update.adapter) / "adapter_model.safetensors")


@pytest.fixture
def taught(town, rows):
    """A town in which a student answers in both domains, its learner, and its teachers."""
    learner = voted(town, rows)
    teachers = last(town)
    asked(town)
    town.learn(learner)
    return town, learner, teachers


def test_a_student_becomes_an_update_of_every_domain(taught):
    town, learner, teachers = taught
    for domain, one in last(town).items():
        assert one.state == "promoted" and one.parent == teachers[domain].id
        assert town.route(domain).update_id == one.id
        assert one.adapter.startswith(f"{domain}-u{one.id}-") and one.decided_by == town.voters[0]
        assert "learned" not in one.gate
        assert one.gate["taught"]["teachers"] == [teachers[name].id for name in DOMAINS]
        assert {check["name"] for check in one.gate["checks"]} == {
            "distance", "chosen", "held-out votes", "held-out loss", "answers", "phrases"
        }  # fmt: skip
    assert "a student of updates" in str(town.told[-1])
    assert not list((town.folder / CONSOLIDATIONS).iterdir())
    assert town.learn(learner) and len(town.history("talk")) == 2, "it is made once"
    own, other = (tensors(town, one) for one in last(town).values())
    assert own.keys() == other.keys()
    assert all(torch.equal(own[key], other[key]) for key in own)
    with town.store.read() as connection:
        for domain in DOMAINS:
            shown = updates.rows_of(connection, last(town)[domain].id)
            assert [row.seq for row in shown] == planning.learned(connection, domain)
            assert not any(row.holdout for row in shown)


def test_a_student_answers_in_each_domain_as_its_teacher_does(town, rows, monkeypatch):
    monkeypatch.setattr(students, "MOST_STEPS", 60)
    learner = voted(town, rows)
    teachers = last(town)
    asked(town)
    town.learn(learner)
    folders = {
        "student": adapter_folder(town.folder, last(town)["talk"].adapter),
        **{domain: adapter_folder(town.folder, one.adapter) for domain, one in teachers.items()},
    }
    with learner.learner.beside(folders):
        margins = {
            name: [one.margin for one in learner.learner.score(rows[:12], module=name)]
            for name in folders
        }
    talk, letter, student = (sum(margins[name]) / 12 for name in ("talk", "letter", "student"))
    assert letter < 0 < talk
    # The rows are of the domain `talk`: on them the student is on its side.
    assert abs(student - talk) < abs(student - letter)
    (kl,) = {one.gate["taught"]["kl"] for one in last(town).values()}
    assert 0 < kl < 1


def test_later_updates_begin_at_the_student_and_earlier_ones_answer_again(taught, rows):
    town, learner, teachers = taught
    student = last(town)["talk"]
    town.votes(rows[40:52], "talk")
    town.learn(learner)
    later = last(town)["talk"]
    assert later.parent == student.id and later.gate["learned"]["rows"] == 8
    town.write(decisions.roll_back, update_id=student.id, by=None)
    assert town.route("talk").update_id == teachers["talk"].id
    assert town.route("letter").update_id == last(town)["letter"].id, "a domain is undone alone"
    again = town.learn(learner) and last(town)["talk"]
    assert again.parent == teachers["talk"].id and again.state == "promoted"


@pytest.mark.parametrize(
    ("owner", "name", "time"),
    [
        (Gate, "test", 1),
        pytest.param(distillation, "_learn", 8, marks=pytest.mark.slow),
        pytest.param(Lessons, "_publish", 1, marks=pytest.mark.slow),
        pytest.param(Lessons, "adopt", 2, marks=pytest.mark.slow),
        pytest.param(Students, "forget_all_but", 1, marks=pytest.mark.slow),
    ],
)
def test_a_learner_that_dies_anywhere_comes_to_the_same_student(
    make_town, rows, owner, name, time, monkeypatch
):
    whole, broken = make_town("whole"), make_town("broken")
    for town in (whole, broken):
        learner = voted(town, rows)
        asked(town)
        if town is whole:
            town.learn(learner)
    work, calls = getattr(owner, name), []

    def dies(*given, **named):
        calls.append(given)
        if len(calls) == time:
            raise KeyboardInterrupt
        return work(*given, **named)

    monkeypatch.setattr(owner, name, dies)
    with pytest.raises(KeyboardInterrupt):
        broken.learn(learner)
    broken.learn()
    for domain in DOMAINS:
        assert last(whole)[domain].adapter == last(broken)[domain].adapter
        assert last(broken)[domain].state == "promoted"
    assert not list((broken.folder / CONSOLIDATIONS).iterdir())
    assert {path.name for path in (broken.folder / "adapters").iterdir()} == {
        one.adapter for domain in DOMAINS for one in broken.history(domain)
    }


def test_what_stops_a_learner_stops_it_in_the_middle_of_teaching(town, rows, monkeypatch):
    learner = voted(town, rows)
    asked(town)
    stop, learn = StopToken(), distillation._learn

    def stops(*given):
        stop.stop("test")
        return learn(*given)

    monkeypatch.setattr(distillation, "_learn", stops)
    assert learner.once(town.told.append, stop) == 0
    assert last(town)["letter"].state == "learning"
    assert list((town.folder / CONSOLIDATIONS).iterdir()), "what was taught is kept"
    monkeypatch.setattr(distillation, "_learn", learn)
    town.learn(learner)
    assert {one.state for one in last(town).values()} == {"promoted"}


def test_a_domain_whose_gate_it_fails_keeps_what_answers(town, rows):
    voted(town, rows)
    before = {domain: town.route(domain).update_id for domain in DOMAINS}
    asked(town)
    town.learn(town.learner(kl_to_champion=1e-9))
    assert {one.state for one in last(town).values()} == {"quarantined"}
    assert {domain: town.route(domain).update_id for domain in DOMAINS} == before


@pytest.mark.parametrize("undone", DOMAINS)
def test_a_student_is_given_up_while_it_learns_from_what_is_undone(town, rows, monkeypatch, undone):
    learner = voted(town, rows)
    teachers = last(town)
    asked(town)
    learn = distillation._learn

    def undo(*given):
        monkeypatch.setattr(distillation, "_learn", learn)
        town.write(decisions.roll_back, update_id=teachers[undone].id, by=None)
        return learn(*given)

    monkeypatch.setattr(distillation, "_learn", undo)
    town.learn(learner)
    assert {town.history(domain)[1].state for domain in DOMAINS} == {"released"}
    assert town.route(undone).update_id is None
    assert not list((town.folder / CONSOLIDATIONS).iterdir())


def test_who_is_forgotten_in_one_domain_is_in_no_student_of_another(town, rows):
    voted(town, rows)
    ann, bob = town.voters
    town.voters = [bob, ann]
    town.votes(rows[40:48], "talk")  # Somebody who is new gets little of an update.
    town.voters = [ann, bob]
    town.votes(rows[50:62], "talk")
    learner = town.learn()
    teachers = last(town)
    asked(town)
    town.learn(learner)
    of_student = last(town)
    done = town.write(forgetting.forget_person, principal_id=bob, by=ann)
    first, *of_talk = town.history("talk")
    assert done.updates == [of_student["letter"].id, *(one.id for one in of_talk)]
    assert town.route("letter").update_id == teachers["letter"].id
    assert town.route("talk").update_id == first.id
    town.votes(rows[70:90], "talk")
    town.learn(learner)
    folders = {path.name for path in (town.folder / "adapters").iterdir()}
    assert of_student["talk"].adapter not in folders
    assert last(town)["talk"].state == "promoted"


def test_it_waits_until_nothing_waits_for_a_person(town, rows):
    learner = voted(town, rows)
    town.live = {"promotion": "by_hand"}
    town.votes(rows[40:52], "talk")
    by_hand = town.learn()
    waiting = last(town)["talk"]
    assert waiting.state == "waiting"
    asked(town)
    town.learn(by_hand)
    with town.store.read() as connection:
        (found,) = consolidating.asked_for(connection, limit=9)
    assert (found.state, found.why) == (
        "wanted", f"update {waiting.id} of talk is not decided yet",
    )  # fmt: skip
    with pytest.raises(Malformed, match=f"consolidation {found.id} is in progress"):
        asked(town)
    town.write(decisions.approve, update_id=waiting.id, by=town.voters[0])
    town.live = {}
    town.learn()
    assert {one.consolidation_id for one in last(town).values()} == {found.id}
    assert learner is not by_hand


def test_one_domain_has_nothing_to_consolidate(town, rows):
    with pytest.raises(Malformed, match="at least 2 domains.*there is none"):
        asked(town)
    town.votes(rows[:12], "talk")
    town.learn()
    with pytest.raises(Malformed, match="there is only talk"):
        asked(town)


@pytest.mark.parametrize("frozen", [False, True])
def test_modules_that_start_from_an_adapter(make_town, town, rows, frozen):
    """On top of it, what answers is a sum, which no student of the modules' rank can be."""
    voted(town, rows)
    start = str(adapter_folder(town.folder, last(town)["talk"].adapter))
    own = {"rank": 2, "freeze_start": True} if frozen else {}
    other = make_town("other", lora={"start_from": start, **own})
    learner = voted(other, rows)
    asked(other)
    other.learn(learner)
    for found in last(other).values():
        assert found.state == ("quarantined" if frozen else "promoted")
        assert not frozen or "lora.freeze_start" in found.gate["why"]
