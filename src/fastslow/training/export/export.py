"""Exports a run, finished or at a checkpoint: its adapter, or a checked merge into the base."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from fastslow.adapters import (
    BASE,
    Modules,
    copy_adapter,
    load_base,
    load_config,
    load_tokenizer,
    rename_base,
)
from fastslow.atomic_io import check_free, new_folder, write_text
from fastslow.config import Recipe
from fastslow.errors import ConfigError, StateError
from fastslow.training.export.card.card import Exported, model_card
from fastslow.training.export.card.front_matter import hub_id
from fastslow.training.export.checkpointed import modules_at
from fastslow.training.export.open_run import check_base_of, read_any_run
from fastslow.training.policies.loading import clear_base
from fastslow.training.policies.routed import ROUTED
from fastslow.training.state.checkpoint import Snapshot
from fastslow.training.state.summary import ContinualSummary, RunSummary

CARD = "README.md"
PROBES = 8
PROBE_TOKENS = 32
EXACT = 1e-6
"""KL in nats per token that float32 rounding alone may cause."""
LOST = 0.05
"""Share of the adapter's effect that rounding to the export's precision may lose."""


@dataclass(frozen=True, slots=True)
class MergeCheck:
    """How the exported model compares with the adapter on the base; KL in nats per token."""

    dtype: str
    probes: int
    error: float
    """KL(adapter || exported), mean over probe tokens."""
    effect: float
    """KL(adapter || base), mean over probe tokens."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Where on the Hub an exported folder will be, so that it names no paths of this machine.

    Attributes:
        repo: the repository's id.
        base: the id of the base; None takes the recipe's model, if that is one.
    """

    repo: str
    base: str | None = None


def export_adapter(
    run: Path,
    to: Path,
    *,
    module: str = "leader",
    trust_code: bool = False,
    publication: Publication | None = None,
) -> str:
    """Copy one module's PEFT folder, with tokenizer and model card; returns its name.

    Only the adapter's two files are copied, and links are not followed. Raises ConfigError if
    `to` exists.
    """
    recipe, summary, snapshot = read_any_run(run, trust_code=trust_code)
    check_base_of(run, recipe, summary)
    name = _module(summary, module)
    check_free(to)
    with new_folder(to, replace=False) as draft:
        _write_adapter(run, name, draft, recipe, summary, snapshot)
        load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code).save_pretrained(
            str(draft)
        )
        exported = _exported(run, name, recipe, summary, publication)
        if publication is not None:
            rename_base(draft, exported.base or hub_id(recipe.model))
        write_text(draft / CARD, model_card(exported, draft))
    return name


def export_merged(
    run: Path,
    to: Path,
    *,
    module: str = "leader",
    dtype: str | None = None,
    trust_code: bool = False,
    publication: Publication | None = None,
) -> MergeCheck:
    """Write base plus module as one model folder with tokenizer, template and model card.

    Merged in float32, written in `dtype` (default: the base folder's own), loaded again and
    compared with the adapter on probe prompts. Raises StateError, and writes nothing, if they
    differ by more than rounding.
    """
    recipe, summary, snapshot = read_any_run(run, trust_code=trust_code)
    if recipe.task == "reward":
        raise ConfigError(
            "merged: a reward model is exported as an adapter, which PEFT puts on a sequence "
            "classifier; remove --merged"
        )
    check_base_of(run, recipe, summary)
    name = _module(summary, module)
    check_free(to)
    trust: dict[str, Any] = {"trust_remote_code": recipe.trust_remote_code}
    tokenizer = load_tokenizer(recipe.model, **trust)
    target = _dtype(recipe, dtype)
    base = load_base(recipe.model, precision="float32", **trust)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        _write_adapter(run, name, folder, recipe, summary, snapshot, base=base)
        clear_base(base)
        modules = Modules.load(base, {name: folder}, trainable=())
    probes = _probes(base)
    with modules.using(name):
        wanted = _log_probs(base, probes)
    with modules.using(BASE):
        before = _log_probs(base, probes)
    model = modules.merge(name).to(target)
    with new_folder(to, replace=False) as draft:
        model.save_pretrained(str(draft))
        tokenizer.save_pretrained(str(draft))
        check = _check(draft, probes, wanted, before, **trust)
        exported = _exported(run, name, recipe, summary, publication, check)
        write_text(draft / CARD, model_card(exported, draft))
    return check


def _exported(
    run: Path,
    name: str,
    recipe: Recipe,
    summary: RunSummary | ContinualSummary,
    publication: Publication | None,
    check: MergeCheck | None = None,
) -> Exported:
    """What the card is about."""
    return Exported(
        run.resolve().name,
        name,
        recipe,
        summary,
        base=publication.base if publication else None,
        place=publication.repo if publication else ".",
        merge_error=check.error if check else None,
    )


def _check(
    draft: Path, probes: Tensor, wanted: Tensor, before: Tensor, **trusted: Any
) -> MergeCheck:
    """Compare a written model with the log-probs of the adapter, `wanted`, and of the base,
    `before`. Raises StateError, and removes the draft, if it differs by more than rounding."""
    written = AutoModelForCausalLM.from_pretrained(
        str(draft), dtype=torch.float32, use_safetensors=True, **trusted
    ).eval()
    check = MergeCheck(
        dtype=str(load_config(str(draft), **trusted).dtype).removeprefix("torch."),
        probes=PROBES * PROBE_TOKENS,
        error=_kl(wanted, _log_probs(written, probes)),
        effect=_kl(wanted, before),
    )
    if not check.error <= max(EXACT, LOST * check.effect):
        shutil.rmtree(draft)
        raise StateError(
            f"the merged model differs from the adapter: KL {check.error:.2e} nats per token "
            f"where the adapter's whole effect is {check.effect:.2e}. Nothing was written. "
            "Export in float32 (--dtype float32) or export the adapter (without --merged)."
        )
    return check


def _write_adapter(
    run: Path,
    name: str,
    to: Path,
    recipe: Recipe,
    summary: RunSummary | ContinualSummary,
    snapshot: Snapshot | None,
    *,
    base: Any = None,
) -> None:
    """Write one module's PEFT folder: copied, or from a checkpoint, which is loaded on a base."""
    if snapshot is None:
        to.mkdir(exist_ok=True)
        copy_adapter(summary.adapter(run, name), to)
        return
    if base is None:
        trusted = recipe.trust_remote_code
        base = load_base(recipe.model, precision="float32", trust_remote_code=trusted)
    modules_at(snapshot, recipe, base).save(name, to)


def _module(summary: RunSummary | ContinualSummary, asked: str) -> str:
    name = summary.leader if asked == "leader" else asked
    if name == ROUTED:
        raise ConfigError(
            "module: this run's policy chooses an adapter for each prompt, so no single one stands "
            f"for it; export them one by one: {', '.join(summary.adapters)}"
        )
    if name not in summary.adapters:
        raise ConfigError(
            f"module: got {asked!r}; this run has leader, {', '.join(summary.adapters)}"
        )
    return name


def _dtype(recipe: Recipe, asked: str | None) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if asked is not None:
        if asked not in dtypes:
            raise ConfigError(f"dtype: got {asked!r}; allowed are {', '.join(dtypes)}")
        return dtypes[asked]
    config = load_config(recipe.model, trust_remote_code=recipe.trust_remote_code)
    return config.dtype or torch.float32


def _probes(model: Any) -> Tensor:
    """Random token rows from the whole vocabulary, [PROBES, PROBE_TOKENS]."""
    size = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, size, (PROBES, PROBE_TOKENS), generator=generator)


def _log_probs(model: Any, probes: Tensor) -> Tensor:
    with torch.no_grad():
        logps: Tensor = model(input_ids=probes, use_cache=False).logits.float().log_softmax(-1)
    return logps


def _kl(first: Tensor, second: Tensor) -> float:
    """Mean KL(first || second) of log-probs [R, T, V], nats per token."""
    kl: float = (first.exp() * (first - second)).sum(-1).mean().item()
    return max(kl, 0.0)  # Rounding can make the KL of equal policies negative.
