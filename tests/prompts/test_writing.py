"""Instructions that a model writes: what is taken, what is discarded, and that nothing is lost."""

from collections import Counter
from itertools import count, cycle

import pytest

from fastslow.errors import DataError
from fastslow.prompts.black_box import Answer
from fastslow.prompts.questions import Question
from fastslow.prompts.records import RowLog, Written
from fastslow.prompts.writing import write_instructions

SHOWN = [Question(f"input {i}", f"output {i}") for i in range(8)]


class Writer:
    """Writes what it is given, over and over."""

    def __init__(self, texts, *, truncated=False):
        self.texts, self.truncated = iter(texts), truncated
        self.cost, self.asked, self.seeds = Counter(), [], []

    def answer(self, prompts, *, temperature, max_new_tokens, seed):
        self.asked += prompts
        self.seeds.append(seed)
        self.cost["calls"] += len(prompts)
        return [Answer(next(self.texts), self.truncated) for _ in prompts]


def different(limit=None):
    return (f"Do this {i}" for i in (count() if limit is None else cycle(range(limit))))


@pytest.fixture
def write(tmp_path):
    """Writes with a model, by default into a new file."""
    files = count()

    def write(model, wanted, *, stopped=lambda: False, seed=0, log=None):
        with RowLog(tmp_path / (log or f"{next(files)}.jsonl"), Written) as rows:
            return write_instructions(
                model, SHOWN, rows, count=wanted, shown=3, max_new_tokens=9, seed=seed,
                progress=lambda done, total: None, stopped=stopped,
            )  # fmt: skip

    return write


def test_a_model_writes_different_instructions_for_some_demonstrations(write):
    model = Writer(different())
    found = write(model, 50)
    assert found.texts == [f"Do this {i}" for i in range(50)] and found.cost == {"calls": 64}
    assert all(text.count("Input: ") == 3 and "Output: output" in text for text in model.asked)
    assert len(set(model.asked)) > 40  # Other demonstrations each time.
    assert model.seeds == [0, 32]
    again, other = Writer(different()), Writer(different())
    write(again, 50)
    write(other, 50, seed=1)
    assert again.asked == model.asked != other.asked


def test_what_is_no_new_instruction_is_discarded_and_counted(write):
    texts = [" Do \n this ", "do this!", "...", "", "Do that.\n\nInput: a\nOutput: b", "Output: b"]
    found = write(Writer(cycle(texts)), 8)
    assert found.texts == ["Do this", "Do that."]
    assert found.cost == {"calls": 32, "discarded_empty": 15, "discarded_repeated": 15}


def test_of_what_is_cut_by_the_length_limit_whole_sentences_are_taken(write):
    texts = [
        "Do this",
        "Say it\nInput: x",
        "Take 1.5 of it. Say it twice. And t",
        "翻译成英文。然后",
    ]
    found = write(Writer(cycle(texts), truncated=True), 8)
    assert found.texts == ["Say it", "Take 1.5 of it. Say it twice.", "翻译成英文。"]
    assert found.cost["discarded_truncated"] == 8


def test_a_model_that_repeats_itself_gives_fewer_and_one_that_does_nothing_else_is_refused(write):
    model = Writer(different(7))
    found = write(model, 40)
    assert len(found.texts) == 7 and len(model.asked) == 40 * 4
    assert found.cost["discarded_repeated"] == 153
    message = r"wrote 1 different .* in 160 tries \(0 empty, 0 longer than 9 tokens, 159 repeated\)"
    with pytest.raises(DataError, match=message):
        write(Writer(different(1)), 40)
    with pytest.raises(DataError, match="160 longer than 9 tokens.*max_instruction_tokens"):
        write(Writer(different(), truncated=True), 40)


def test_writing_can_be_stopped_and_what_is_written_is_not_paid_for_again(write):
    whole = write(Writer(different()), 100)
    model = Writer(different())
    stopped = lambda: len(model.asked) > 40  # noqa: E731
    assert write(model, 100, stopped=stopped, log="log.jsonl") is None
    assert len(model.asked) == 64
    more = Writer(f"Do this {i}" for i in count(64))
    assert write(more, 100, log="log.jsonl") == whole
    assert more.seeds == [64, 96] and whole.cost == {"calls": 128}
