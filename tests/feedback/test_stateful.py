"""Any order of votes, retractions, repeats, admissions and reopenings keeps the ledger right."""

import random
import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from sqlalchemy import select

from fastslow.feedback import AlreadyVoted, Store, items, leases, ledger, people, voting
from fastslow.feedback.schema import COMPARED, pairs, votes
from fastslow.streams import fault_of


class Feedback(RuleBasedStateMachine):
    """A store beside a model of it: what each person's votes are worth now."""

    given = Bundle("given")
    sent = Bundle("sent")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store, self.now, self.keys = Store(self.folder.name), 0.0, 0
        self.voters = [
            self.write(people.add_principal, name=name, role="annotator")[0].id for name in "xyz"
        ]
        self.live, self.gone, self.admitted, self.needs = {}, {}, [], {}

    def write(self, work, **named):
        return self.store.write(work, now=self.now, **named)

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    @rule(needs=st.integers(1, 3))
    def a_pair_is_made(self, needs):
        messages = [{"role": "user", "content": f"prompt {len(self.needs)}"}]
        prompt = self.write(items.add_prompt, messages=messages, domain="d")
        both = [
            self.write(items.add_answer, prompt_id=prompt, answer=items.Answer(text))
            for text in ("good", "bad")
        ]
        pair = self.write(
            items.add_pair, prompt_id=prompt, first=both[0], second=both[1], needs=needs,
            draw=random.Random(0),
        )  # fmt: skip
        self.needs[pair] = needs

    @rule(target=given, voter=st.integers(0, 2))
    def somebody_asks(self, voter):
        shown = self.write(leases.next_pairs, voter=self.voters[voter])
        for one in shown:
            own = [key for key in self.live if key == (voter, one.id)]
            assert not own, "nobody is given what they have voted on"
            others = [v for (_, pair), v in self.live.items() if pair == one.id and v[1] != "skip"]
            assert len(others) < self.needs[one.id]
        return (voter, shown[0].id if shown else None)

    @rule(target=sent, to=given, verdict=st.sampled_from(COMPARED))
    def somebody_votes(self, to, verdict):
        voter, pair = to
        if pair is None:
            return None
        self.keys += 1
        said = {"voter": self.voters[voter], "pair_id": pair, "verdict": verdict,
                "key": f"k{self.keys}"}  # fmt: skip
        try:
            receipt = self.write(voting.vote, **said)
        except AlreadyVoted:
            assert to in self.live
            return None
        assert to not in self.live
        self.live[to] = (receipt.id, verdict, self.now)
        return (to, receipt.id, said)

    @rule(what=sent)
    def it_is_sent_again(self, what):
        if what is not None:
            to, number, said = what
            again = self.write(voting.vote, **said)
            assert again.id == number and again.repeated
            assert again.retracted == (self.live.get(to, (None,))[0] != number)

    @rule(what=sent)
    def it_is_taken_back(self, what):
        if what is not None:
            to, number, said = what
            self.write(voting.retract, voter=said["voter"], vote_id=number)
            if self.live.get(to, (None,))[0] == number:
                self.gone[number] = self.live.pop(to)

    @rule(seconds=st.sampled_from([1.0, voting.GRACE, leases.LEASE + 1]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def the_admitter_looks(self):
        self.write(ledger.admit, check=fault_of)
        ready = sorted(
            number
            for number, verdict, at in self.live.values()
            if at <= self.now - voting.GRACE and verdict != "skip"
        )
        self.admitted += [number for number in ready if number not in self.admitted]

    @rule()
    def the_store_is_reopened(self):
        self.store.close()
        self.store = Store(self.folder.name)

    @invariant()
    def the_ledger_is_dense_and_has_each_vote_once(self):
        with self.store.read() as connection:
            found = list(ledger.entries(connection))
        assert [one.seq for one in found] == list(range(1, len(found) + 1))
        rows = [one.vote_id for one in found if one.kind != "retract"]
        assert rows == self.admitted
        back = [one.vote_id for one in found if one.kind == "retract"]
        assert len(back) == len(set(back)) and set(back) <= set(self.gone) & set(self.admitted)

    @invariant()
    def a_pair_is_open_while_it_lacks_verdicts(self):
        with self.store.read() as connection:
            found = dict(connection.execute(select(pairs.c.id, pairs.c.open)).all())
            live = set(connection.scalars(select(votes.c.id).where(votes.c.retracted_at.is_(None))))
        for pair, needs in self.needs.items():
            own = [v for (_, p), v in self.live.items() if p == pair and v[1] != "skip"]
            assert found[pair] == (len(own) < needs)
        assert live == {number for number, *_ in self.live.values()}


Feedback.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
test_any_order_of_events = Feedback.TestCase
