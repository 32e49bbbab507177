"""Bases trained from scratch: cached by content, one token a word, the same bits every time."""

import random
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fastslow.adapters import load_base, load_end_ids, load_tokenizer
from fastslow.bench import tiny_base as scratch
from fastslow.bench.tiny_base import Pretraining, copy_base, default_cache, pretrain_base
from fastslow.records import Pair
from fastslow.scoring import Encoded, Encoder
from fastslow.streams.worlds import World
from fastslow.streams.worlds.language import LONGEST, MANNERS

WORLD = World(seed=1)
SMALL = Pretraining(
    hidden_size=16, layers=1, heads=2, conversations=400, batch_size=64, epochs=1, seed=3
)
STEPS = 7  # 400 conversations, 64 at a time


class Counted:
    """Remembers how far training has come."""

    def __init__(self, stop=None):
        self.calls, self.stop = [], stop

    def __call__(self, done, total):
        self.calls.append((done, total))
        if done == self.stop:
            raise KeyboardInterrupt


def train(cache, world=WORLD, stop=None, **changes):
    """The base's folder and how many steps were trained for it."""
    progress = Counted(stop)
    folder = pretrain_base(
        world, settings=replace(SMALL, **changes), cache=cache, progress=progress
    )
    return folder, len(progress.calls)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("bases")


@pytest.fixture(scope="module")
def folder(cache):
    return train(cache)[0]


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(str(folder))


@pytest.fixture
def untrained(monkeypatch):
    """Trains nothing, so that a test of keys costs nothing; counts how often it was asked."""
    asked = []

    class Nothing:
        def save_pretrained(self, to):
            Path(to, "model.safetensors").touch()

    monkeypatch.setattr(scratch, "_train", lambda *_: asked.append(1) or (Nothing(), Nothing()))
    return asked


def test_progress_counts_every_step_of_every_epoch(tmp_path):
    progress = Counted()
    pretrain_base(WORLD, settings=replace(SMALL, epochs=2), cache=tmp_path, progress=progress)
    assert progress.calls == [(step + 1, 2 * STEPS) for step in range(2 * STEPS)]


def test_the_second_call_trains_nothing(cache, folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert train(cache) == (folder, 0)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_another_world_or_setting_is_another_base(tmp_path, untrained):
    other = {
        "hidden_size": 32, "layers": 2, "heads": 4, "conversations": 401, "batch_size": 32,
        "epochs": 2, "learning_rate": 1e-3, "seed": 4,
    }  # fmt: skip
    assert other.keys() == {field.name for field in fields(Pretraining)} == asdict(SMALL).keys()
    folders = [train(tmp_path, **{name: value})[0] for name, value in other.items()]
    folders += [
        train(tmp_path, world)[0] for world in (World(seed=2), World(seed=1, num_domains=2))
    ]
    folders.append(train(tmp_path)[0])
    assert len(set(folders)) == len(folders) == len(untrained)
    assert {path.parent for path in folders} == {tmp_path}


def test_tastes_play_no_part(tmp_path, untrained):
    folder, _ = train(tmp_path)
    for change in ({"phase": 3}, {"conflict": 1.0}, {"sharpness": 9.0}):
        assert train(tmp_path, World(seed=1, **change))[0] == folder
    assert len(untrained) == 1


def test_the_same_settings_give_the_same_bits(tmp_path, folder):
    state = torch.get_rng_state()
    again, steps = train(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert steps == STEPS and again.name == folder.name
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_training_teaches_something(tmp_path, tokenizer):
    base = load_base(str(train(tmp_path, epochs=6)[0]))
    fresh = scratch._model(len(tokenizer), SMALL)
    # Talk beyond what it was trained on.
    turns = list(WORLD.corpus(SMALL.conversations + 64))[SMALL.conversations :]
    rows = [scratch._conversation(tokenizer, *both) for both in turns]
    with torch.no_grad():
        assert scratch._loss(base, rows) < scratch._loss(fresh, rows) - 1


def said(count=150):
    """Requests, answers and talk of the world."""
    draw = random.Random(9)
    for domain in WORLD.domains:
        for held_out in (False, True):
            prompts = WORLD.prompts(domain, held_out=held_out)
            yield from prompts
            yield from (WORLD.answer(draw.choice(prompts), draw) for _ in range(count))
    for turns in WORLD.corpus(count):
        yield from turns


def test_what_is_said_is_encoded_and_decoded_to_the_letter(tokenizer):
    for text in said():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_token_id not in ids


def test_a_word_is_a_token(tokenizer):
    for text in said(20):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        pieces = [tokenizer.decode([i]).removeprefix(" ") for i in ids]
        assert pieces == re.findall(r"\w+|[^\w\s]", text)


def test_an_unknown_word_is_the_unknown_token(tokenizer):
    assert tokenizer("Xyzzy", add_special_tokens=False)["input_ids"] == [tokenizer.unk_token_id]


def test_special_tokens_are_whole_and_end_a_turn(folder, tokenizer):
    for token in scratch.SPECIAL:
        ids = tokenizer(token, add_special_tokens=False)["input_ids"]
        assert ids == [scratch.SPECIAL.index(token)]
    assert tokenizer.eos_token == "<|end|>" and tokenizer.pad_token == "<|pad|>"
    assert load_end_ids(str(folder)) == [tokenizer.eos_token_id]


def test_only_the_answer_is_learned(tokenizer):
    prompt, answer = next(WORLD.corpus(1))
    ids, targets = scratch._conversation(tokenizer, prompt, answer)
    learned = targets != scratch.IGNORED
    assert torch.equal(ids[learned], targets[learned])
    assert tokenizer.decode(targets[learned]) == f"{answer}<|end|>"
    assert tokenizer.decode(ids) == f"<|user|>{prompt}<|end|><|assistant|>{answer}<|end|>"


def test_padding_changes_no_loss(folder, tokenizer):
    base = load_base(str(folder))
    rows = [scratch._conversation(tokenizer, *turns) for turns in WORLD.corpus(12)]
    counts = [int((targets != scratch.IGNORED).sum()) for _, targets in rows]
    with torch.no_grad():
        alone = sum(n * scratch._loss(base, [r]) for n, r in zip(counts, rows, strict=True))
        together = scratch._loss(base, rows)
    torch.testing.assert_close(together, alone / sum(counts))


def test_the_folder_is_a_base_like_any_other(folder, tokenizer):
    base = load_base(str(folder))
    assert base.config.vocab_size == len(tokenizer)
    assert not base.training and not any(p.requires_grad for p in base.parameters())
    stored = load_file(folder / "model.safetensors")
    loaded = dict(base.named_parameters())
    assert set(loaded) <= set(stored) and all(torch.equal(loaded[k], stored[k]) for k in loaded)
    encoder = Encoder(tokenizer, max_length=128, end_ids=load_end_ids(str(folder)))
    for row, _ in zip(WORLD.pairs("notes", seed=0), range(20), strict=False):
        encoded = encoder.encode(Pair(row["prompt"], row["chosen"], row["rejected"]))
        assert isinstance(encoded, Encoded) and not encoded.truncated
        prompt = tokenizer.decode(encoded.tree.prompt)
        assert prompt == f"<|user|>{row['prompt']}<|end|><|assistant|>"
        for ids, text in zip(encoded.tree.responses, (row["chosen"], row["rejected"]), strict=True):
            assert tokenizer.decode(ids) == f"{text}<|end|>"


def test_the_longest_conversation_fits_the_positions(folder, tokenizer):
    base = load_base(str(folder))
    wishes = " ".join(f"Be {ways[0]}." for ways in MANNERS.values())
    longest = max((answer for _, answer in WORLD.corpus(300)), key=len)
    assert longest.count(".") == LONGEST
    ids, _ = scratch._conversation(tokenizer, f"{WORLD.prompts('notes')[0]} {wishes}", longest)
    assert len(ids) < base.config.max_position_embeddings


@pytest.mark.parametrize("stop", [1, STEPS])
def test_a_training_that_is_interrupted_leaves_nothing_that_looks_complete(tmp_path, stop, folder):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop=stop)
    assert not list(tmp_path.rglob("*.safetensors"))
    again, steps = train(tmp_path)
    assert steps == STEPS
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_save_that_is_interrupted_leaves_nothing_that_looks_complete(
    tmp_path, monkeypatch, folder
):
    real = scratch._train

    def half(*arguments):
        model, tokenizer = real(*arguments)

        class Broken:
            def save_pretrained(self, to):
                assert (Path(to) / "model.safetensors").exists()
                raise OSError("disk full")

        return model, Broken()

    monkeypatch.setattr(scratch, "_train", half)
    with pytest.raises(OSError, match="disk full"):
        train(tmp_path)
    assert not (tmp_path / folder.name).exists()
    monkeypatch.setattr(scratch, "_train", real)
    again, steps = train(tmp_path)
    assert steps == STEPS and load_tokenizer(str(again)).get_vocab()


def test_a_copy_is_whole_and_leaves_the_cache_alone(tmp_path, folder):
    copy_base(folder, tmp_path / "mine" / "base")
    files = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in (tmp_path / "mine" / "base").iterdir()) == files
    for name in files:
        copied = tmp_path / "mine" / "base" / name
        assert copied.read_bytes() == (folder / name).read_bytes()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["base"]


def test_the_cache_is_where_the_system_keeps_caches(tmp_path, monkeypatch, untrained):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "fastslow" / "bases"
    assert pretrain_base(WORLD, settings=SMALL).parent == default_cache()
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "home" / ".cache" / "fastslow" / "bases"
