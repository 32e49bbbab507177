"""One student of several teachers: what it is shown, what it learns, and runs that end with one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from fastslow import training
from fastslow.adapters import BASE, Bank, Factors, combine, load_tokenizer
from fastslow.adapters import recompress as nearest
from fastslow.config import load_recipe
from fastslow.errors import DataError
from fastslow.training.continual import consolidation, distillation
from fastslow.training.continual.combined import Combination
from fastslow.training.continual.consolidation import Consolidated, consolidate
from fastslow.training.continual.distillation import Lesson, distil
from fastslow.training.continual.memory import kept_examples
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.loading import SharedBase, make_encoder, open_policies
from fastslow.training.state.event_log import unwatched


@pytest.fixture(scope="module")
def entries(continual_run):
    return Bank(continual_run[0] / "bank").entries()


@pytest.fixture
def school(entries, tmp_path):
    """Policies of both entries and of a student that starts at their mean, and the lessons."""
    recipe = load_recipe(entries[-1].config)
    tokenizer = load_tokenizer(recipe.model)
    combine([entry.factors() for entry in entries], [0.5, 0.5]).write(tmp_path / "student")
    folders = {entry.name: entry.folder for entry in entries} | {"student": tmp_path / "student"}
    bases = SharedBase(ProcessGroup())
    policies = open_policies(recipe, folders, tokenizer, bases, trainable=("student",))
    encoder = make_encoder(recipe, tokenizer)
    return policies, [Lesson(entry.name, kept_examples(entry, encoder)) for entry in entries]


def taught(school, *, steps=300, seed=0, progress=unwatched, checkpoints=None):
    policies, lessons = school
    options = {"steps": steps, "seed": seed, "progress": progress, "checkpoints": checkpoints}
    return distil(policies, "student", lessons, **options)


def dense_kl(policies, teacher, item):
    """Mean over the responses of the KL by whole softmaxes in float64."""
    found = []
    for response in item.tree.responses:
        ids = torch.tensor([[*item.tree.prompt, *response]])
        predictions = []
        for name in (teacher, "student"):
            with policies.modules.using(name), torch.no_grad():
                logits = policies.modules.causal_lm(input_ids=ids).logits
            predictions.append(logits[0, len(item.tree.prompt) - 1 : -1].double().log_softmax(-1))
        p, q = predictions
        found.append((p.exp() * (p - q)).sum().item())
    return sum(found) / len(found)


def distance(school):
    """Mean KL from each teacher to the student on its own examples."""
    policies, lessons = school
    return [
        sum(dense_kl(policies, one.teacher, item) for item in one.examples) / len(one.examples)
        for one in lessons
    ]


def weights(school):
    return {key: value.clone() for key, value in school[0].modules.tensors("student").items()}


def test_the_student_comes_close_to_each_teacher_on_its_own_domain(school):
    before, calls = distance(school), []
    last = taught(school, progress=lambda done, of: calls.append((done, of)))
    after = distance(school)
    assert all(now < 0.2 * then for now, then in zip(after, before, strict=True)), (before, after)
    assert last == pytest.approx(sum(after) / 2, rel=0.5)
    assert calls == [(step + 1, 300) for step in range(300)]


def test_the_weights_set_the_pace_and_decay(school):
    before = weights(school)
    taught(school, steps=1)
    # Adam's first step has one length for all weights; beside it each loses a share of itself.
    flat = torch.cat([weight.flatten() for weight in before.values()])
    now = torch.cat([weight.flatten() for weight in weights(school).values()])
    step = (now - (1 - distillation.DECAY) * flat).abs()
    pace = distillation.PACE * flat.square().mean().sqrt()
    torch.testing.assert_close(step.median(), pace, rtol=1e-3, atol=0)
    assert step.max() < pace * 1.001


def test_teachers_that_learned_nothing_teach_nothing(school):
    policies, _ = school
    for name in policies.modules.names:
        nothing = {key: 0 * weight for key, weight in policies.modules.tensors(name).items()}
        policies.modules.load_tensors(name, nothing)
    assert taught(school) == 0
    assert not any(weight.any() for weight in weights(school).values())


def test_a_step_has_the_loss_and_the_gradient_of_all_examples_together(school, monkeypatch):
    policies, lessons = school
    count = len(lessons[0].examples)
    assert count == len(lessons[1].examples)
    monkeypatch.setattr(distillation, "EXAMPLES", 2 * count)
    monkeypatch.setattr(distillation, "PACE", 1e-6)
    monkeypatch.setattr(distillation, "DECAY", 0.0)
    expected, before = sum(distance(school)) / 2, weights(school)
    assert taught(school, steps=1) == pytest.approx(expected, rel=1e-4)
    # Adam's first step is the sign of the gradient: downhill by its sum.
    moved = {key: value - before[key] for key, value in weights(school).items()}
    after = sum(distance(school)) / 2
    gradient = {key: torch.zeros_like(value) for key, value in moved.items()}
    for lesson in lessons:
        for item in lesson.examples:
            kl = policies.kl(lesson.teacher, "student", policies.batch([item.tree]), learning=True)
            parameters = policies.modules.parameters("student")
            found = torch.autograd.grad(kl.mean() / (2 * count), list(parameters.values()))
            for key, own in zip(parameters, found, strict=True):
                gradient[key] += own
    agree = [torch.sign(-gradient[k]) == torch.sign(m) for k, m in moved.items()]
    large = [gradient[k].abs() > 1e-4 for k in moved]
    assert all(same[where].all() for same, where in zip(agree, large, strict=True))
    assert any(where.any() for where in large) and after < expected


def test_nothing_but_the_student_moves_and_the_seed_decides(school):
    policies, _ = school
    start = weights(school)
    teachers = {name: policies.modules.digest(name) for name in policies.modules.names[:2]}
    ends = []
    for seed in (0, 0, 1):
        policies.modules.load_tensors("student", start)
        taught(school, steps=3, seed=seed)
        ends.append(policies.modules.digest("student"))
    assert ends[0] == ends[1] != ends[2]
    assert teachers == {name: policies.modules.digest(name) for name in teachers}
    batch = policies.batch([school[1][0].examples[0].tree])
    assert policies.kl(BASE, BASE, batch).abs().max() < 1e-5


def test_a_teaching_that_was_cut_off_ends_with_the_same_bits(school, monkeypatch, tmp_path):
    policies, _ = school
    monkeypatch.setattr(distillation, "KEPT_EVERY", 3)
    start, ends, steps = weights(school), [], []

    def cut_off(done, of):
        steps.append(done)
        if len(steps) == 5:
            raise KeyboardInterrupt

    whole = taught(school, steps=8)
    ends.append(policies.modules.digest("student"))
    policies.modules.load_tensors("student", start)
    with pytest.raises(KeyboardInterrupt):
        taught(school, steps=8, checkpoints=tmp_path / "kept", progress=cut_off)
    policies.modules.load_tensors("student", start)
    assert taught(school, steps=8, checkpoints=tmp_path / "kept", progress=cut_off) == whole
    ends.append(policies.modules.digest("student"))
    assert ends[0] == ends[1] and steps == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8]


def test_domains_take_turns_where_examples_do_not_divide(school, monkeypatch):
    counts = []

    def learn(policies, student, teacher, examples):
        counts.append((teacher, len(examples)))
        return 0.0

    monkeypatch.setattr(distillation, "_learn", learn)
    monkeypatch.setattr(distillation, "EXAMPLES", 5)
    taught(school, steps=2)
    first, second = (lesson.teacher for lesson in school[1])
    assert counts == [(first, 3), (second, 2), (first, 2), (second, 3)]
    counts.clear()
    monkeypatch.setattr(distillation, "EXAMPLES", 1)
    taught(school, steps=2)
    assert [count for _, count in counts] == [1, 0, 0, 1]


@pytest.fixture
def lessons_of(monkeypatch):
    """Calls `consolidate` without learning; who teaches what, and where the student started."""

    def call(entries, **options):
        seen = {}

        def look(policies, student, lessons, **settings):
            seen["lessons"] = [
                (lesson.teacher, *{item.example.domain for item in lesson.examples})
                for lesson in lessons
            ]
            seen["steps"] = settings["steps"]
            return 0.5

        monkeypatch.setattr(consolidation, "distil", look)
        recipe = load_recipe(entries[-1].config)
        bases = SharedBase(ProcessGroup())
        seen["start"], kl = consolidate(entries, recipe, bases, progress=unwatched, **options)
        assert kl == 0.5
        return seen

    return call


def same_update(first, second, atol=1e-6):
    assert first.layers.keys() == second.layers.keys()
    for layer in first.layers:
        torch.testing.assert_close(first.update(layer), second.update(layer), atol=atol, rtol=0)


def test_every_entry_teaches_its_domain_and_the_student_starts_between_them(entries, lessons_of):
    seen = lessons_of(entries, rank=4)
    assert seen["lessons"] == [("01-warm", "warm"), ("02-cold", "cold")]
    same_update(seen["start"], combine([e.factors() for e in entries], [0.5, 0.5]))
    small = lessons_of(entries, rank=1)["start"]
    assert small.rank == 1
    same_update(small, nearest(combine([e.factors() for e in entries], [0.5, 0.5]), 1)[0])


def test_the_policy_before_teaches_what_it_stands_for(entries, lessons_of, tmp_path):
    combine([entries[0].factors()], [3.0]).write(tmp_path / "before")
    before = Consolidated(tmp_path / "before", ["00-gone", "01-warm"])
    seen = lessons_of(entries, rank=4, before=before)
    assert seen["lessons"] == [("before", "warm"), ("02-cold", "cold")]
    same_update(seen["start"], combine([e.factors() for e in entries], [1.5, 0.5]))


@pytest.mark.parametrize(
    ("seen", "steps"), [((80, 48), 24), ((1000, 2000), 300), ((4, 0), 1), ((80, None), 300)]
)
def test_a_student_takes_three_examples_a_pair(entries, lessons_of, seen, steps):
    counted = [replace(e, pairs_seen=count) for e, count in zip(entries, seen, strict=True)]
    assert lessons_of(counted, rank=2)["steps"] == steps


def test_examples_of_all_kinds_teach(entries, tmp_path):
    recipe = load_recipe(entries[0].config)
    encoder = make_encoder(recipe, load_tokenizer(recipe.model))
    rows = [
        {"prompt": "Hi", "chosen": "Yes", "rejected": "No"},
        {"prompt": "Hi", "completion": "Yes", "label": True},
        {"prompt": "Hi", "completion": "Yes"},
        {"prompt": "Hi", "completions": ["a", "b", "c"], "scores": [1, 2, 3]},
    ]
    memory = tiny.write_rows(tmp_path / "memory.jsonl", rows)

    class Kept:
        pass

    Kept.memory = memory
    found = kept_examples(Kept, encoder)
    assert [len(item.tree.responses) for item in found] == [2, 1, 1, 3]
    memory.write_text("")
    with pytest.raises(DataError, match="holds no examples; modules cannot be distilled without"):
        kept_examples(Kept, encoder)


def test_a_run_ends_with_one_student_of_the_rank_of_a_module(continual, monkeypatch):
    monkeypatch.setattr(consolidation, "MOST_STEPS", 4)
    made = continual(weights="distilled", names=("warm", "cold", "warm"))
    summary = training.train(made)
    folder = Path(made.output_dir)
    one, two, three = (Combination.read(folder / "combinations" / f"0{i}") for i in (1, 2, 3))
    assert (one.kind, one.entries) == ("last", ["01-warm"])
    assert (two.kind, two.entries, two.weights, two.rank) == (
        "distilled", ["01-warm", "02-cold"], None, 2,
    )  # fmt: skip
    assert three.entries == ["02-cold", "03-warm"] and three.kl > 0
    assert summary.policy == "combined" and summary.weights is None
    assert summary.adapters == {"combined": "adapters/combined"}
    last = Factors.read(folder / "adapters" / "combined")
    same_update(last, Factors.read(folder / "combinations" / "03"), atol=0)
    wide = continual(
        f"output_dir={folder.with_name('wide')}", "continual.recompress=3", weights="distilled"
    )
    training.train(wide)
    assert Combination.read(folder.with_name("wide") / "combinations" / "02").rank == 3


def test_the_student_before_is_asked_in_a_run(continual, monkeypatch):
    asked = []
    plain = distillation.distil
    monkeypatch.setattr(consolidation, "MOST_STEPS", 2)
    monkeypatch.setattr(
        consolidation,
        "distil",
        lambda *given, **named: (
            asked.append([lesson.teacher for lesson in given[2]]), plain(*given, **named)
        )[1],
    )  # fmt: skip
    training.train(continual(weights="distilled", names=("warm", "cold", "warm")))
    assert asked == [["before", "02-cold"], ["before", "03-warm"]]


def test_a_continued_domain_starts_from_the_student(continual, monkeypatch):
    monkeypatch.setattr(consolidation, "MOST_STEPS", 2)
    made = continual(
        "reference=previous", weights="distilled", start="continue", names=("warm", "cold", "warm")
    )
    summary = training.train(made)
    folder = Path(made.output_dir)
    parts = [load_recipe(folder / run / "config.yaml") for run in summary.runs]
    before = [str(folder / "combinations" / f"0{number}") for number in (1, 2)]
    assert [part.lora.start_from for part in parts] == [None, *before]
    assert [part.reference for part in parts] == ["base", "previous", "previous"]
    parents = [entry.parents for entry in Bank(folder / "bank").entries()]
    assert parents == [(), ("01-warm",), ("02-cold",)]


def test_the_command_distils(cli, continual_run, tmp_path, monkeypatch):
    monkeypatch.setattr(consolidation, "MOST_STEPS", 4)
    to = tmp_path / "student"
    code, out, err = cli("combine", continual_run[0], "--to", to, "--weights", "distilled")
    assert code == 0 and "learned from" in out, err
    assert "one adapter of rank 2, " in err and "nats per response from the modules" in err
    made = json.loads((to / "combination.json").read_text())
    assert made["kind"] == "distilled" and made["weights"] is None and made["kl"] > 0
    code, out, err = cli("sample", to, "Hi", "--max-new-tokens", 3)
    assert code == 0, err
    code, out, err = cli("report", to, "--to", tmp_path / "page.html")
    assert code == 0, err
