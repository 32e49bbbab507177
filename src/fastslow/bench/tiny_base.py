"""A tiny chat model trained from scratch on a world's text: the base of benchmarks and the demo.

One word is one token, so text and tokens of an answer are equivalent.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fastslow.atomic_io import new_folder
from fastslow.streams.worlds import World
from fastslow.training.state.event_log import Progress

FORMAT = 1
"""Part of the cache's key; raised whenever the same settings would give another model."""
IGNORED = -100
SPECIAL = ("<|pad|>", "<|unknown|>", "<|end|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = r" ?\w+|[^\w\s]"
"""A word with the space before it, or a punctuation mark; joined, they give the text back."""


@dataclass(frozen=True, slots=True)
class Pretraining:
    """Shape and training of the model; with the text, the cache's key."""

    hidden_size: int = 96
    layers: int = 2
    heads: int = 4
    conversations: int = 24_000
    batch_size: int = 64
    epochs: int = 2
    learning_rate: float = 8e-3
    seed: int = 0


def pretrain_base(
    world: World,
    *,
    settings: Pretraining = Pretraining(),  # noqa: B008
    cache: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Folder of a tiny Llama pretrained on the world's text; trained if not in the cache.

    Tastes play no part: the base has not learned what anybody prefers.
    """
    corpus = list(world.corpus(settings.conversations))
    return pretrain(corpus, settings=settings, cache=cache, progress=progress)


def pretrain(
    corpus: Sequence[tuple[str, str]],
    *,
    settings: Pretraining,
    cache: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Folder of a tiny Llama pretrained on prompts with answers; trained if not in the cache.

    The cache is `$XDG_CACHE_HOME/fastslow/bases`, by default in `~/.cache`, keyed by a hash of
    what the model is trained on and how.
    """
    key = hashlib.sha256(json.dumps([FORMAT, corpus, asdict(settings)]).encode()).hexdigest()[:16]
    folder = (cache or default_cache()) / key
    if not (folder / "model.safetensors").exists():
        model, tokenizer = _train(corpus, settings, progress)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as draft:
            model.save_pretrained(str(draft))
            tokenizer.save_pretrained(str(draft))
    return folder


def copy_base(cached: Path, to: Path) -> None:
    """Copy a cached base into its world's folder."""
    with new_folder(to) as draft:
        shutil.copytree(cached, draft, dirs_exist_ok=True)


def default_cache() -> Path:
    """The default cache of bases."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fastslow" / "bases"


def _train(
    corpus: Sequence[tuple[str, str]], settings: Pretraining, progress: Progress
) -> tuple[Any, Any]:
    tokenizer = _tokenizer(corpus)
    rows = [_conversation(tokenizer, *turns) for turns in corpus]
    model = _model(len(tokenizer), settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    generator = torch.Generator().manual_seed(settings.seed)
    total = settings.epochs * math.ceil(len(rows) / settings.batch_size)
    step = 0
    for _ in range(settings.epochs):
        order = torch.randperm(len(rows), generator=generator).tolist()
        for first in range(0, len(order), settings.batch_size):
            batch = [rows[i] for i in order[first : first + settings.batch_size]]
            # Warm up over a twentieth, stay level, decay over the last third: what is learned late,
            # such as following the manner asked for, needs the level part.
            rate = min(1.0, 20 * (step + 1) / total, 3 * (1 - step / total))
            optimizer.param_groups[0]["lr"] = settings.learning_rate * rate
            loss = _loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            progress(step, total)
    return model.eval(), tokenizer


def _tokenizer(corpus: Sequence[tuple[str, str]]) -> PreTrainedTokenizerFast:
    splitter = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    words = {
        word for turns in corpus for text in turns for word, _ in splitter.pre_tokenize_str(text)
    }
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *sorted(words)))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    core.pre_tokenizer = splitter
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        unk_token="<|unknown|>",
        eos_token="<|end|>",
        extra_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _conversation(tokenizer: Any, prompt: str, answer: str) -> tuple[Tensor, Tensor]:
    """Tokens of a conversation, and its targets, IGNORED where nothing is to be predicted."""
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    begins = ids.tolist().index(tokenizer.convert_tokens_to_ids("<|assistant|>")) + 1
    return ids, torch.cat([torch.full((begins,), IGNORED), ids[begins:]])


def _model(vocabulary: int, settings: Pretraining) -> Any:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=settings.hidden_size,
        intermediate_size=2 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return LlamaForCausalLM(config)


def _loss(model: Any, rows: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean negative log-likelihood of the answers' tokens, nats per token."""
    ids = pad_sequence([tokens for tokens, _ in rows], batch_first=True)
    targets = pad_sequence([t for _, t in rows], batch_first=True, padding_value=IGNORED)
    # Padding is on the right, so a causal mask alone hides it.
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORED)
