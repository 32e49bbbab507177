"""The bank: what is put in comes out again, and nothing else ever does."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastslow.adapters import Bank, Factors, latest_per_domain, read_entry
from fastslow.adapters import bank as bank_module
from fastslow.errors import ConfigError, StateError

BASE = [["model.safetensors", 7, "ab"]]
FILES = ("adapter_config.json", "adapter_model.safetensors", "config.yaml", "memory.jsonl")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A folder with everything that an entry is made of."""
    folder = tmp_path_factory.mktemp("source")
    layer = (torch.randn(2, 8), torch.randn(6, 2))
    Factors({"model.layers.0.mlp.up_proj": layer}, ("up_proj",), "m").write(folder / "adapter")
    (folder / "config.yaml").write_text("model: m\n")
    (folder / "memory.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    return folder


def add(bank, source, domain="reviews", **changes):
    given = {
        "domain": domain,
        "adapter": source / "adapter",
        "config": source / "config.yaml",
        "memory": source / "memory.jsonl",
        "parents": [],
        "base": BASE,
        "data": [["a.jsonl", 3, "cd"]],
        "metrics": {"accuracy": 0.75},
    }
    return bank.add(**(given | changes))


@pytest.fixture
def bank(source, tmp_path):
    """A bank of two."""
    made = Bank(tmp_path / "bank")
    add(made, source)
    add(made, source, "notes", parents=["01-reviews"])
    return made


def refused(call, *parts):
    """The call's one message, which names each part."""
    with pytest.raises((StateError, ConfigError)) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(str(part) in message for part in parts), message


def test_what_is_added_is_read_back(bank, source):
    first, second = Bank(bank.folder).entries()
    assert (first.name, first.domain, first.position, first.parents) == (
        "01-reviews", "reviews", 1, (),
    )  # fmt: skip
    assert (second.name, second.position, second.parents) == ("02-notes", 2, ("01-reviews",))
    assert first.base == BASE and first.data == [["a.jsonl", 3, "cd"]]
    assert first.metrics == {"accuracy": 0.75} and read_entry(second.folder) == second
    for name in FILES[:2]:
        assert (first.folder / name).read_bytes() == (source / "adapter" / name).read_bytes()
    assert first.config.read_text() == "model: m\n"
    assert first.memory.read_bytes() == (source / "memory.jsonl").read_bytes()
    given, found = Factors.read(source / "adapter"), first.factors()
    for layer in given.layers:
        assert torch.equal(given.update(layer), found.update(layer))


def test_a_bank_that_is_not_there_yet_is_empty(tmp_path):
    assert Bank(tmp_path / "none").entries() == []


def test_entries_come_in_the_order_of_learning_and_not_of_their_names(source, tmp_path):
    bank = Bank(tmp_path / "bank")
    names = [f"{letter}{i}" for i, letter in enumerate("zyxwvutsrqp")]
    for name in names:
        add(bank, source, name)
    last = bank.folder / "11-p10"
    last.rename(bank.folder / "00-renamed")
    assert [entry.domain for entry in bank.entries()] == names
    assert [entry.position for entry in bank.entries()] == list(range(1, 12))


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_noticed(bank, name):
    file = bank.folder / "02-notes" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused(bank.entries, file, "has changed")
    refused(lambda: read_entry(file.parent), file, "has changed")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(bank, name):
    file = bank.folder / "01-reviews" / name
    file.unlink()
    refused(bank.entries, file, "is missing")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b'"text"', b"\xff\xfe", b"\x00" * 40]
)
def test_a_garbled_manifest_is_refused(bank, content):
    path = bank.folder / "01-reviews" / "manifest.json"
    path.write_bytes(content)
    refused(bank.entries, path, "restore it")


def test_a_manifest_of_another_format_or_with_facts_missing_is_refused(bank):
    path = bank.folder / "01-reviews" / "manifest.json"
    whole = json.loads(path.read_text())
    for change, part in [
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"sha256": None}, "'sha256' is null, not an object"),
        ({"position": "first"}, "'position' is text, not a whole number"),
    ]:
        path.write_text(json.dumps(whole | change))
        refused(bank.entries, path, part)
    for key in ("domain", "position", "parents", "base", "data", "metrics", "sha256"):
        path.write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        refused(bank.entries, path, f"{key!r} is missing")
    path.unlink()
    refused(bank.entries, path.parent, "has no manifest.json")


def test_a_folder_that_is_no_entry_is_refused_and_loose_files_are_not(bank):
    (bank.folder / "notes.txt").write_text("kept by somebody")
    assert len(bank.entries()) == 2
    (bank.folder / "my-backup").mkdir()
    refused(bank.entries, bank.folder / "my-backup", "it is not a bank entry")


def test_a_module_of_another_base_never_comes_in(bank, source):
    other = [["model.safetensors", 7, "ff"]]
    refused(lambda: add(bank, source, "guests", base=other), "03-guests", "another base")
    assert sorted(path.name for path in bank.folder.iterdir()) == ["01-reviews", "02-notes"]
    path = bank.folder / "02-notes" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base": other}))
    refused(bank.entries, bank.folder / "02-notes", "another base")


@settings(deadline=None, max_examples=15)
@given(name=st.text(min_size=1))
@example(name="../../elsewhere")
@example(name="..")
@example(name="/etc/passwd")
@example(name="a/b\\c")
@example(name="Überraschung 🎉")
@example(name="x" * 400)
@example(name="nul\x00byte\nline")
def test_no_name_of_a_domain_leads_out_of_the_bank(source, name):
    with tempfile.TemporaryDirectory() as folder:
        bank = Bank(Path(folder) / "deep" / "bank")
        entry = add(bank, source, name)
        again = add(bank, source, name)
        assert entry.folder.parent == again.folder.parent == bank.folder
        assert {path.name for path in bank.folder.iterdir()} == {entry.name, again.name}
        assert [path.name for path in Path(folder).iterdir()] == ["deep"]
        assert [e.domain for e in bank.entries()] == [name, name]


@pytest.mark.parametrize("call", range(4))
def test_a_crash_while_adding_leaves_no_entry(bank, source, monkeypatch, call):
    before = bank.entries()
    calls = []

    def breaks(given, to):
        calls.append(given)
        if len(calls) > call:
            Path(to).write_text("half")
            raise OSError("no space left on device")
        Path(to).write_bytes(Path(given).read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(bank_module.shutil, "copyfile", breaks)
        with pytest.raises(OSError, match="no space"):
            add(bank, source, "guests")
    assert bank.entries() == before
    assert add(bank, source, "guests").name == "03-guests"


def test_a_draft_that_was_cut_off_just_before_its_rename_is_no_entry(bank, source):
    before = bank.entries()
    draft = bank.folder / ".03-guests.draft"
    shutil.copytree(bank.folder / "02-notes", draft)
    assert (draft / "manifest.json").exists() and bank.entries() == before
    assert add(bank, source, "guests").position == 3 and not draft.exists()


def test_adding_never_replaces_an_entry_even_where_one_was_removed(bank, source):
    third = add(bank, source, "guests")
    shutil.rmtree(bank.folder / "01-reviews")
    fourth = add(bank, source, "guests")
    assert fourth.position == 4 and [e.name for e in bank.entries()] == [
        "02-notes", third.name, fourth.name,
    ]  # fmt: skip


def test_of_a_domain_that_returned_the_newest_is_selected(bank, source):
    add(bank, source, "reviews")
    add(bank, source, "guests")
    assert [e.name for e in latest_per_domain(bank.entries())] == [
        "02-notes",
        "03-reviews",
        "04-guests",
    ]
    refused(lambda: latest_per_domain([]), "the bank is empty")
