"""The YAML of `trl dpo` (TRL 1.16) to a recipe."""

from collections.abc import Mapping
from typing import Any

from fastslow.convert import trainer
from fastslow.convert.foreign import Foreign, by_reason
from fastslow.trl_losses import LOSSES

SMOOTHED = ("exo", "robust_dpo")
"""Objectives that TRL smooths labels of."""
DIVERGENCES = {
    "reverse_kl": "reverse_kl", "forward_kl": "forward_kl", "js_divergence": "js",
    "alpha_divergence": "alpha",
}  # fmt: skip
BUILDERS = ("json", "csv", "parquet", "arrow", "text", "xml", "pandas", "webdataset")
"""Names by which `datasets` reads files that are given beside them."""
DEFAULTS = trainer.Defaults(learning_rate=1e-6)
IDLE = by_reason(
    {
        "batches are never padded": "padding_free pad_to_multiple_of pad_token",
        "the reference is scored once per example": "precompute_ref_log_probs "
        "precompute_ref_batch_size",
        "attention is chosen by trying it": "attn_implementation",
        "memory is planned before loading": "activation_offloading",
        "data are streamed from the hub": "dataset_streaming streaming ignore_bias_buffers",
        "adapters are of causal models": "lora_task_type",
        "removed from TRL, and what it did is done without it": "label_pad_token_id padding_value "
        "is_encoder_decoder use_logits_to_keep use_num_logits_to_keep generate_during_eval "
        "base_model_attribute_name model_adapter_name ref_adapter_name force_use_ref_model",
    }
)
LOST = by_reason(
    {
        "memory of a 4-bit base": "use_bnb_nested_quant bnb_4bit_quant_storage",
        "removed from TRL; data.max_length limits prompt and answer together": "max_prompt_length "
        "max_completion_length max_target_length",
    }
)
OFF: Mapping[str, tuple[Any, str]] = {
    "router_aux_loss_coef": (None, "a frozen base has no router to balance"),
    "model_init_kwargs": (None, "arguments of the model's loading are not passed on"),
    "ref_model_init_kwargs": (None, "arguments of the model's loading are not passed on"),
    "rpo_alpha": (None, "removed from TRL; here it is objective.nll_weight"),
    "reference_free": (False, "removed from TRL; here it is objective.name=reference_free"),
    "lora_target_parameters": (None, "adapters are on layers"),
    "lora_modules_to_save": (None, "nothing but adapters is trained"),
    "load_in_8bit": (False, "bases are quantised to 4 bit or not at all"),
    "bnb_4bit_quant_type": ("nf4", "4 bit is nf4 here"),
    "test_split_size": (None, "held-out pairs are files of their own; give data.eval"),
}


def convert_trl(foreign: Foreign, *, processes: int) -> list[str]:
    """Translate the settings; the keys that TRL does not have either."""
    trainer.base(foreign)
    _data(foreign)
    _adapter(foreign)
    _objective(foreign)
    trainer.trainer_arguments(foreign, DEFAULTS, processes=processes)
    _precision(foreign)
    if foreign.take("sync_ref_model", False, to="moving_reference"):
        every = foreign.take("ref_model_sync_steps", 512, to="moving_reference.every")
        share = foreign.take("ref_model_mixup_alpha", 0.6, to="moving_reference.share")
        foreign.put("moving_reference.every", int(every))
        foreign.put("moving_reference.share", float(share))
    for key in ("ref_model_sync_steps", "ref_model_mixup_alpha"):
        if not foreign.values.get("sync_ref_model"):
            foreign.pass_over(key, "sync_ref_model is off")
    return foreign.settle(
        idle={**trainer.IDLE, **IDLE}, lost={**trainer.LOST, **LOST}, off={**trainer.OFF, **OFF}
    )


def _data(foreign: Foreign) -> None:
    if length := foreign.take("max_length", 1024, to="data.max_length", null=0):
        foreign.put("data.max_length", length)
    else:
        foreign.refuse("max_length", "nothing is cut off there", instead="data.max_length")
    why = "of what is too long the prompt's oldest tokens go first, then both answers' ends"
    foreign.lose("truncation_mode", why)
    mixture = foreign.take("datasets", [], to="data.train")
    name = foreign.take("dataset_name", None, to="data.train")
    subset = foreign.take("dataset_config", None, to="data.train")
    train = foreign.take("dataset_train_split", "train", to="data.train")
    test = foreign.take("dataset_test_split", "test", to="data.eval")
    evaluated = str(foreign.values.get("eval_strategy") or "no") != "no"
    if mixture:
        foreign.put("data.train", _mixture(foreign, mixture))
        for key in ("dataset_name", "dataset_config", "dataset_train_split"):
            foreign.pass_over(key, "datasets is given")
        if evaluated:
            foreign.refuse("datasets", "its held-out part is not named", instead="data.eval")
    elif name in BUILDERS and "data.train" not in foreign.given:
        why = f"{name} is a builder of `datasets`, and its files are not named"
        foreign.refuse("dataset_name", why, instead="data.train")
    elif name:
        foreign.put("data.train", dataset(name, train, subset))
        if evaluated:
            foreign.put("data.eval", dataset(name, test, subset))
    else:
        foreign.refuse("dataset_name", "no data are named", instead="data.train")
    if not evaluated:
        foreign.pass_over("dataset_test_split", "eval_strategy is no; give data.eval to measure")


def dataset(name: str, split: str | None = None, subset: str | None = None) -> str:
    """A dataset as `data.train` names it.

    >>> dataset("owner/name", "train_prefs"), dataset("owner/name", "test", "hard")
    ('owner/name:train_prefs', 'owner/name:hard/test')
    """
    inside = "/".join(part for part in (subset, split) if part)
    return f"{name}:{inside}" if subset or split not in (None, "train") else name


def _mixture(foreign: Foreign, mixture: Any) -> list[str]:
    found: list[str] = []
    for each in mixture:
        if not isinstance(each, Mapping) or not (each.get("path") or each.get("data_files")):
            foreign.refuse("datasets", "each needs a path or data_files", instead="data.train")
            continue
        if more := set(each) - {"path", "name", "split", "data_files", "columns"}:
            foreign.refuse("datasets", f"{', '.join(sorted(more))} of a data set is not here")
        files = each.get("data_files")
        if isinstance(files, str | list):
            found += [files] if isinstance(files, str) else files
        elif files:
            foreign.refuse("datasets", "data_files by split is not here", instead="data.train")
        else:
            found.append(dataset(each["path"], each.get("split"), each.get("name")))
    return found


def _adapter(foreign: Foreign) -> None:
    if not foreign.take("use_peft", False, to="lora"):
        foreign.refuse("use_peft", "TRL trains all weights without it; here only adapters learn")
    foreign.put("lora.rank", foreign.take("lora_r", 16, to="lora.rank"))
    foreign.put("lora.alpha", float(foreign.take("lora_alpha", 32, to="lora.alpha")))
    dropout = float(foreign.take("lora_dropout", 0.05, to="lora.dropout"))
    if foreign.take("disable_dropout", True, to="lora.dropout", null=False):
        foreign.pass_over("lora_dropout", "disable_dropout, on by default, switches it off")
    else:
        foreign.put("lora.dropout", dropout)
    targets = foreign.take("lora_target_modules", None, to="lora.target_modules")
    if targets is None:
        targets = ["q_proj", "v_proj"]
        said = "not given: PEFT's default for Llama, Qwen, Mistral and Gemma is taken"
        foreign.say("lora_target_modules", said)
    if targets in (["all-linear"], "all-linear"):
        targets = "all-linear"
    foreign.put("lora.target_modules", targets)
    if foreign.take("load_in_4bit", False, to="load_in_4bit"):
        foreign.put("load_in_4bit", True)
    # One adapter, handed over as it was learned, as TRL does.
    foreign.put("chase", None)
    foreign.put("budget", None)


def _objective(foreign: Foreign) -> None:
    given = foreign.take("loss_type", ["sigmoid"], to="objective.name")
    losses = [given] if isinstance(given, str) else list(given)
    weights = foreign.take("loss_weights", None, to="objective.name") or [1.0] * len(losses)
    if unknown := [loss for loss in losses if loss not in LOSSES]:
        foreign.refuse("loss_type", f"{', '.join(unknown)} is not here", instead="objective.name")
    if len(weights) != len(losses):
        foreign.refuse("loss_weights", "each loss_type needs one")
        weights = [1.0] * len(losses)
    weighted = [(LOSSES[loss], w) for loss, w in zip(losses, weights, strict=True)
                if loss in LOSSES]  # fmt: skip
    names = [name for name, _ in weighted]
    # TRL's is the sum of two squares, ours their mean.
    scale = [2.0 * w if name == "sppo" else w for name, w in weighted]
    foreign.put("objective.name", _sum(names, scale))
    if "sft" in names:
        said = "objective.name; sft is a mean over each response's tokens, there over the batch's"
        foreign.say("loss_type", said)
    beta = foreign.take("beta", 0.1, to="objective.beta")
    if names != ["sft"]:
        foreign.put("objective.beta", float(beta))
    _settings(foreign, names)


def _sum(names: list[str], weights: list[float]) -> str:
    terms = [
        name if weight == 1 else f"{weight:g} * {name}"
        for name, weight in zip(names, weights, strict=False)
    ]
    return " + ".join(terms) or "dpo"


def _settings(foreign: Foreign, names: list[str]) -> None:
    """Settings of single losses; of others they do nothing in TRL."""
    smoothing = float(foreign.take("label_smoothing", 0.0, to="objective.label_smoothing"))
    if set(names) & set(SMOOTHED):
        foreign.put("objective.label_smoothing", smoothing)
    else:
        why = "TRL smooths no labels with this loss_type; for dpo give objective.label_smoothing"
        foreign.pass_over("label_smoothing", why)
    tau = float(foreign.take("discopop_tau", 0.05, to="objective.tau"))
    if "discopop" in names:
        foreign.put("objective.tau", tau)
    else:
        foreign.pass_over("discopop_tau", "loss_type is another")
    kind = foreign.take("f_divergence_type", "reverse_kl", to="objective.divergence")
    share = float(foreign.take("f_alpha_divergence_coef", 0.5, to="objective.divergence_alpha"))
    if kind not in DIVERGENCES or (kind != "reverse_kl" and names != ["dpo"]):
        foreign.refuse("f_divergence_type", f"{kind} with this loss_type is not here")
    elif kind != "reverse_kl":
        foreign.put("objective.divergence", DIVERGENCES[kind])
    if kind == "alpha_divergence":
        foreign.put("objective.divergence_alpha", 1 - share)
    else:
        foreign.pass_over("f_alpha_divergence_coef", "f_divergence_type is another")
    if foreign.take("use_weighting", False, to="objective.name"):
        if names == ["dpo"]:
            foreign.put("objective.name", "wpo")
            foreign.say("use_weighting", "objective.name; weights are at most 1 here")
        else:
            foreign.refuse("use_weighting", "weights of WPO are for loss_type sigmoid here")


def _precision(foreign: Foreign) -> None:
    half = foreign.take("fp16", False, to="train.precision")
    mixed = foreign.take("bf16", not half, to="train.precision")
    dtype = str(foreign.take("dtype", "float32", to="train.precision"))
    if half:
        foreign.say("fp16", "train.precision, as bfloat16: float16 is not here")
    # A 4-bit base computes in bfloat16.
    if dtype == "bfloat16" or foreign.recipe.get("load_in_4bit"):
        foreign.put("train.precision", "bfloat16")
    elif mixed or half:
        foreign.put("train.precision", "mixed")
    if "bf16" not in foreign.values and not half:
        foreign.say("bf16", "not given: TRL computes in bfloat16, as train.precision: mixed")
    if dtype not in ("float32", "bfloat16"):
        foreign.refuse("dtype", f"{dtype} is not here", instead="train.precision")
