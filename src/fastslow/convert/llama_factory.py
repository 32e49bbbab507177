"""A YAML of LLaMA-Factory (0.9.5) for dpo or kto to a recipe."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastslow.convert import trainer
from fastslow.convert.foreign import Foreign, by_reason
from fastslow.convert.trl import dataset
from fastslow.errors import ConfigError

LOSSES = {"sigmoid": "dpo", "hinge": "hinge", "ipo": "ipo", "orpo": "orpo", "simpo": "simpo"}
DEFAULTS = trainer.Defaults(learning_rate=5e-5)
COLUMNS = {
    "prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "kto_tag": "label",
    "response": "completion", "messages": "messages", "system": "system", "tools": "tools",
    "history": "history",
}  # fmt: skip
"""Columns of a data set there, and what they mean here."""
QUERY = ("query", "input")
INSTRUCTION = "instruction"
"""The prompt to which an input is added."""
USUAL = (INSTRUCTION, "conversations", "chosen", "rejected", "output")
"""Names by which rows are told: Alpaca's and ShareGPT's."""
IDLE = by_reason(
    {
        "batches are never padded": "packing neat_packing ignore_pad_token_for_loss "
        "block_diag_attn",
        "data are read as they come": "streaming buffer_size overwrite_cache tokenized_path "
        "data_shared_file_system cache_dir media_dir",
        "attention and kernels are chosen by trying them": "flash_attn enable_liger_kernel "
        "use_unsloth use_unsloth_gc use_v1_kernels use_reentrant_gc low_cpu_mem_usage "
        "use_fast_tokenizer infer_dtype compute_dtype device_map use_kv_cache offload_folder",
        "only with a key that is not given": "galore_* apollo_* badam_* freeze_* oft_* "
        "ppo_* reward_model* swanlab_* export_* vllm_* sglang_* kt_* image_* video_* audio_* "
        "pissa_iter pissa_convert asft_alpha eaft_alpha loraplus_lr_embedding interleave_probs "
        "module_dropout fp8_* profiler_* profile_modules hyper_parallel_args ray_* master_* "
        "use_audio_in_video crop_to_patches asft_* eaft_*",
        "held-out accuracy is always measured": "compute_accuracy eval_on_each_dataset "
        "eval_num_beams predict_with_generate include_effective_tokens_per_second",
        "`fastslow report RUN` draws it": "plot_loss print_param_status",
        "sampling is in the sections eval and online": "infer_backend do_sample temperature top_p "
        "top_k num_beams max_new_tokens repetition_penalty length_penalty skip_special_tokens",
        "train.gradient_checkpointing, where it does not fit": "disable_gradient_checkpointing",
        "a token of the hub is the environment's": "hf_hub_token ms_hub_token om_hub_token",
        "the layout of a quantised base is chosen by itself": "quantization_device_map "
        "double_quantization",
    }
)
LOST = by_reason({"SwanLab is not a tracker here": "use_swanlab"})
OFF: Mapping[str, tuple[Any, str]] = {
    **dict.fromkeys(
        (
            "use_galore",
            "use_apollo",
            "use_badam",
            "use_adam_mini",
            "use_muon",
            "use_llama_pro",
            "use_mca",
            "use_kt",
            "use_hyper_parallel",
            "fp8",
            "mixture_of_depths",
            "shift_attn",
            "train_from_scratch",
            "enable_torch_profiler",
        ),
        (False, "is not here"),
    ),
    "use_dft_loss": (False, "is of supervised training"),
    "use_asft_loss": (False, "is of supervised training"),
    "use_eaft_loss": (False, "is of supervised training"),
    "pissa_init": (False, "adapters start at 0 here"),
    "loraplus_lr_ratio": (None, "both factors have one learning rate here"),
    "additional_target": (None, "nothing but adapters is trained"),
    "rope_scaling": (None, "the model is taken as it is; put it into its config.json"),
    "resize_vocab": (False, "no tokens are added here"),
    "add_tokens": (None, "no tokens are added here"),
    "add_special_tokens": (None, "no tokens are added here"),
    "new_special_tokens_config": (None, "no tokens are added here"),
    "init_special_tokens": ("noise_init", "no tokens are added here"),
    "split_special_tokens": (False, "special tokens of a text are told from the template's"),
    "moe_aux_loss_coef": (None, "a frozen base has no router to balance"),
    "upcast_layernorm": (False, "the base computes as train.precision says"),
    "upcast_lmhead_output": (False, "log-probs are float32 always"),
    "train_on_prompt": (False, "only responses are learned"),
    "mask_history": (False, "only the last answer is learned"),
    "mix_strategy": ("concat", "sources are read one after the other; shuffle them yourself"),
    "max_samples": (None, "all rows are read; give train.max_steps, or a shorter file"),
    "tool_format": (None, "tools are written by the tokenizer's template"),
    "default_system": (None, "rows name their own system turn"),
    "preserve_thinking": (False, "thoughts are the template's"),
    "early_stopping_steps": (None, "runs end at their last step here"),
    "pref_bco_weight": (0.0, "the BCO term there has another baseline"),
    "ref_model_quantization_bit": (None, "the reference is the base as it is loaded"),
    "adapter_folder": (None, "give the adapter itself"),
    "model_max_length": (None, "give cutoff_len"),
    "max_length": (1024, "give cutoff_len"),
    "freeze_vision_tower": (True, "models of text alone are trained"),
    "freeze_multi_modal_projector": (True, "models of text alone are trained"),
    "freeze_language_model": (False, "the adapters are on the language model"),
}


def convert_llama_factory(foreign: Foreign, *, processes: int, folder: Path) -> list[str]:
    """Translate the settings; the keys that LLaMA-Factory does not have either.

    Args:
        foreign: the settings.
        processes: that train together.
        folder: of the file; `dataset_dir` is looked for there too.
    """
    stage = foreign.take("stage", "sft", to="objective.name")
    if stage not in ("dpo", "kto"):
        raise ConfigError(f"stage: got {stage!r}; dpo and kto can be converted")
    trainer.base(foreign)
    _data(foreign, folder)
    _adapter(foreign)
    _objective(foreign, stage)
    trainer.trainer_arguments(foreign, DEFAULTS, processes=processes)
    if foreign.take("disable_shuffling", False, to="data.shuffle"):
        foreign.put("data.shuffle", 0)
    half = any(foreign.take(key, False, to="train.precision") for key in ("bf16", "pure_bf16"))
    if foreign.take("fp16", False, to="train.precision"):
        foreign.say("fp16", "train.precision, as bfloat16: float16 is not here")
        half = True
    # A 4-bit base computes in bfloat16.
    if half or foreign.recipe.get("load_in_4bit"):
        foreign.put("train.precision", "bfloat16")
    return foreign.settle(
        idle={**trainer.IDLE, **IDLE}, lost={**trainer.LOST, **LOST}, off={**trainer.OFF, **OFF}
    )


def _data(foreign: Foreign, folder: Path) -> None:
    foreign.put("data.max_length", foreign.take("cutoff_len", 2048, to="data.max_length"))
    template = foreign.take("template", None, to="data.template")
    foreign.put("data.template", "plain" if template == "empty" else "chat")
    if template is None:
        said = "not given: the tokenizer's own, as there; if it has none, give data.template=plain"
        foreign.say("template", said)
    elif template != "empty":
        foreign.say("template", "data.template: the tokenizer's own; `fastslow validate` shows it")
    if "enable_thinking" in foreign.values:
        thinking = bool(foreign.take("enable_thinking", True, to="data.chat_template_kwargs"))
        foreign.put("data.chat_template_kwargs", {"enable_thinking": thinking})
    place = str(foreign.take("dataset_dir", "data", to="data.train"))
    table = {} if place == "ONLINE" else _table(folder, place)
    for key, to in (("dataset", "data.train"), ("eval_dataset", "data.eval")):
        _sources(foreign, key, to, table)
    if not foreign.values.get("dataset"):
        foreign.refuse("dataset", "no data are named", instead="data.train")
    if foreign.take("val_size", 0.0, to="data.eval"):
        why = "held-out pairs are files of their own here: split yours"
        foreign.refuse("val_size", why, instead="data.eval")


def _sources(foreign: Foreign, key: str, to: str, table: Mapping[str, Any]) -> None:
    """The data sets of a key, as dataset_info.json describes them."""
    given = foreign.take(key, None, to=to)
    if not given:
        return
    if to in foreign.given:
        foreign.pass_over(key, f"{to} is given")
        return
    names = given if isinstance(given, list) else [name.strip() for name in given.split(",")]
    if missing := [name for name in names if name not in table]:
        why = f"no dataset_info.json that is here tells where {', '.join(missing)} is"
        foreign.refuse(key, why, instead=to)
        return
    for name in names:
        if more := _unread(table[name]):
            foreign.refuse(key, f"{name} has {more}, which is not here", instead=to)
    foreign.put(to, [_source(table[name]) for name in names])
    for name in names:
        for meaning, column in _columns(table[name]):
            known = foreign.recipe["data"].setdefault("columns", {}).setdefault(meaning, column)
            if known != column:
                why = f"{name} calls {meaning} {column!r}, others {known!r}"
                foreign.refuse(key, why, instead="data.columns")


def _table(folder: Path, place: str) -> dict[str, Any]:
    """dataset_info.json of a folder beside the working folder or the file, its paths resolved."""
    for where in (Path(place), folder / place):
        if (path := where / "dataset_info.json").is_file():
            try:
                table = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ConfigError(f"{path} is not JSON: {error}") from None
            if not _is_table(table):
                raise ConfigError(f"{path} must hold an object for each data set, by its name")
            return {name: {**entry, "folder": where} for name, entry in table.items()}
    return {}


def _is_table(table: Any) -> bool:
    return isinstance(table, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("columns", {}), dict)
        for entry in table.values()
    )


def _unread(entry: Mapping[str, Any]) -> str:
    """What a data set's description says that cannot be said here."""
    columns = entry.get("columns", {})
    joined = (QUERY,) if columns.get("prompt", INSTRUCTION) == INSTRUCTION else ()
    odd = [key for key, name in columns.items() if key not in COLUMNS and (key, name) not in joined]
    if not {"file_name", "hf_hub_url"} & set(entry):
        odd.append("neither file_name nor hf_hub_url")
    return ", ".join(odd + [key for key in ("num_samples", "folder_name") if entry.get(key)])


def _source(entry: Mapping[str, Any]) -> str:
    if "hf_hub_url" in entry:
        return dataset(entry["hf_hub_url"], entry.get("split"), entry.get("subset"))
    return str(entry["folder"] / entry.get("file_name", ""))


def _columns(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Columns under other names than those that rows are told by anyway."""
    given = entry.get("columns", {})
    return [
        (COLUMNS[key], name)
        for key, name in given.items()
        if key in COLUMNS and name not in (*USUAL, COLUMNS[key])
    ]


def _adapter(foreign: Foreign) -> None:
    kind = foreign.take("finetuning_type", "lora", to="lora")
    if kind != "lora":
        foreign.refuse("finetuning_type", f"{kind} trains other weights; here only adapters learn")
    rank = int(foreign.take("lora_rank", 8, to="lora.rank"))
    foreign.put("lora.rank", rank)
    foreign.put("lora.alpha", float(foreign.take("lora_alpha", 2 * rank, to="lora.alpha")))
    if dropout := float(foreign.take("lora_dropout", 0.0, to="lora.dropout")):
        foreign.put("lora.dropout", dropout)
    targets = foreign.take("lora_target", "all", to="lora.target_modules")
    names = targets if isinstance(targets, list) else [t.strip() for t in targets.split(",")]
    foreign.put("lora.target_modules", "all-linear" if names == ["all"] else names)
    _start(foreign)
    bits = foreign.take("quantization_bit", None, to="load_in_4bit")
    method = str(foreign.take("quantization_method", "bnb", to="load_in_4bit"))
    kind = foreign.take("quantization_type", "nf4", to="load_in_4bit")
    if bits == 4 and method in ("bnb", "bitsandbytes") and kind == "nf4":
        foreign.put("load_in_4bit", True)
    elif bits:
        foreign.refuse("quantization_bit", f"{method}, {bits} bit, {kind}: only 4 bit nf4 is here")
    # One adapter, handed over as it was learned, as LLaMA-Factory does.
    foreign.put("chase", None)
    foreign.put("budget", None)


def _start(foreign: Foreign) -> None:
    """The adapter that is learned on, and the reference that goes with it."""
    start = foreign.take("adapter_name_or_path", None, to="lora.start_from")
    fresh = foreign.take("create_new_adapter", False, to="lora.freeze_start")
    reference = foreign.take("ref_model", None, to="reference")
    theirs = foreign.take("ref_model_adapters", None, to="reference")
    if reference not in (None, foreign.values.get("model_name_or_path")):
        foreign.refuse("ref_model", "the reference is the base or the start here")
    if theirs is not None and theirs != start:
        foreign.refuse("ref_model_adapters", "the reference is the base or the start here")
    if not start:
        return
    if isinstance(start, list) or "," in start:
        foreign.refuse("adapter_name_or_path", "one adapter at most; sum them with `combine`")
        return
    foreign.put("lora.start_from", start)
    if fresh:
        foreign.put("lora.freeze_start", True)
    else:
        foreign.recipe["lora"] = {"start_from": start}
        for key in ("lora_rank", "lora_alpha", "lora_dropout", "lora_target"):
            foreign.pass_over(key, "the adapter that is learned on brings its own")
    # There the reference is the model without its newest adapter, unless it is named.
    foreign.put("reference", "previous" if theirs or fresh else "base")
    if not theirs and not fresh:
        said = "lora.start_from; the reference is the bare base there, `reference: previous` here"
        foreign.say("adapter_name_or_path", f"{said} compares with the adapter's start")


def _objective(foreign: Foreign, stage: str) -> None:
    loss = foreign.take("pref_loss", "sigmoid", to="objective.name")
    beta = float(foreign.take("pref_beta", 0.1, to="objective.beta"))
    smoothing = float(foreign.take("dpo_label_smoothing", 0.0, to="objective.label_smoothing"))
    likelihood = float(foreign.take("pref_ftx", 0.0, to="objective.nll_weight"))
    gamma = float(foreign.take("simpo_gamma", 0.5, to="objective.gamma_beta_ratio"))
    liked = float(foreign.take("kto_chosen_weight", 1.0, to="objective.desirable_weight"))
    not_liked = float(foreign.take("kto_rejected_weight", 1.0, to="objective.undesirable_weight"))
    name = "kto" if stage == "kto" else LOSSES.get(loss)
    if name is None:
        foreign.refuse("pref_loss", f"{loss} is not here", instead="objective.name")
        name = "dpo"
    foreign.put("objective.name", name)
    foreign.put("objective.beta", beta)
    if name == "simpo":
        foreign.put("objective.gamma_beta_ratio", gamma / beta)
    if name == "kto":
        foreign.put("objective.desirable_weight", liked)
        foreign.put("objective.undesirable_weight", not_liked)
    if likelihood and name == "kto":
        foreign.refuse("pref_ftx", "a likelihood term beside kto is not here")
    elif likelihood:
        foreign.put("objective.nll_weight", likelihood)
    if smoothing and name == "dpo":
        foreign.put("objective.label_smoothing", smoothing)
    elif smoothing:
        foreign.pass_over("dpo_label_smoothing", "it is of pref_loss sigmoid")
    if name != "simpo":
        foreign.pass_over("simpo_gamma", "it is of pref_loss simpo")
    if stage == "kto":
        foreign.pass_over("pref_loss", "the stage is kto")
    else:
        for key in ("kto_chosen_weight", "kto_rejected_weight"):
            foreign.pass_over(key, "it is of stage kto")
