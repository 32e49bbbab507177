"""Models of a given shape with random weights, and a tokenizer with the same vocabulary.

The cost of a step depends on shapes and on lengths in tokens, not on the values of weights. The
tokenizer is learned from the training pairs.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

VOCABULARY = 49_152
SHAPES = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "70m": {
        "hidden_size": 512,
        "intermediate_size": 1792,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
"""Llama's; tied embeddings up to 1.5b."""
SPECIAL = ["<|pad|>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def make_model(
    shape: str,
    tokenizer: Callable[[], Any],
    to: Path,
    *,
    dtype: torch.dtype,
    vocabulary: int = VOCABULARY,
) -> Path:
    """The folder of a model, created once.

    `vocabulary` may be larger than that of the tokenizer that `tokenizer` returns.
    """
    if not (to / "tokenizer.json").exists():
        torch.manual_seed(0)
        config = LlamaConfig(
            **SHAPES[shape],
            vocab_size=vocabulary,
            max_position_embeddings=4096,
            tie_word_embeddings=shape != "8b",
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            dtype=dtype,
        )
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        model.save_pretrained(to)
        tokenizer().save_pretrained(to)
    return to


def rows_of(data: Path) -> Iterator[dict]:
    """The training pairs in a domain's folder."""
    with gzip.open(data / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def learn_tokenizer(data: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE of VOCABULARY tokens, learned from a domain's pairs."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(map(_text, rows_of(data)), trainer)
    pad, bos, end, *_ = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=pad, bos_token=bos, eos_token=end
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _text(row: dict) -> str:
    prompt = row["prompt"]
    turns = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
    return "\n".join([*turns, row["chosen"], row["rejected"]])
