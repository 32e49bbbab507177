"""What is learned from: which rows, in which order, once each."""

import pytest
from sqlalchemy import select, update

from fastslow.feedback import export, imports, items, leases, ledger, voting
from fastslow.feedback.schema import meta, prompts, votes
from fastslow.records import Pair
from fastslow.streams import fault_of
from fastslow.streams.formats import read_row


def entries(town, **named):
    with town.store.read() as connection:
        return list(ledger.entries(connection, **named))


def voted(town, verdict="a", voter=0, **pair):
    who = town.voters[voter]
    number = town.pair(**{"text": f"prompt {len(entries(town))} {verdict} {voter}", **pair})
    if pair.get("purpose") == "gold":
        town.store.write(leases.lease, pair_id=number, voter=who, until=town.now)
    town.next(who, count=20)
    return town.vote(who, number, verdict)


def admit(town, after=voting.GRACE, check=fault_of, **named):
    town.now += after
    return town.write(ledger.admit, check=check, **named)


def test_rows_come_in_after_their_grace_and_without_gaps(town):
    first, second = voted(town, "a"), voted(town, "b")
    assert admit(town, after=voting.GRACE - 1) == ledger.Admitted(0, 0, 0)
    assert admit(town, after=1) == ledger.Admitted(2, 0, 0)
    third = voted(town, "tie")
    assert admit(town) == ledger.Admitted(1, 0, 0)
    assert admit(town) == ledger.Admitted(0, 0, 0), "each comes in once"
    found = entries(town)
    assert [one.seq for one in found] == [1, 2, 3]
    assert [one.vote_id for one in found] == [first.id, second.id, third.id]
    assert [one.seq for one in entries(town, after=1, limit=1)] == [2]


@pytest.mark.parametrize("verdict", ["a", "b", "tie", "both_bad"])
def test_a_vote_becomes_the_row_that_the_learner_reads(town, verdict):
    """Sides are by chance, so what was preferred is looked up by its text."""
    pair = town.pair(first="good", second="bad")
    (shown,) = town.next(town.voters[0])
    town.vote(town.voters[0], pair, verdict)
    admit(town)
    (entry,) = entries(town)
    example = read_row(entry.row, source="here")
    said = {"a": (shown.a, shown.b), "b": (shown.b, shown.a)}.get(verdict)
    if said is None:
        assert example.verdict == verdict
    else:
        assert example.verdict == "chosen"
        assert (example.chosen[0].content, example.rejected[0].content) == said
    assert example.domain == "talk" and example.prompt[0].content == "Hi"
    assert example.provenance["voter"] == town.voters[0]


def test_thumbs_and_edits_become_rows_too(town):
    answer = town.answer(town.prompt(), "hello")
    on = {"voter": town.voters[0], "answer_id": answer}
    town.write(voting.rate, **on, verdict="down", key="1")
    town.write(voting.edit, **on, text="good day", key="2")
    admit(town)
    thumb, edit = (read_row(entry.row, source="here") for entry in entries(town))
    assert (thumb.response[0].content, thumb.desirable) == ("hello", False)
    assert (edit.chosen[0].content, edit.rejected[0].content) == ("good day", "hello")


def test_an_answer_that_was_cut_is_learned_without_its_end(town):
    prompt = town.prompt()
    both = [town.answer(prompt, "short"), town.answer(prompt, "cut off in", finish="length")]
    pair = town.write(
        items.add_pair, prompt_id=prompt, first=both[0], second=both[1], draw=town.draw
    )
    (shown,) = town.next(town.voters[0])
    town.vote(town.voters[0], pair, "a" if shown.a == "short" else "b")
    admit(town)
    assert read_row(entries(town)[0].row, source="here").truncated == (False, True)


def test_an_answer_that_a_text_may_have_stopped_teaches_no_end(town):
    """The stop text is not part of it, and an engine says `stop` of both ends."""
    prompt = town.prompt()
    for text, stop in (("one line", ["\n"]), ("whole", [])):
        answer = town.answer(prompt, text, params={"stop": stop})
        town.write(voting.rate, voter=town.voters[0], answer_id=answer, verdict="up", key=text)
    admit(town)
    found = [read_row(entry.row, source="here").truncated for entry in entries(town)]
    assert found == [(True,), ()]


def test_thumbs_and_edits_of_what_was_cut_teach_no_end_of_it_either(town):
    """The edited answer is whole."""
    answer = town.answer(town.prompt(), "cut off in", finish="length")
    on = {"voter": town.voters[0], "answer_id": answer}
    town.write(voting.rate, **on, verdict="up", key="1")
    town.write(voting.edit, **on, text="cut off in the middle", key="2")
    admit(town)
    thumb, edit = (read_row(entry.row, source="here") for entry in entries(town))
    assert thumb.truncated == (True,) and edit.truncated == (False, True)


def test_stored_pairs_that_were_cut_are_still_so_when_they_are_compared(town):
    pair = Pair(prompt="Hi", chosen="short", rejected="cut off in", truncated=(False, True))
    assert town.write(imports.import_pair, pair=pair, draw=town.draw)
    (shown,) = town.next(town.voters[0])
    assert dict(zip((shown.a, shown.b), shown.truncated, strict=True)) == {
        "short": False, "cut off in": True,
    }  # fmt: skip
    town.vote(town.voters[0], shown.id, "a" if shown.a == "short" else "b")
    admit(town)
    assert read_row(entries(town)[0].row, source="here").truncated == (False, True)


def test_what_teaches_nothing_is_refused_with_the_reason(town):
    voted(town, "skip")
    voted(town, "a", purpose="gold", gold_verdict="a", text="gold")
    voted(town, "a", first="same", second="same", text="twice the same")
    assert admit(town) == ledger.Admitted(0, 3, 0)
    with town.store.read() as connection:
        skip, gold, same = connection.scalars(select(votes.c.refused).order_by(votes.c.id))
    assert skip == "skipped" and "gold" in gold and same
    assert entries(town) == []


def test_what_the_learner_could_not_use_is_refused_here(town):
    def check(row):
        return "too long" if "b" in row["prompt"][0]["content"] else None

    voted(town, "a", text="x")
    voted(town, "a", text="b")
    assert admit(town, check=check) == ledger.Admitted(1, 1, 0)


def test_a_vote_within_its_grace_can_vanish_and_a_later_one_is_taken_back(town):
    first = voted(town)
    town.write(voting.retract, voter=town.voters[0], vote_id=first.id)
    assert admit(town) == ledger.Admitted(0, 0, 0)
    second = voted(town)
    admit(town)
    town.write(voting.retract, voter=town.voters[0], vote_id=second.id)
    assert admit(town) == ledger.Admitted(0, 0, 1) and admit(town) == ledger.Admitted(0, 0, 0)
    row, gone = entries(town)
    assert (row.seq, gone.seq, gone.kind, gone.row) == (1, 2, "retract", None)
    assert gone.vote_id == row.vote_id == second.id


def test_export_gives_every_row_once_page_by_page(town):
    for number in range(5):
        voted(town, "ab"[number % 2])
    admit(town)
    gone = voted(town)
    admit(town)
    town.write(voting.retract, voter=town.voters[0], vote_id=gone.id)
    admit(town)
    waiting = voted(town)

    def pages(**named):
        cursor, rows, more = 0, [], True
        while more:
            with town.store.read() as connection:
                page = export.export_page(connection, after=cursor, limit=2, **named)
            rows, cursor, more = rows + page.rows, page.cursor, page.more
        return rows

    assert [row["seq"] for row in pages()] == [1, 2, 3, 4, 5]
    pending = pages(pending=True)
    assert len(pending) == 6 and pending[-1]["id"] == f"vote-{waiting.id}"
    assert all(read_row(row, source="here") for row in pending)


def test_near_duplicates_are_held_out_together_and_a_tenth_is(town):
    subjects = "night rain stone bread river cloud glass paper salt wool iron milk".split()
    numbers = {}
    for first in subjects:
        for second in subjects:
            text = f"{first}, {second}, {first[::-1]} or {second[::-1]} {first}{second}?"
            numbers[first, second] = [town.prompt(text), town.prompt(text.upper() + "?")]
    with town.store.read() as connection:
        rows = {row.id: row for row in connection.execute(select(prompts))}
    for both in numbers.values():
        assert rows[both[0]].cluster == rows[both[1]].cluster
        assert rows[both[0]].holdout == rows[both[1]].holdout
    clusters = {row.cluster: row.holdout for row in rows.values()}
    assert len(clusters) > 60
    assert 1 / 15 <= sum(clusters.values()) / len(clusters) < 1 / 7


@pytest.mark.parametrize(("seen_ms", "learned"), [(199, False), (200, True), (None, True)])
def test_a_vote_sent_before_it_could_be_read_is_refused(town, seen_ms, learned):
    pair = town.pair("Hi", "so it is " * 4, "no it is not at all " + "so " * 2)
    town.next(town.voters[0])
    town.vote(town.voters[0], pair, seen_ms=seen_ms)
    found = admit(town)
    assert (found.rows, found.refused) == ((1, 0) if learned else (0, 1))
    with town.store.read() as connection:
        (why,) = connection.scalars(select(votes.c.refused))
    assert why == (None if learned else "sent after 199 ms, too soon to have read 20 words")


def test_a_few_seconds_are_enough_however_long_answers_are(town):
    """That one is a refusal is seen at once."""
    long = "so it is and " * 100
    for seen_ms in (1999, 2000):
        pair = town.pair(f"Hi {seen_ms}", long, "No.")
        town.next(town.voters[0])
        town.vote(town.voters[0], pair, seen_ms=seen_ms)
    found = admit(town)
    assert (found.rows, found.refused) == (1, 1)


@pytest.mark.parametrize("name", range(8))
def test_however_few_kinds_of_prompts_there_are_some_are_held_out(town, name):
    """A store's name decides by chance, and by chance alone a third of all names held out none, and
    others a third of all prompts."""
    fixed = update(meta).where(meta.c.key == "store").values(value=f"store {name}")
    town.store.write(lambda connection: connection.execute(fixed))
    held = {"a": [], "b": []}
    words = "river stone cloud bread paper glass wool iron milk salt night rain".split()
    for number in range(36):
        for domain in held:
            text = f"{words[number % 12]} {number} {words[number // 12]} {domain}{number}"
            found = town.prompt(text, domain)
            with town.store.read() as connection:
                row = connection.execute(select(prompts).where(prompts.c.id == found)).one()
            held[domain].append(row.holdout)
    for own in held.values():
        assert any(own[:5]) and any(own[5:20]) and any(own[20:35]) and 3 <= sum(own) <= 7


def test_the_same_conversation_is_one_prompt_in_a_domain(town):
    assert town.prompt("Hi") == town.prompt("Hi") != town.prompt("Hi", domain="other")


def test_held_out_rows_say_so(town):
    for number in range(40):
        voted(town, text=f"{number} apples, {number * 7} pears and word{number} to tell apart")
    admit(town)
    held = [entry for entry in entries(town) if entry.holdout]
    assert 0 < len(held) < 20
    with town.store.read() as connection:
        page = export.export_page(connection)
    assert [row["seq"] for row in page.rows if row["held_out"]] == [one.seq for one in held]
