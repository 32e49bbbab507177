"""Whether what serves an adapter says what the learner said with it."""

import pytest

from fastslow import load_recipe
from fastslow.api.learner import Learner
from fastslow.errors import StateError
from fastslow.live.probes import PROMPTS, TOKENS, Probes
from fastslow.serve.engine.embedded import EmbeddedEngine
from fastslow.serve.engine.requests import Piece
from fastslow.serve.probing import check_probes
from fastslow.training.policies.publish import publish_module

PROBE = {
    "messages": [{"role": "user", "content": "Hi"}],
    "tokens": [5, 6, 7],
    "logps": [-1.0, -2.0, -0.5],
}


class Says:
    """An engine that answers with these tokens and log-probs, or fails."""

    def __init__(self, tokens, logps=(), fails=None):
        self.tokens, self.logps, self.fails, self.asked = tokens, logps, fails, []

    def submit(self, ask):
        self.asked.append(ask)
        if self.fails:
            ask.tell(self.fails)
            return
        ask.tell(Piece(0, "text", tuple(self.tokens), tuple(self.logps)))
        ask.tell(Piece(0, "", finish="length"))


def test_the_likeliest_answer_is_asked_for_and_may_differ_by_rounding():
    engine = Says([5, 6, 7], [-1.01, -2.02, -0.52])
    check_probes(engine, "talk-u1", [PROBE])
    (ask,) = engine.asked
    assert (ask.model, ask.temperature, ask.max_tokens) == ("talk-u1", 0.0, 3)


@pytest.mark.parametrize(
    ("tokens", "logps", "said"),
    [
        ([5, 6, 7], [-1.3, -2.3, -0.8], "log-probs differ by 0.30 nats per token"),
        ([9, 6, 7], [-1.0, -2.0, -0.5], "other tokens"),
    ],
)
def test_what_was_not_learned_is_told(tokens, logps, said):
    with pytest.raises(StateError, match=f"talk-u1 as.*: .*{said}.*same base, chat template"):
        check_probes(Says(tokens, logps), "talk-u1", [PROBE])


@pytest.mark.parametrize(("tokens", "logps"), [([5, 8, 7], [-1.0, -2.0, -9.0]), ([], [])])
def test_where_likely_tokens_change_places_and_of_silent_engines_the_rest_is_not_compared(
    tokens, logps
):
    check_probes(Says(tokens, logps), "talk-u1", [PROBE])


def test_an_engine_that_fails_says_so_itself():
    with pytest.raises(StateError, match="out of memory"):
        check_probes(Says([], fails=StateError("out of memory")), "talk-u1", [PROBE])
    check_probes(Says([]), "talk-u1", [])


ROWS = [
    {"prompt": f"Describe river {n}.", "chosen": f"It is {n} miles.", "rejected": "No."}
    for n in range(4)
]


@pytest.fixture
def recipe(model_folder):
    return load_recipe(
        {
            "model": str(model_folder), "data": {"max_length": 96}, "budget": None,
            "lora": {"rank": 4}, "eval": {"num_prompts": 0, "max_new_tokens": 4},
            "train": {"batch_size": 4, "learning_rate": 0.05, "schedule": "constant"},
        }
    )  # fmt: skip


@pytest.fixture
def learner(recipe):
    """One that has learned something."""
    made = Learner.from_recipe(recipe)
    for _ in range(4):
        made.step(ROWS)
    return made


def asks(text):
    return {"prompt": [{"role": "user", "content": text}]}


LONG = [asks("z" * tokens) for tokens in (300, 90, 75)]
"""More than the learner reads of a prompt that is answered."""


@pytest.mark.parametrize(
    ("prompts", "probed"),
    [([*LONG, asks("Hi"), *LONG, asks("A river")], ["Hi", "A river"]), (LONG, ["Hello"])],
)
def test_what_the_learner_does_not_read_whole_is_not_compared_with_what_the_engine_says(
    learner, recipe, tmp_path, prompts, probed
):
    probes = Probes(learner).of(learner.leader, prompts)
    assert [one["messages"][-1]["content"] for one in probes] == probed
    publish_module(learner.core.policies.modules, learner.leader, tmp_path / "own")
    engine = EmbeddedEngine(recipe)
    try:
        engine.load("own", tmp_path / "own")
        check_probes(engine, "own", probes)
        with pytest.raises(StateError, match="as the learner did"):
            check_probes(engine, "base", probes)
    finally:
        engine.close()


def test_a_learner_that_reads_next_to_nothing_probes_nothing(learner, monkeypatch):
    monkeypatch.setattr(learner.encoder, "max_length", TOKENS + 2)
    assert Probes(learner).of(learner.leader, LONG) == []
    assert Probes(learner).of(learner.leader, []) == []


def test_the_engine_here_says_what_the_learner_said_and_no_other_adapter_does(
    learner, recipe, tmp_path
):
    asked = [asks(f"Describe river {n}.") for n in range(9)]
    probes = Probes(learner).of(learner.leader, asked)
    assert len(probes) == PROMPTS
    for probe in probes:
        assert len(probe["tokens"]) == len(probe["logps"]) <= TOKENS and max(probe["logps"]) < 0
    publish_module(learner.core.policies.modules, learner.leader, tmp_path / "own")
    learner.step(ROWS)
    publish_module(learner.core.policies.modules, learner.leader, tmp_path / "later")
    engine = EmbeddedEngine(recipe)
    try:
        for name in ("own", "later"):
            engine.load(name, tmp_path / name)
        check_probes(engine, "own", probes)
        for other in ("later", "base"):
            with pytest.raises(StateError, match="as the learner did"):
                check_probes(engine, other, probes)
    finally:
        engine.close()
