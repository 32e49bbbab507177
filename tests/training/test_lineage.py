"""Which modules contain others, told from what their folders record."""

import json
import shutil

import pytest

from fastslow.adapters import Entry
from fastslow.streams import file_fingerprint
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.export.lineage import shared_adapters
from fastslow.training.preflight import check_parts

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def module(tmp_path):
    """Makes a run folder whose adapter starts from another's; its module as an entry."""

    def make(name, *, start=None, in_bank=False):
        run = tmp_path / name
        adapter = run if in_bank else run / "adapters" / "policy"
        adapter.mkdir(parents=True)
        (adapter / WEIGHTS).write_text(f"weights of {name}")
        lora, inputs = "", {"model": [], "data": []}
        if start is not None:
            lora = f"lora: {{start_from: {start.folder}}}\n"
            inputs["adapter in lora.start_from"] = [file_fingerprint(start.folder / WEIGHTS)]
        (run / "config.yaml").write_text(f"model: m\n{lora}")
        if not in_bank:
            (run / "inputs.json").write_text(json.dumps(inputs))
        return Entry(
            name=name, folder=adapter, config=run / "config.yaml", memory=run / "memory.jsonl",
            domain=name, position=1, parents=(), base=[], data=[], metrics={},
        )  # fmt: skip

    return make


def test_modules_from_the_base_share_nothing(module):
    assert shared_adapters([module("a"), module("b"), module("c")]) == []


def test_a_module_contains_the_one_it_started_from_in_any_order(module):
    first = module("a")
    second = module("b", start=first)
    said = ["b contains a, from which it was made"]
    assert shared_adapters([first, second]) == said and shared_adapters([second, first]) == said


def test_a_chain_is_followed_through_runs_that_are_not_summed(module):
    first = module("a")
    last = module("c", start=module("b", start=first))
    assert shared_adapters([first, last]) == ["c contains a, from which it was made"]


def test_siblings_contain_what_both_started_from(module):
    first = module("a")
    pair = [module("b", start=first), module("c", start=first)]
    assert shared_adapters(pair) == ["b and c contain the same earlier adapter"]


def test_the_fingerprint_is_enough_where_the_folder_it_names_has_gone(module, tmp_path):
    first = module("a")
    second = module("b", start=first)
    shutil.copytree(first.folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "a")
    moved = Entry(**{
        **{key: getattr(first, key) for key in Entry.__slots__},
        "folder": tmp_path / "copy", "config": tmp_path / "copy" / "config.yaml",
    })  # fmt: skip
    assert shared_adapters([moved, second]) == ["b contains a, from which it was made"]


def test_entries_of_a_bank_know_their_parents_wherever_the_bank_is(module, tmp_path):
    first, second = module("bank/01-a", in_bank=True), module("bank/02-b", in_bank=True)
    (second.folder / "manifest.json").write_text(json.dumps({"parents": ["01-a"]}))
    assert shared_adapters([first, second]) == [
        "bank/02-b contains bank/01-a, from which it was made"
    ]


def test_files_that_cannot_be_read_say_nothing(module):
    first = module("a")
    second = module("b", start=first)
    (second.config.parent / "inputs.json").write_text("{")
    second.config.write_text("lora: [")
    assert shared_adapters([first, second]) == []


@pytest.mark.parametrize(
    ("names", "settings", "warned"),
    [
        (("warm", "cold"), {"start": "continue", "weights": "learned"}, True),
        (("warm", "cold"), {"start": "continue", "weights": None}, False),
        (("warm", "cold"), {"start": "continue", "weights": "routed"}, False),
        (("warm", "cold"), {"start": "fresh", "weights": "learned"}, False),
        (("warm", "warm"), {"start": "continue", "weights": "uniform"}, False),
        (("warm", "cold", "warm"), {"start": "recall", "weights": "uniform"}, False),
    ],
)
def test_a_recipe_that_will_sum_an_adapter_with_its_descendant_says_so(
    continual, names, settings, warned
):
    found = check_parts(continual(names=names, **settings), ProcessGroup())
    assert [message.startswith("continual.start: continue") for message in found] == [True] * warned
