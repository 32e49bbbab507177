"""`fastslow combine`, and the other commands on runs over several domains.

Called in this process, as `fastslow` calls it: starting Python anew for each would take a while.
"""

import json
import re
import shutil

import fork_server
import pytest
import tiny
import torch
from peft import PeftModel
from tiers import fast

import fastslow
from fastslow import training
from fastslow.adapters import Bank, Factors, combine
from fastslow.config import dump_recipe
from fastslow.errors import StateError


def from_pretrained(folder):
    """The adapter on a base, loaded by PEFT itself."""
    base = tiny.model()
    model = PeftModel.from_pretrained(base, str(folder))
    assert any(p.any() for name, p in model.named_parameters() if "lora_B" in name)
    return model


@pytest.fixture(scope="module")
def single_runs(model_folder, domain_files, tmp_path_factory):
    """Two ordinary runs, whose folders have names as people give them."""
    folder = tmp_path_factory.mktemp("single")
    made = []
    for name, domain in (("warm.v1", "warm"), ("2", "cold")):
        training.train(
            {
                "model": str(model_folder),
                "output_dir": str(folder / name),
                "data": {
                    "train": domain_files[domain]["train"],
                    "max_length": 96,
                    "replay_buffer_size": 12,
                },
                "lora": {"rank": 2, "alpha": 4.0},
                "train": {"batch_size": 8, "learning_rate": 1e-2},
            }
        )
        made.append(folder / name)
    return made


def test_a_continual_run_its_bank_and_its_entries_give_the_same_adapter(
    cli, continual_run, tmp_path
):
    folder, _ = continual_run
    bank = folder / "bank"
    entries = [bank / "01-warm", bank / "02-cold"]
    expected = combine([e.factors() for e in Bank(bank).entries()], [0.5, 0.5])
    for number, sources in enumerate(([folder], [bank], entries)):
        to = tmp_path / "new" / str(number)
        code, out, err = cli("combine", *sources, "--to", to, "--weights", "uniform", "--json")
        assert code == 0, err
        made = json.loads(out)
        assert made["weights"] == {"01-warm": 0.5, "02-cold": 0.5} and made["rank"] == 4
        found = Factors.read(to)
        for layer in expected.layers:
            torch.testing.assert_close(found.update(layer), expected.update(layer))
    model = from_pretrained(to)
    ids = torch.tensor([[5, 60, 7]])
    with torch.no_grad():
        combined = model(ids).logits
        with model.disable_adapter():
            assert (combined - model(ids).logits).abs().max() > 1e-3


def test_separate_runs_combine_whatever_their_folders_are_called(cli, single_runs, tmp_path):
    code, out, err = cli(
        "combine", *single_runs, "--to", tmp_path / "sum", "--weights", "fixed",
        "--fixed", "0.5", "--fixed", "-0.25", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["weights"] == {"warm-v1": 0.5, "run-2": -0.25}
    from_pretrained(tmp_path / "sum")
    code, out, err = cli(
        "combine", *single_runs, "--to", tmp_path / "routed", "--weights", "routed", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["entries"] == ["warm-v1", "run-2"]
    for name in ("warm-v1", "run-2"):
        from_pretrained(tmp_path / "routed" / name)


def test_one_entry_alone_is_itself_and_the_table_says_what_was_done(cli, continual_run, tmp_path):
    entry = continual_run[0] / "bank" / "01-warm"
    code, out, err = cli("combine", entry, "--to", tmp_path / "one", "--weights", "uniform")
    assert code == 0 and "01-warm" in out and "warm" in out and "1.000" in out
    assert "uniform sum of rank 2" in err
    own, found = Factors.read(entry), Factors.read(tmp_path / "one")
    for layer in own.layers:
        torch.testing.assert_close(found.update(layer), own.update(layer))


def test_learned_weights_are_the_default(cli, continual_run, tmp_path):
    options = ["--to", tmp_path / "x", "--recompress", 3, "--json"]
    code, out, err = cli("combine", continual_run[0], *options)
    assert code == 0, err
    made = json.loads(out)
    assert made["kind"] == "learned" and made["rank"] == 3 and 0 < made["lost"] < 1


@pytest.fixture(scope="module")
def combined(single_runs, tmp_path_factory):
    """Two runs summed, and the same two with a router."""
    folder = tmp_path_factory.mktemp("combined")
    for weights in ("uniform", "routed"):
        fastslow.combine(single_runs, folder / weights, weights)
    return folder


def test_a_combination_is_a_run_for_eval_and_sample(cli, combined, single_runs, domain_files):
    data = ["--data", domain_files["warm"]["eval"], "--num-prompts", 2, "--json"]
    factors = [Factors.read(run / "adapters" / "fast") for run in single_runs]
    expected = combine(factors, [0.5, 0.5])
    found = Factors.read(combined / "uniform")
    for layer in expected.layers:
        torch.testing.assert_close(found.update(layer), expected.update(layer))
    for weights, policy in (("uniform", "combined"), ("routed", "routed")):
        code, out, err = cli("eval", combined / weights, *data)
        assert code == 0, err
        measured = json.loads(out)
        assert measured["module"] == policy and measured["pairs"] == 8
        assert measured["reference"] == "base"
        code, out, err = cli("eval", combined / weights, *data, "--module", "reference")
        assert code == 0 and json.loads(out)["module"] == "base", err
        code, out, err = cli("sample", combined / weights, "Describe the river.", "--json")
        assert code == 0 and json.loads(out)["module"] == policy, err


def test_eval_warns_of_a_policy_that_is_wrong_on_other_pairs(cli, single_runs, domain_files):
    warm = single_runs[0]
    code, out, err = cli("eval", warm, "--data", domain_files["warm"]["eval"], "--samples", 0)
    assert code == 0 and "reference" in out and "warning" not in err
    # The other domain prefers what this one rejects.
    code, out, err = cli("eval", warm, "--data", domain_files["cold"]["eval"], "--samples", 0)
    assert code == 0 and accuracy_in(out) < 0.2
    assert "warning: the policy has degraded on held-out data: accuracy is" in err


def accuracy_in(table):
    """The accuracy in a table of measurements."""
    return float(re.search(r"accuracy \(95 % interval\) +([\d.]+) \(", table)[1])


def test_a_combination_is_exported_as_the_adapter_it_is(cli, combined, tmp_path):
    code, _, err = cli("export", combined / "uniform", "--to", tmp_path / "adapter")
    assert code == 0, err
    from_pretrained(tmp_path / "adapter")
    code, out, err = cli(
        "export", combined / "uniform", "--to", tmp_path / "m", "--merged", "--json"
    )
    assert code == 0 and json.loads(out)["error"] < 1e-6, err
    code, _, err = cli("export", combined / "routed", "--to", tmp_path / "x")
    assert code == 2 and "warm-v1, run-2" in err


def test_a_combination_can_be_combined_again_with_weights_fitted(
    cli, combined, single_runs, tmp_path
):
    rows = sum(len((run / "memory.jsonl").read_text().splitlines()) for run in single_runs)
    assert len((combined / "uniform" / "memory.jsonl").read_text().splitlines()) == rows
    arguments = [combined / "uniform", single_runs[0], "--to", tmp_path / "again", "--json"]
    code, out, err = cli("combine", *arguments)
    assert code == 0 and "run-uniform contains warm-v1, from which it was made" in err, err
    assert err.count("warning: a sum of these modules counts an adapter twice") == 1
    assert set(json.loads(out)["weights"]) == {"run-uniform", "warm-v1"}
    code, _, err = cli("combine", combined / "routed", "--to", tmp_path / "x")
    assert code == 2 and "chooses one of warm-v1, run-2 for each prompt" in err


def test_a_report_shows_a_combination_beside_its_runs(cli, combined, single_runs, tmp_path):
    page = tmp_path / "page.html"
    code, _, err = cli("report", combined / "uniform", *single_runs, "--to", page)
    assert code == 0 and "combination of warm-v1, run-2" in page.read_text(), err


def test_a_combination_from_python_is_one_too(combined, single_runs, tmp_path):
    run = fastslow.Run.load(combined / "uniform")
    assert run.status == "complete" and run.leader == "combined"
    policy = fastslow.combine(single_runs, weights="uniform")
    asked = {"max_new_tokens": 6, "num_generations": 2}
    answers = run.generate(["Describe the river."], **asked)
    assert answers == policy.generate(["Describe the river."], **asked)
    assert fastslow.combine([policy], tmp_path / "same", "uniform").domains


def test_nothing_is_trained_in_a_combinations_folder(combined):
    with pytest.raises(StateError, match="holds a combination of modules"):
        training.train(combined / "uniform" / "config.yaml")


MISTAKES = [
    (["none", "--to", "x"], 2, "none holds no module"),
    (["{run}", "--to", "{run}"], 2, "exists already; give a folder that does not"),
    (["{run}", "--to", "x", "--weights", "best"], 2, "'best'; allowed are uniform"),
    (["{run}", "--to", "x", "--weights", "0.5,0.5"], 2, "--weights fixed --fixed 0.5 --fixed 0.5"),
    (["{run}", "--to", "x", "--weights", "fixed"], 2, "needs a weight for each module"),
    (["{run}", "--to", "x", "--fixed", "1"], 2, "needs a weight for each module"),
    (["{run}", "--to", "x", "--weights", "fixed", "--fixed", "1"], 2,
     "got 1 weights for 2 modules (01-warm, 02-cold)"),
    (["{run}", "--to", "x", "--weights", "fixed", "--fixed", "1", "--fixed", "inf"], 2,
     "must be a finite number"),
    (["{run}", "{run}/bank/01-warm", "--to", "x", "--weights", "uniform"], 2,
     "are the same module; give each once"),
    (["{run}", "--to", "x", "--weights", "routed", "--recompress", "2"], 2, "no sum to compress"),
    (["{run}", "--to", "x", "--model", "./none"], 2, "folder ./none does not exist"),
    (["{damaged}", "--to", "x"], 1, "memory.jsonl has changed"),
    (["{foreign}", "{run}", "--to", "x", "--weights", "uniform"], 1, "another base"),
    (["{unfinished}", "--to", "x"], 1, "is not finished"),
    (["{empty}", "--to", "x"], 2, "holds no module"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(continual_run, tmp_path_factory):
    """Folders with something wrong."""
    folder = tmp_path_factory.mktemp("wrong")
    run = continual_run[0]
    shutil.copytree(run / "bank" / "01-warm", folder / "damaged")
    with (folder / "damaged" / "memory.jsonl").open("a") as file:
        file.write("\n")
    shutil.copytree(run / "bank" / "02-cold", folder / "foreign")
    manifest = folder / "foreign" / "manifest.json"
    facts = json.loads(manifest.read_text()) | {"base": [["other", 1, "00"]]}
    manifest.write_text(json.dumps(facts))
    (folder / "unfinished").mkdir()
    shutil.copy(run / "domains" / "01-warm" / "config.yaml", folder / "unfinished")
    (folder / "empty").mkdir()
    return {name: folder / name for name in ("damaged", "foreign", "unfinished", "empty")} | {
        "run": run
    }


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES)
def test_mistakes_get_one_clear_message_and_leave_nothing(
    cli, folders, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    found, out, err = cli("combine", *[a.format(**folders) for a in arguments])
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert found == code and len(lines) == 1 and message in lines[0], err
    assert "Traceback" not in err and out == "" and list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def finished(continual_run, model_folder, domain_files, tmp_path_factory):
    """Finished continual runs whose policy is a sum, the last module, and chosen by the prompt."""

    runs = {"combined": continual_run[0]}
    for policy, weights in (("last", None), ("routed", "routed")):
        raw = tiny.continual_settings(model_folder, domain_files, ("warm", "cold"), weights=weights)
        runs[policy] = tmp_path_factory.mktemp(policy) / "run"
        sampled = {"eval": {"num_prompts": 2, "max_new_tokens": 4}}
        training.train(raw | sampled | {"output_dir": str(runs[policy])})
    return runs


@pytest.mark.parametrize("policy", fast(["combined", "routed"], ["combined", "last", "routed"]))
def test_eval_repeats_what_the_run_measured(cli, finished, domain_files, policy):
    folder = finished[policy]
    summary = json.loads((folder / "summary.json").read_text())
    for number, domain in enumerate(("warm", "cold")):
        code, out, err = cli("eval", folder, "--data", domain_files[domain]["eval"], "--json")
        assert code == 0, err
        measured, expected = json.loads(out), summary["after"][-1][number]
        assert measured["module"] == policy and measured["reverse_kl"] is not None
        for key in ("pairs", "accuracy", "loss", "margin", "reverse_kl", "mean_length"):
            assert measured[key] == pytest.approx(expected[key], abs=1e-4), key


def test_eval_knows_the_names_of_a_continual_runs_policies(cli, finished, domain_files):
    data = ["--data", domain_files["warm"]["eval"], "--samples", 0, "--json"]
    for module, name in (("base", "base"), ("reference", "base"), ("01-warm", "01-warm")):
        code, out, _ = cli("eval", finished["routed"], *data, "--module", module)
        assert code == 0 and json.loads(out)["module"] == name
    code, _, err = cli("eval", finished["routed"], *data, "--module", "combined")
    assert code == 2 and "this run has 01-warm, 02-cold, routed, leader" in err
    code, out, err = cli("eval", finished["combined"], "--samples", 0, "--json")
    assert code == 0 and json.loads(out)["pairs"] == 16, err  # Of all domains together.


@pytest.mark.parametrize("policy", ["combined", "last", "routed"])
def test_sample_answers_with_the_runs_policy(cli, finished, policy):
    prompts = ["Describe the river.", "Judge the song."]
    modules = ["--module", "leader", "--module", "base"]
    arguments = ["sample", finished[policy], *prompts, *modules, "--max-new-tokens", 6, "--json"]
    code, out, err = cli(*arguments)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["module"] for row in rows] == [policy, "base", policy, "base"]
    assert cli(*arguments)[1] == out


def test_routed_answers_are_those_of_the_module_that_was_chosen(cli, finished):
    given = ["--count", 8, "--max-new-tokens", 16, "--json"]
    answers = {}
    for prompt in ("Describe the river.", "Judge the river."):
        for module in ("routed", "01-warm", "02-cold"):
            code, out, err = cli("sample", finished["routed"], prompt, *given, "--module", module)
            assert code == 0, err
            rows = [json.loads(line) for line in out.splitlines()]
            answers[prompt[0], module] = [row["answer"] for row in rows]
    assert answers["D", "routed"] == answers["D", "01-warm"] != answers["D", "02-cold"]
    assert answers["J", "routed"] == answers["J", "02-cold"] != answers["J", "01-warm"]


@pytest.mark.parametrize("policy", ["combined", "last"])
def test_export_writes_the_one_adapter(cli, finished, tmp_path, policy):
    code, out, err = cli("export", finished[policy], "--to", tmp_path / "adapter", "--json")
    assert code == 0, err
    assert json.loads(out)["adapter"] == policy
    exported = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    kept = finished[policy] / "adapters" / policy / "adapter_model.safetensors"
    assert exported == kept.read_bytes()
    from_pretrained(tmp_path / "adapter")
    code, out, err = cli("export", finished[policy], "--to", tmp_path / "m", "--merged", "--json")
    assert code == 0, err
    assert json.loads(out)["error"] < 1e-6 < json.loads(out)["effect"]


def test_export_of_a_routed_run_offers_its_modules_one_by_one(cli, finished, tmp_path):
    code, _, err = cli("export", finished["routed"], "--to", tmp_path / "x")
    assert code == 2 and "chooses an adapter for each prompt" in err and "01-warm, 02-cold" in err
    code, _, err = cli("export", finished["routed"], "--to", tmp_path / "x", "--module", "02-cold")
    assert code == 0, err
    from_pretrained(tmp_path / "x")


@pytest.mark.processes
def test_train_runs_a_continual_recipe_from_a_shell(continual, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(continual(weights="uniform")))
    done = fork_server.run("-m", "fastslow", "train", path, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["kind"] == "continual" and summary["policy"] == "combined"
    for part in ("warm", "cold"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
