"""A tiny random model, its tokenizer and pairs: everything a test needs without a download."""

import gzip
import json
import random
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GOOD = ["calm", "bright", "kind", "clear", "warm"]
BAD = ["grim", "harsh", "dull", "cold", "vague"]
THINGS = ["river", "garden", "letter", "window", "song", "market", "story", "road"]
SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2_SIZES = {
    "vocab_size": 320,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES = {
    "llama": SIZES,
    "qwen2": SIZES,
    "qwen3": SIZES | {"head_dim": 8},
    "mistral": SIZES | {"sliding_window": None},
    "gemma2": SIZES | {"head_dim": 8},
    "gemma3_text": SIZES | {"head_dim": 8},
    "phi3": SIZES,
    "granite": SIZES | {"logits_scaling": 4.0},
    "cohere": SIZES,
    "gpt2": GPT2_SIZES,
    "gpt_neox": SIZES,
    "opt": {
        "vocab_size": 320,
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "word_embed_proj_dim": 32,
    },
}


def tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """A byte-level BPE over a few sentences."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = [f"Describe the {t}. The {t} is {g} and {b}." for t in THINGS for g in GOOD for b in BAD]
    core.train_from_iterator(text, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|pad|>", bos_token="<|bos|>", eos_token="<|end|>"
    )
    fast.chat_template = template
    return fast


def model(architecture: str = "llama", *, seed: int = 0, scale: float = 4.0, **changes):
    """A random causal LM whose answers vary enough to be worth comparing."""
    torch.manual_seed(seed)
    if architecture == "llama":
        config = LlamaConfig(**(SIZES | changes))
    else:
        config = AutoConfig.for_model(architecture, **(ARCHITECTURES[architecture] | changes))
    built = AutoModelForCausalLM.from_config(config).eval()
    for parameter in built.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(scale)
    return built.requires_grad_(False)


def save_model(folder: Path, *, template: str | None = TEMPLATE, **changes) -> Path:
    """A model folder with tokenizer."""
    model(**changes).save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return folder


def rows(count: int, *, seed: int = 0, domain: str | None = None) -> list[dict]:
    """Pairs that prefer good words; every third prompt has two turns before it."""
    draw = random.Random(seed)
    made = []
    for index in range(count):
        thing = draw.choice(THINGS)
        prompt = f"Describe the {thing}."
        if index % 3 == 0:
            prompt = [
                {"role": "user", "content": "Hello."},
                {"role": "assistant", "content": "Hello to you."},
                {"role": "user", "content": prompt},
            ]
        length = draw.randint(1, 4)
        good = " and ".join(draw.choices(GOOD, k=length))
        bad = " and ".join(draw.choices(BAD, k=draw.randint(1, 4)))
        row = {
            "prompt": prompt,
            "chosen": f"The {thing} is {good}.",
            "rejected": f"The {thing} is {bad}.",
        }
        made.append(row | ({"domain": domain} if domain else {}))
    return made


ASKED = {"warm": "Describe", "cold": "Judge", "late": "Recall"}


def domain_rows(domain: str, count: int, *, seed: int = 0) -> list[dict]:
    """Pairs of a domain that asks in its own words; `cold` prefers what the others reject."""
    made = []
    for row in rows(count, seed=seed):
        thing = row["chosen"].split()[1]
        row |= {"prompt": f"{ASKED[domain]} the {thing}.", "domain": domain}
        if domain == "cold":
            row |= {"chosen": row["rejected"], "rejected": row["chosen"]}
        made.append(row)
    return made


def write_rows(path: Path, data: list[dict]) -> Path:
    """A .jsonl or .jsonl.gz file."""
    text = "".join(json.dumps(row) + "\n" for row in data)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def continual_settings(model_folder, domain_files, names, **continual) -> dict:
    """A recipe of a few steps for each of the named domains, as a mapping."""
    return {
        "model": str(model_folder),
        "data": {"max_length": 96, "replay_buffer_size": 12},
        "lora": {"rank": 2, "alpha": 4.0},
        "train": {"batch_size": 8, "learning_rate": 1e-2},
        "eval": {"num_prompts": 0, "max_new_tokens": 4},
        "checkpoint": {"every": 2},
        "chase": None,
        "continual": {"domains": [{"name": n, **domain_files[n]} for n in names], **continual},
    }


FAILING_RULE = """
from pathlib import Path
LEFT = Path({left!r})

def score(prompt, answer):
    count = int(LEFT.read_text()) - 1
    LEFT.write_text(str(count))
    if count < 0:
        raise OSError("gone")
    return answer.count("e") - 0.1 * len(answer)
"""
"""A judge that scores as many answers as the file `left` says and then fails."""


def components(recipe):
    """The parts of a recipe's run, ready for the loop."""
    from fastslow.training.build import build
    from fastslow.training.distributed.processes import ProcessGroup
    from fastslow.training.policies.loading import SharedBase

    return build(recipe, SharedBase(ProcessGroup()))


def steps(folder) -> list[dict]:
    """The step events of a run."""
    lines = (Path(folder) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "step"]


def adapters(folder) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of each module that a run has left."""
    paths = sorted(Path(folder).glob("adapters/*/adapter_model.safetensors"))
    return {path.parent.name: load_file(path) for path in paths}


def same(first, second) -> bool:
    """Whether two runs' modules are the same, bit for bit."""
    assert first.keys() == second.keys()
    assert all(first[name].keys() == second[name].keys() for name in first)
    return all(torch.equal(first[name][key], second[name][key])
               for name in first for key in first[name])  # fmt: skip
