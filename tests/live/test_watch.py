"""What answers is undone by votes that leave no doubt, and by nothing else."""

import math
import random
from fractions import Fraction

import pytest
from sqlalchemy import select

from fastslow.feedback import decisions, items, leases, ledger, updates, voting
from fastslow.feedback.schema import votes
from fastslow.live.gate.statistics import e_value
from fastslow.live.watch import Watch
from fastslow.streams import fault_of


def exact(lost, won):
    """2^(n+1) times the integral of p^lost (1-p)^won from 1/2 to 1, term by term."""
    total = Fraction(0)
    for k in range(won + 1):
        power = lost + k + 1
        term = Fraction((-1) ** k * math.comb(won, k), power)
        total += term * (1 - Fraction(1, 2**power))
    return float(total * 2 ** (lost + won + 1))


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 1), (5, 2), (17, 3), (30, 41)])
def test_the_e_value_is_the_integral(lost, won):
    assert e_value(lost, won) == pytest.approx(exact(lost, won), rel=1e-9)


def test_the_e_value_is_a_fair_bet_at_even_odds():
    for lost, won in [(0, 0), (3, 1), (10, 10), (2, 40)]:
        now = e_value(lost, won)
        later = (e_value(lost + 1, won) + e_value(lost, won + 1)) / 2
        assert later == pytest.approx(now, rel=1e-9)


def test_of_updates_as_good_as_their_parents_hardly_any_ever_falls():
    draw, fallen = random.Random(0), 0
    for _ in range(400):
        lost = won = 0
        for _ in range(300):  # One looks after every vote.
            if draw.random() < 0.5:
                lost += 1
            else:
                won += 1
            if e_value(lost, won) >= 20:
                fallen += 1
                break
    assert 0 < fallen / 400 <= 1 / 20


class Watching:
    """A town with a chain of updates, and votes on answers of any two of them."""

    def __init__(self, town, rows):
        self.town = town
        town.votes(rows[:40])
        self.learner = town.learn()
        *_, self.parent, self.champion = [one.id for one in town.history()]
        self.people = [town.person(f"watcher {number}") for number in range(12)]
        self.count = 0

    def votes(self, count, better, worse, people=None):
        """Verdicts for one of two updates' answers, of some people in turn."""
        for number in range(count):
            self.count += 1
            town, prompt = self.town, self.town.prompt(f"What of number {self.count}?")
            good, bad = (
                town.answer(prompt, text, update_id=update)
                for text, update in (("this", better), ("that", worse))
            )
            pair = town.write(
                items.add_pair, prompt_id=prompt, first=good, second=bad, draw=town.draw,
                purpose="watch",
            )  # fmt: skip
            who = (people or self.people)[number % len(people or self.people)]
            town.store.write(leases.lease, pair_id=pair, voter=who, until=town.now)
            with town.store.read() as connection:
                (shown,) = leases._shown(connection, [pair], 0.0)
            town.vote(who, pair, "a" if shown.a == "this" else "b")
        self.town.now += voting.GRACE
        while self.town.write(ledger.admit, check=fault_of).rows:
            pass

    def look(self, watch):
        with self.town.store.read() as connection:
            return watch.look(connection)


@pytest.fixture
def watching(town, rows):
    return Watching(town, rows)


def test_what_loses_against_its_parent_is_undone_and_says_why(watching):
    town = watching.town
    watching.votes(8, watching.parent, watching.champion)
    town.told.clear()
    watching.learner.once(town.told.append)
    assert town.route().update_id == watching.champion, "eight votes are not enough"
    watching.votes(8, watching.parent, watching.champion)
    watching.learner.once(town.told.append)
    assert town.route().update_id == watching.parent
    (fallen,) = [one for one in town.history() if one.id == watching.champion]
    assert fallen.state == "rolled_back" and "of 16 votes" in fallen.gate["fallen"]
    assert "of 16 votes preferred answers of " in str(town.told[0])
    assert fallen.gate["checks"], "what the gate said stays"


def test_another_learner_finds_the_same_in_the_ledger(watching):
    watching.votes(16, watching.parent, watching.champion)
    (fall,) = watching.look(Watch(100.0))
    assert fall.update_id == watching.champion


@pytest.mark.parametrize("most", [5.0, 100.0, 1e4])
def test_one_person_alone_undoes_nothing(watching, most):
    watching.votes(60, watching.parent, watching.champion, watching.people[:1])
    watch = Watch(most)
    assert watching.look(watch) == []
    watching.votes(12, watching.parent, watching.champion)
    assert len(watching.look(watch)) == 1


def test_who_is_alone_from_the_beginning_undoes_what_they_have_taught(watching):
    own = watching.town.voters[:1]
    watching.votes(12, watching.parent, watching.champion, own)
    assert len(watching.look(Watch(100.0))) == 1
    watching.votes(1, watching.champion, watching.parent, watching.people[:1])
    assert watching.look(Watch(100.0)) == [], "from then on nobody does so alone"


@pytest.mark.parametrize("seen", [True, False])
def test_votes_that_were_taken_back_count_no_more(watching, seen):
    """Whether or not they had been counted before."""
    town, watch = watching.town, Watch(100.0)
    watching.votes(12, watching.parent, watching.champion)
    if seen:
        assert len(watching.look(watch)) == 1
    with town.store.read() as connection:
        own = connection.execute(select(votes).where(votes.c.voter.in_(watching.people[:6]))).all()
    for one in own:
        town.write(voting.retract, voter=one.voter, vote_id=one.id)
    town.write(ledger.admit, check=fault_of)
    assert watching.look(watch) == [] and len(own) == 6
    watching.votes(6, watching.parent, watching.champion, watching.people[6:])
    assert len(watching.look(watch)) == 1


def test_votes_on_other_updates_and_those_before_do_not_count(watching):
    watch = Watch(100.0)
    watching.votes(20, watching.champion, watching.parent)
    watching.votes(20, None, watching.champion)
    assert watching.look(watch) == []
    town = watching.town
    town.write(decisions.roll_back, update_id=watching.champion, by=None)
    watching.votes(20, watching.parent, watching.champion)
    assert watching.look(watch) == []
    with town.store.read() as connection:
        before = updates.route_of(connection, "talk").previous_id
    watching.votes(20, before, watching.parent)
    assert [one.update_id for one in watching.look(watch)] == [watching.parent]
