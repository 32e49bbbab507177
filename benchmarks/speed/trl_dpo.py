"""TRL's DPOTrainer in its own process: `python -m benchmarks.speed.trl_dpo SETTINGS`."""

import dataclasses
import importlib.util
import json
import sys
from typing import Any

from benchmarks.speed.pace import Pace


def main() -> None:
    settings = json.loads(sys.argv[1])
    pace = Pace(settings["steps"])
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class Paced(TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            pace.ready(options=options | {"attention": attention})

        def on_step_end(self, *args, **kwargs):
            pace.step()

    options, attention = settings["options"], "sdpa"
    if settings.get("best"):
        more, attention = best_options(DPOConfig)
        options = options | more

    with open(settings["data"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    dtype = torch.bfloat16 if settings["precision"] == "bfloat16" else torch.float32
    cpu = not torch.cuda.is_available()
    config = DPOConfig(
        output_dir=settings["out"],
        per_device_train_batch_size=settings["batch_size"],
        num_train_epochs=10_000,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        beta=0.1,
        max_length=settings["max_length"],
        bf16=settings["precision"] != "float32",
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1_000_000,
        report_to=[],
        disable_tqdm=True,
        use_cpu=cpu,
        dataloader_pin_memory=not cpu,
        **options,
    )
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            settings["model"], dtype=dtype, attn_implementation=attention
        ),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(settings["model"]),
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[Paced()],
    )
    trainer.train()


def best_options(config: Any) -> tuple[dict[str, Any], str]:
    """The fastest settings of this machine and TRL version, and the attention implementation.

    The output head is fused with the loss in any case.
    """
    known = {field.name for field in dataclasses.fields(config)}
    flash = importlib.util.find_spec("flash_attn") is not None
    liger = importlib.util.find_spec("liger_kernel") is not None
    wanted = {"padding_free": flash, "use_liger_kernel": liger}
    options = {name: True for name, available in wanted.items() if available and name in known}
    return options, "flash_attention_2" if flash else "sdpa"


if __name__ == "__main__":
    main()
