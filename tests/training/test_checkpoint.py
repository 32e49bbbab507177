"""A checkpoint is complete or it is not there, wherever the writing stops."""

import json
import os
import shutil

import pytest
import torch

from fastslow import atomic_io as durable
from fastslow.training.state.checkpoint import Snapshot, read_newest, write_checkpoint


def snapshot(step):
    return Snapshot({"modules": {"w": torch.full((3,), float(step))}}, {"step": step})


def newest(folder):
    found, skipped = read_newest(folder)
    return found.facts["step"] if found else None, skipped


def test_what_is_written_comes_back_bit_for_bit(tmp_path):
    tensors = {
        "modules": {"a/b": torch.randn(4, 3), "c": torch.randn(2, 2).T},
        "generators": {"cpu": torch.get_rng_state()},
        "optimizers": {"fast/0/step": torch.tensor(3.0)},
    }
    facts = {"step": 1, "sum": 0.1 + 0.2, "names": ["ä", None]}
    write_checkpoint(tmp_path, 1, Snapshot(tensors, facts), keep=1)
    found, _ = read_newest(tmp_path)
    assert found.facts == facts
    for group, values in tensors.items():
        for key, value in values.items():
            got = found.tensors[group][key]
            assert got.dtype == value.dtype and torch.equal(got, value)


def test_the_newest_are_kept(tmp_path):
    for step in (5, 10, 15, 20):
        write_checkpoint(tmp_path, step, snapshot(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest", "format"])
def test_a_damaged_checkpoint_is_passed_over_with_a_reason(tmp_path, damage):
    for step in (1, 2):
        write_checkpoint(tmp_path, step, snapshot(step), keep=2)
    broken = tmp_path / "step-00000002"
    weights, manifest = broken / "modules.safetensors", broken / "manifest.json"
    if damage == "flip":
        raw = bytearray(weights.read_bytes())
        raw[-1] ^= 1
        weights.write_bytes(raw)
    elif damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-4])
    elif damage == "remove":
        weights.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    step, skipped = newest(tmp_path)
    assert step == 1 and len(skipped) == 1 and "step-00000002" in skipped[0]


def test_a_damaged_newer_checkpoint_does_not_crowd_out_good_ones(tmp_path):
    write_checkpoint(tmp_path, 100, snapshot(100), keep=1)
    (tmp_path / "step-00000100" / "state.json").write_text("{}")
    write_checkpoint(tmp_path, 7, snapshot(7), keep=1)
    assert newest(tmp_path) == (7, [])


def test_no_checkpoint_is_no_fault(tmp_path):
    assert newest(tmp_path / "none") == (None, [])


class PowerCut(BaseException):
    pass


def count_calls(tmp_path, monkeypatch, cut_at=None):
    """Write step 2 over step 1 and stop dead at the n-th system call that matters."""
    calls = 0

    def counted(real):
        def call(*args, **kwargs):
            nonlocal calls
            if calls == cut_at:
                raise PowerCut
            calls += 1
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync"):
            patch.setattr(durable.os, name, counted(getattr(os, name)))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        write_checkpoint(tmp_path, 2, snapshot(2), keep=1)
    return calls


def test_a_power_cut_at_any_point_leaves_a_complete_checkpoint(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "dry", 1, snapshot(1), keep=1)
    total = count_calls(tmp_path / "dry", monkeypatch)
    assert total >= 6
    for cut_at in range(total):
        folder = tmp_path / str(cut_at)
        write_checkpoint(folder, 1, snapshot(1), keep=1)
        with pytest.raises(PowerCut):
            count_calls(folder, monkeypatch, cut_at)
        step, _ = newest(folder)
        assert step in (1, 2)
        # The next write does not stumble over the remains.
        write_checkpoint(folder, 3, snapshot(3), keep=1)
        assert newest(folder) == (3, [])
