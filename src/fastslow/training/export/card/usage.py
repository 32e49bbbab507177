"""How an exported folder is loaded, in the words of a model card.

Blocks of code hold no text of the run: the base and the folder are known ids, or stand-ins.
"""

from pathlib import Path

from fastslow.adapters import at_revision, rank_of
from fastslow.config import Recipe
from fastslow.errors import ConfigError
from fastslow.sampling import RANKS, vllm_room

BASE = "PATH/OF/THE/BASE"
"""Stands for a base that has no id on the Hub."""

PEFT = """\
With PEFT:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{place}")
base = AutoModelForCausalLM.from_pretrained("{base}"{revision})
model = PeftModel.from_pretrained(base, "{place}")
```

With transformers alone, which needs PEFT to be installed:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{place}")
model = AutoModelForCausalLM.from_pretrained("{base}"{revision})
model.load_adapter("{place}")
```
"""
REWARD = """\
With PEFT; the score is the only logit:

```python
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{place}")
base = AutoModelForSequenceClassification.from_pretrained("{base}"{revision}, num_labels=1)
model = PeftModel.from_pretrained(base, "{place}")
```
"""
MERGED = """\
With transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{place}")
model = AutoModelForCausalLM.from_pretrained("{place}")
```

With vLLM:

```sh
vllm serve {place}
```
"""
VLLM = """\
With vLLM, which needs room for rank {rank}:

```sh
vllm serve {base}{flag} --enable-lora --max-lora-rank {room} \\
  --lora-modules adapter={place} --tokenizer {place}
```
"""


def usage(folder: Path, recipe: Recipe, base: str | None, place: str, *, merged: bool) -> str:
    """The section on loading what a folder holds.

    Args:
        folder: with the adapter or the model, and the tokenizer.
        recipe: of the run.
        base: the Hub's id of the base, where it has one, at a revision if it has one.
        place: what a reader gives to load the folder: an id of the Hub, or a path.
        merged: whether the folder holds a whole model.
    """
    name, revision = at_revision(base or BASE)
    known = {
        "place": place, "base": name, "revision": f', revision="{revision}"' if revision else "",
        "flag": f" --revision {revision}" if revision else "",
    }  # fmt: skip
    if merged:
        return MERGED.format(**known)
    if recipe.task == "reward":
        return REWARD.format(**known)
    return f"{PEFT.format(**known)}\n{_vllm(folder, known)}"


def _vllm(folder: Path, known: dict[str, str]) -> str:
    try:
        rank = rank_of(folder)
    except ConfigError:
        return "vLLM loads plain LoRA only, and this adapter is more; merge it into its base.\n"
    room = vllm_room(rank)
    if room is None:
        most = RANKS[-1]
        return f"vLLM loads rank {most} at most, and this is {rank}; merge it into its base.\n"
    return VLLM.format(**known, rank=rank, room=room)
