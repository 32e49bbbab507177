"""Runs over several domains: what each starts from, what is combined, what is measured."""

import errno
import json
import os
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiers import fast

import fastslow
from fastslow import load_recipe, training
from fastslow.adapters import Bank, Factors, combine
from fastslow.errors import ConfigError, StateError
from fastslow.training.loop.sanity_checks import MovedTensors

FINAL = "adapter_model.safetensors"
ALL = ("warm", "cold", "late")


@pytest.fixture
def starts(monkeypatch):
    """Weights of each module, and of the frozen copy, when a run takes its first step."""
    seen = []
    plain = MovedTensors.__init__

    def looks(self, modules, *given, **settings):
        seen.append({
            name: {key.replace(f".{name}.", "."): value.clone()
                   for key, value in modules.tensors(name).items()}
            for name in modules.names
        })  # fmt: skip
        plain(self, modules, *given, **settings)

    monkeypatch.setattr(MovedTensors, "__init__", looks)
    return seen


def stored(folder):
    return load_file(folder / FINAL)


def equal(first, second):
    assert first.keys() == second.keys() and first
    return all(torch.equal(first[key], second[key]) for key in first)


def children(summary, folder):
    return [load_recipe(folder / run / "config.yaml") for run in summary.runs]


def parents(folder):
    return {entry.name: entry.parents for entry in Bank(folder / "bank").entries()}


def run(recipe):
    return training.train(recipe), Path(recipe.output_dir)


def test_fresh_modules_all_start_from_the_same_nothing(continual, starts):
    summary, folder = run(continual(weights="uniform"))
    assert parents(folder) == {"01-warm": (), "02-cold": ()}
    assert [recipe.lora.start_from for recipe in children(summary, folder)] == [None, None]
    assert [recipe.reference_name for recipe in children(summary, folder)] == ["base", "base"]
    first, second = (found["policy"] for found in starts)
    assert equal(first, second)
    assert all(not value.any() for key, value in first.items() if "lora_B" in key)


@pytest.mark.parametrize(("reference", "expected"), [(None, "base"), ("previous", "previous")])
def test_continued_modules_start_from_the_one_before_bit_for_bit(
    continual, starts, reference, expected
):
    override = [f"reference={reference}"] if reference else []
    summary, folder = run(continual(*override, start="continue", weights=None))
    assert parents(folder) == {"01-warm": (), "02-cold": ("01-warm",)}
    before = stored(folder / "bank" / "01-warm")
    assert equal(starts[1]["policy"], before) and equal(starts[1]["previous"], before)
    first, second = children(summary, folder)
    assert (first.reference_name, second.reference_name) == ("base", expected)
    runs = [json.loads((folder / r / "summary.json").read_text()) for r in summary.runs]
    assert runs[1]["reference"] == expected
    # Against the previous policy the start is no better than chance; against the base it is not.
    start = runs[1]["eval"]["start"]
    assert (start["margin"] == 0.0) == (expected == "previous")
    # The last module alone answers.
    assert summary.policy == "last" and summary.weights is None
    assert equal(stored(folder / summary.adapters["last"]), stored(folder / "bank" / "02-cold"))


def test_a_domain_that_returns_recalls_its_own_module(continual, starts):
    names = ("warm", "cold", "warm")
    summary, folder = run(continual(names=names, start="recall", weights="uniform"))
    assert parents(folder) == {"01-warm": (), "02-cold": (), "03-warm": ("01-warm",)}
    assert equal(starts[2]["policy"], stored(folder / "bank" / "01-warm"))
    assert equal(starts[0]["policy"], starts[1]["policy"])
    # In the combination it stands once, with its newest module.
    assert summary.weights == {"02-cold": 0.5, "03-warm": 0.5}
    assert summary.domains == list(names) and summary.measured == ["warm", "cold"]
    assert len(summary.after) == 3 and summary.metrics == {}


def test_both_modules_of_a_race_start_from_the_leader_of_the_one_before(continual, starts):
    settings = ("chase={}", "chase.swap_every=2")
    summary, folder = run(continual(*settings, start="continue", weights="uniform"))
    first = json.loads((folder / summary.runs[0] / "summary.json").read_text())
    leader = stored(folder / summary.runs[0] / first["adapters"][first["leader"]])
    assert equal(stored(folder / "bank" / "01-warm"), leader)
    assert all(equal(starts[1][name], leader) for name in ("fast", "slow", "previous"))


def test_each_domains_run_is_an_ordinary_run_and_its_entry_says_where_it_is_from(continual):
    summary, folder = run(continual(weights="uniform"))
    for entry, child in zip(Bank(folder / "bank").entries(), summary.runs, strict=True):
        assert child == f"domains/{entry.name}"
        one = json.loads((folder / child / "summary.json").read_text())
        inputs = json.loads((folder / child / "inputs.json").read_text())
        assert entry.metrics == one["eval"]["final"]
        assert (entry.base, entry.data) == (inputs["model"], inputs["data"])
        for kept, origin in [(entry.config, "config.yaml"), (entry.memory, "memory.jsonl")]:
            assert kept.read_bytes() == (folder / child / origin).read_bytes()
        assert equal(stored(entry.folder), stored(folder / child / "adapters" / "policy"))
        rows = [json.loads(line) for line in entry.memory.read_text().splitlines()]
        assert len(rows) == 12 and {row["domain"] for row in rows} == {entry.domain}
    assert summary.steps == 8 and summary.pairs_seen == 64


def test_replay_mixes_in_the_memories_of_every_earlier_domain(continual):
    summary, folder = run(continual(names=("warm", "cold", "late"), weights="uniform", replay=0.4))
    recipes = children(summary, folder)
    memories = [[str(folder / "bank" / name / "memory.jsonl") for name in names]
                for names in (["01-warm"], ["01-warm", "02-cold"])]  # fmt: skip
    assert recipes[0].replay is None
    assert [r.replay.memory for r in recipes[1:]] == memories
    assert [r.replay.share for r in recipes[1:]] == [0.4, 0.4]
    for number, names in ((0, {"warm"}), (1, {"warm", "cold"}), (2, {"warm", "cold", "late"})):
        lines = (folder / summary.runs[number] / "events.jsonl").read_text().splitlines()
        steps = [e for e in map(json.loads, lines) if e["event"] == "step"]
        learned = {name for step in steps for name in step["domains"]}
        assert learned == names
        own = ("warm", "cold", "late")[number]
        assert sum(step["domains"].get(own, 0) for step in steps) >= 32
        kept = (folder / summary.runs[number] / "memory.jsonl").read_text().splitlines()
        assert {json.loads(line)["domain"] for line in kept} == {own}


@pytest.mark.parametrize("anchor", fast(["ewc"], ["l2_sp", "ewc"]))
def test_the_anchor_reaches_continued_domains(continual, anchor, tmp_path):
    names = ("warm", "cold", "late")
    settings = {"start": "continue", "weights": None, "names": names}
    summary, folder = run(continual(anchor=anchor, anchor_strength=50.0, **settings))
    first, second, third = children(summary, folder)
    assert first.anchor is None and second.anchor.strength == third.anchor.strength == 50.0
    assert [p.name for p in sorted(folder.glob("fisher/*"))] == (
        ["01.safetensors", "02.safetensors"] if anchor == "ewc" else []
    )
    if anchor == "l2_sp":
        assert second.anchor.fisher is None
        free = continual(f"output_dir={tmp_path / 'free'}", **settings)
        _, other = run(free)
        entries = [Bank(f / "bank").entries() for f in (folder, other)]
        assert equal(stored(entries[0][0].folder), stored(entries[1][0].folder))
        moved = [
            sum((stored(e[1].folder)[k] - v).square().sum() for k, v in stored(e[0].folder).items())
            for e in entries
        ]
        assert 0 < moved[0] < 0.7 * moved[1]
        return
    assert third.anchor.fisher == str(folder / "fisher" / "02.safetensors")
    sums = [load_file(folder / "fisher" / f"{n}.safetensors") for n in ("01", "02")]
    assert sums[0].keys() == stored(folder / "bank" / "01-warm").keys()
    # The second is the first plus what the second domain's pairs add.
    assert all((sums[1][key] >= sums[0][key]).all() for key in sums[0])
    assert any((sums[1][key] > sums[0][key]).any() for key in sums[0])


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"weights": "uniform"}, [0.5, 0.5]),
        ({"weights": "fixed", "fixed": [0.9, -0.2]}, [0.9, -0.2]),
        ({"weights": "uniform", "recompress": 3}, [0.5, 0.5]),
    ],
)
def test_the_answer_is_the_sum_of_the_bank_with_the_weights_asked_for(continual, settings, weights):
    summary, folder = run(continual(**settings))
    assert list(summary.weights.values()) == weights and summary.leader == "combined"
    found = Factors.read(folder / summary.adapters["combined"])
    modules = [entry.factors() for entry in Bank(folder / "bank").entries()]
    expected = combine(modules, weights)
    if "recompress" in settings:
        assert found.rank == 3
        return
    for layer in expected.layers:
        torch.testing.assert_close(found.update(layer), expected.update(layer))
    # After the first domain its weight was that of its place.
    one = json.loads((folder / "combinations" / "01" / "combination.json").read_text())
    assert one["weights"] == {"01-warm": 1.0 if settings["weights"] == "uniform" else weights[0]}


def test_fixed_weights_go_with_the_place_of_the_module_that_stands_for_its_domain(continual):
    names = ("warm", "cold", "warm")
    summary, _ = run(continual(names=names, weights="fixed", fixed=[0.1, 0.2, 0.3]))
    assert summary.weights == {"02-cold": 0.2, "03-warm": 0.3}


def test_a_routed_run_keeps_every_module(continual):
    summary, folder = run(continual(weights="routed"))
    assert summary.policy == summary.leader == "routed" and summary.weights is None
    assert summary.adapters == {n: f"adapters/{n}" for n in ("01-warm", "02-cold")}
    for name, path in summary.adapters.items():
        assert equal(stored(folder / path), stored(folder / "bank" / name))
    assert (folder / "adapters" / "router.json").exists()
    # Each domain is answered by its own module, so nothing is lost to the contradiction.
    own = [entry.metrics["accuracy"] for entry in Bank(folder / "bank").entries()]
    assert [one["accuracy"] for one in summary.after[-1]] == own


def test_the_summary_holds_the_matrix_and_what_follows_from_it(continual_run):
    folder, summary = continual_run
    assert summary == fastslow.training.state.summary.read_summary(folder / "summary.json")
    assert summary.measured == summary.domains == ["warm", "cold"]
    measured = [json.loads((folder / "measurements" / f"0{i}.json").read_text()) for i in range(3)]
    assert [summary.initial, *summary.after] == measured
    assert all(one["accuracy"] == 0.5 and one["margin"] == 0.0 for one in summary.initial)
    (r11, r12), (r21, r22) = [[one["accuracy"] for one in row] for row in summary.after]
    (b1, b2) = [one["accuracy"] for one in summary.initial]
    assert summary.metrics == {
        "accuracy": {
            "average": (r21 + r22) / 2,
            "backward_transfer": r21 - r11,
            "forward_transfer": r12 - b2,
            "forgetting": r11 - r21,
        }
    }
    assert b1 == 0.5 and r11 > 0.8  # One domain was learned ...
    assert r12 < 0.3  # ... and the other wants the opposite.
    runs = [json.loads((folder / r / "summary.json").read_text()) for r in summary.runs]
    assert summary.wall_s == pytest.approx(sum(one["wall_s"] for one in runs), abs=2e-3)
    samples = json.loads((folder / "samples.json").read_text())
    assert [row["domain"] for row in samples] == ["warm", "warm", "cold", "cold"]
    assert all(row["answers"].keys() == {"base", "combined"} for row in samples)


def test_without_held_out_pairs_nothing_is_measured(continual, domain_files):
    domains = [{"name": n, "train": domain_files[n]["train"]} for n in ("warm", "cold")]
    summary, folder = run(continual(weights="uniform", domains=domains))
    assert summary.measured == [] and summary.after == [[], []] and summary.metrics == {}
    assert [entry.metrics for entry in Bank(folder / "bank").entries()] == [{}, {}]


def test_a_finished_run_returns_its_summary_and_a_begun_one_refuses_another_recipe(
    continual, tmp_path
):
    first, _ = run(continual(weights="uniform"))
    seen = []
    assert training.train(continual(weights="uniform"), listener=seen.append) == first
    assert [event["event"] for event in seen] == ["already_complete"]
    with pytest.raises(StateError, match=r"differs in continual.replay, continual.weights"):
        training.train(continual(weights="routed", replay=0.1))

    begun = f"output_dir={tmp_path / 'begun'}"

    def stop(event):
        if event["event"] == "step" and event["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(continual(begun, weights="uniform"), listener=stop)
    with pytest.raises(StateError, match=r"differs in lora.rank"):
        training.train(continual(begun, "lora.rank=3", weights="uniform"))
    with pytest.raises(StateError, match="differs in continual"):
        training.train(continual(begun, weights="uniform").model_copy(update={"continual": None}))
    assert training.train(continual(begun, weights="uniform")).hashes == first.hashes | {
        "recipe": training.train(continual(begun, weights="uniform")).hashes["recipe"]
    }


def test_a_bank_that_lost_a_module_or_whose_module_changed_is_refused(continual, tmp_path):
    import shutil

    class PowerCut(Exception):
        pass

    def cut(event):
        if event["event"] == "combining" and event["modules"] == 2:
            raise PowerCut

    made = continual(weights="uniform")
    with pytest.raises(PowerCut):
        training.train(made, listener=cut)
    bank = Path(made.output_dir) / "bank"
    aside = tmp_path / "aside"
    shutil.move(bank / "01-warm", aside)
    with pytest.raises(StateError, match="lacks the module of domain 1, warm"):
        training.train(made)
    shutil.move(aside, bank / "01-warm")
    memory = bank / "02-cold" / "memory.jsonl"
    whole = memory.read_bytes()
    memory.write_bytes(whole[:-1])
    with pytest.raises(StateError, match="memory.jsonl has changed"):
        training.train(made)
    memory.write_bytes(whole)
    assert training.train(made).domains == ["warm", "cold"]


def test_data_that_is_missing_stops_the_run_and_leaves_the_folder_free(continual, domain_files):
    domains = [{"name": "x", "train": "none.jsonl"}]
    with pytest.raises(fastslow.errors.DataError, match="none.jsonl does not exist"):
        training.train(continual(weights="uniform", domains=domains))
    assert run(continual(weights="uniform"))[0].domains == ["warm", "cold"]


def test_modules_that_were_trained_with_dropout_have_the_same_importances_again(continual):
    """Kills between a domain and its importances must not leave a trace of chance."""
    settings = {"start": "continue", "weights": None, "anchor": "ewc"}
    made = continual("lora.dropout=0.4", **settings)
    _, folder = run(made)
    first = load_file(folder / "fisher" / "01.safetensors")
    torch.rand(5)
    (folder / "fisher" / "01.safetensors").unlink()
    (folder / "summary.json").unlink()
    run(made)
    assert equal(first, load_file(folder / "fisher" / "01.safetensors"))


def test_contradictions_are_refused_all_at_once(continual):
    with pytest.raises(ConfigError) as caught:
        continual(
            "data.replay_buffer_size=0", "reference=previous",
            weights=None, fixed=[1.0], recompress=2, anchor="l2_sp", replay=0.2,
        )  # fmt: skip
    text = "\n".join(caught.value.problems)
    for part in ("continual.fixed: goes together", "got 1 weights for 2 domains",
                 "nothing to be held", "continual.recompress", "data.replay_buffer_size",
                 "reference: 'previous'"):  # fmt: skip
        assert part in text, text
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize(
    "weights",
    ["distilled", *(pytest.param(one, marks=pytest.mark.slow) for one in ("routed", None))],
)
def test_a_finished_run_takes_another_domain_and_ends_as_if_it_had_known(
    continual, domain_files, tmp_path, weights
):
    """One that is stopped on the way, too; what was measured is measured on the new domain."""
    whole, folder = run(continual(f"output_dir={tmp_path / 'whole'}", names=ALL, weights=weights))
    first, grown = run(continual(names=ALL[:2], weights=weights))
    assert [len(row) for row in first.after] == [2, 2]

    def stop(event):
        if event["event"] == "domain" and event["number"] == 3:
            raise KeyboardInterrupt

    made = continual(names=ALL, weights=weights)
    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=stop)
    summary = training.train(made)
    assert summary.domains == whole.domains and summary.metrics == whole.metrics
    assert (summary.initial, summary.after) == (whole.initial, whole.after)
    assert tiny.same(tiny.adapters(grown), tiny.adapters(folder))


def test_another_domain_does_not_change_those_before_it(continual):
    run(continual(names=ALL[:2]))
    with pytest.raises(StateError, match="differs in continual.domains.2"):
        training.train(continual(names=(ALL[0], ALL[2], ALL[1])))
    with pytest.raises(StateError, match="differs in .*train.max_steps"):
        training.train(continual("train.max_steps=9", names=ALL))


def stopped_before(made, number):
    """Train a recipe until a domain would begin; the folder."""

    def stop(event):
        if event["event"] == "domain" and event["number"] == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=stop)
    return Path(made.output_dir)


def test_a_domain_that_has_not_begun_can_be_changed_or_taken_back(
    continual, domain_files, tmp_path
):
    whole, _ = run(continual(f"output_dir={tmp_path / 'whole'}", names=ALL, weights="uniform"))
    two = continual(names=ALL[:2], weights="uniform")
    first, folder = run(two)
    domains = [{"name": name, **domain_files[name]} for name in ALL]
    wrong = [*domains[:2], domains[2] | {"eval": domain_files["warm"]["eval"]}]
    stopped_before(continual(domains=wrong, weights="uniform"), 3)
    assert fastslow.Run.load(folder).summary == first
    assert training.train(two) == first == training.train(two)
    stopped_before(continual(domains=wrong, weights="uniform"), 3)
    summary = training.train(continual(domains=domains, weights="uniform"))
    assert (summary.initial, summary.after) == (whole.initial, whole.after)
    with pytest.raises(StateError, match=r"differs in continual.domains.3.eval"):
        training.train(two)


def test_a_disk_that_is_full_when_importances_are_written_is_one_error(continual, monkeypatch):
    made = continual(start="continue", weights=None, anchor="ewc")

    def fails(tensors, path):
        Path(path).write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("fastslow.training.continual.domain_recipes.save_file", fails)
        with pytest.raises(StateError, match=r"fisher/01.safetensors cannot .*free some space"):
            training.train(made)
    folder = Path(made.output_dir)
    assert not [*folder.glob("fisher/*")]
    assert training.train(made).domains == ["warm", "cold"]


def test_a_run_that_is_to_end_earlier_ends_as_if_it_had_known(continual, tmp_path):
    whole, other = run(continual(f"output_dir={tmp_path / 'whole'}", names=ALL[:2]))
    stopped_before(continual(names=ALL), 3)
    summary, folder = run(continual(names=ALL[:2]))
    assert (summary.initial, summary.after) == (whole.initial, whole.after)
    assert tiny.same(tiny.adapters(folder), tiny.adapters(other))
    samples = [(one / "samples.json").read_text() for one in (folder, other)]
    assert samples[0] == samples[1]


def test_a_run_that_was_moved_resumes_and_takes_another_domain(continual, tmp_path):
    settings = {"start": "continue", "weights": None, "anchor": "ewc", "replay": 0.25}
    stayed = stopped_before(continual(f"output_dir={tmp_path / 'a'}", names=ALL[:2], **settings), 2)
    moved = stayed.rename(tmp_path / "b")
    run(continual(f"output_dir={moved}", names=ALL[:2], **settings))
    moved = moved.rename(tmp_path / "c")
    summary, _ = run(continual(f"output_dir={moved}", names=ALL, **settings))
    whole, folder = run(continual(names=ALL, **settings))
    assert summary.after == whole.after
    assert tiny.same(tiny.adapters(moved), tiny.adapters(folder))
