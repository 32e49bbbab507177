"""Rows that are checked in several processes: what is found and said is what one process finds."""

import pytest
import tiny

from fastslow.errors import DataError
from fastslow.objectives import make_objective
from fastslow.scoring import Encoder
from fastslow.streams import ExampleStream, open_sources
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.statistics import data_statistics

TOKENIZER = tiny.tokenizer()
DPO = make_objective("dpo", beta=0.1)
COUNT = 2600
"""Rows of three blocks."""


def written(folder, change):
    """A file of rows, some of which are made others by their number."""
    rows = [change(number, row) for number, row in enumerate(tiny.rows(COUNT), 1)]
    return tiny.write_rows(folder / "rows.jsonl", rows)


def mixed(number, row):
    """Rows of all kinds that are not plain pairs, in every block."""
    kinds = {
        7: {"verdict": "tie"},
        60: {"chosen": row["rejected"]},
        90: {"chosen": f"{row['rejected']} "},
        110: {"chosen": "calm " * 90},
        150: {"rejected": "<|end|>"},
        170: {"domain": "other"},
    }
    found = next((change for every, change in kinds.items() if number % every == 0), {})
    return row | found


def encoder(**settings):
    return Encoder(TOKENIZER, max_length=96, **settings)


def stream(file, **settings):
    return ExampleStream(open_sources([str(file)]), **({"max_bad_fraction": 0.1} | settings))


def statistics(file, processes, *, objective=DPO, **settings):
    reports = []
    found = data_statistics(
        stream(file, **settings), encoder(), objective,
        batch_size=16, progress=reports.append, processes=processes,
    )  # fmt: skip
    return found, reports


@pytest.mark.parametrize("settings", [{}, {"shuffle": 700, "seed": 3}, {"skip": 1200}])
def test_any_number_of_processes_finds_the_same_as_training_reads(tmp_path, settings):
    file = written(tmp_path, mixed)
    one, reports = statistics(file, 1, **settings)
    several, other_reports = statistics(file, 2, **settings)
    assert several == one and other_reports == reports
    reader = BatchReader(stream(file, **settings), encoder(), DPO, batch_size=16)
    read = [item for batch in reader for item in batch]
    assert one.counts == reader.summary()
    assert min(one.counts[key] for key in ("invalid", "ties", "truncated", "dropped")) > 1
    assert one.skipped_examples == reader.skipped_examples()
    assert one.full_lengths == [item.full_length for item in read]
    assert one.domains["other"] == sum(item.example.domain == "other" for item in read) > 1
    assert one.examples == read[: len(one.examples)]


class Pipe:
    """Rows that are there once, as they come."""

    live, rereadable, name = True, False, "pipe"

    def __init__(self, rows):
        self._rows = rows

    def rows(self, start=0):
        yield from enumerate(self._rows[start:], start + 1)

    def count(self):
        return None


def test_rows_that_come_over_time_are_checked_as_they_come():
    rows = [mixed(number, row) for number, row in enumerate(tiny.rows(40), 1)]
    found = data_statistics(
        ExampleStream([Pipe(rows)], max_bad_fraction=0.1), encoder(), DPO,
        batch_size=16, progress=lambda read: None,
    )  # fmt: skip
    assert found.counts["read"] == 40 and found.counts["ties"] == 5
    assert len(found.prompt_lengths) == 35 and len(found.examples) == 16


def said(file, processes, objective=DPO):
    with pytest.raises(DataError) as error:
        statistics(file, processes, objective=objective)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "objective"),
    [
        (lambda number: {"rejected": "<|end|>"} if number > 2200 else {}, DPO),
        (lambda number: {"chosen": ""} if number > 1800 else {}, DPO),
        (lambda number: {"win_rate_chosen": 0.6, "win_rate_rejected": 0.4} if number < 2000 else {},
         make_objective("sppo", targets="probabilities")),
    ],
)  # fmt: skip
def test_too_many_unusable_rows_are_the_error_that_training_raises(tmp_path, change, objective):
    file = written(tmp_path, lambda number, row: row | change(number))
    message = said(file, 2, objective)
    assert message == said(file, 1, objective)
    with pytest.raises(DataError) as error:
        list(BatchReader(stream(file), encoder(), objective, batch_size=16))
    assert message == str(error.value)


def test_a_file_that_ends_in_the_middle_is_told_after_what_stands_before_its_end(tmp_path):
    file = written(tmp_path, lambda number, row: row)
    text = file.read_text()
    file.write_text(text[:-20])
    assert "ends in the middle" in said(file, 2)
    lines = text.splitlines()
    lines[1100:1500] = ["{}"] * 400
    file.write_text("\n".join(lines)[:-20])
    assert "400 of 2048 rows cannot be used" in said(file, 2)


def test_what_a_template_does_to_rows_of_another_process_is_noted(tmp_path):
    template = tiny.TEMPLATE.replace("m['content']", "m['content'].split('</think>')[-1]")
    thinks = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "<think>Well</think>Hello."},
        {"role": "user", "content": "More."},
    ]
    change = {"prompt": thinks}
    file = written(tmp_path, lambda number, row: row | (change if number == 2000 else {}))
    own = Encoder(tiny.tokenizer(template), max_length=96)
    data_statistics(
        stream(file), own, DPO, batch_size=16, progress=lambda read: None, processes=2
    )  # fmt: skip
    assert any("thoughts of earlier turns" in note for note in own.notes)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_repeated_or_contradicted_is_counted_over_all_blocks_of_rows(tmp_path, processes):
    rows = tiny.rows(1300)
    for one, row in enumerate(rows):  # Small texts may be the same by chance.
        row["prompt"] = f"{one}: {row['prompt']}"
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows[:40]]
    file = tiny.write_rows(tmp_path / "rows.jsonl", [*rows, *rows[100:160], *turned])
    found, _ = statistics(file, processes)
    assert (found.alike.repeated, found.alike.contradicted) == (60, 40)
    assert found.as_json()["the opposite of one before"] == 40
    warning = found.warnings(96)[-1]
    assert warning.startswith("60 of 1400 examples repeat an earlier one")
