"""The section of a model card on loading an exported folder.

Code blocks hold no text of the run: the base and the folder are checked ids, or stand-ins.
"""

from pathlib import Path

from fastslow.adapters import at_revision, rank_of
from fastslow.config import Recipe
from fastslow.errors import ConfigError
from fastslow.sampling import RANKS, vllm_room

BASE = "PATH/OF/THE/BASE"
"""Stand-in for a base without a Hub id."""

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
        base: the Hub id of the base, if it has one, at a revision if it has one.
        place: what a reader loads the folder by: a Hub id, or a path.
        merged: whether the folder holds a whole model.
    """
    name, revision = at_revision(base or BASE)
    values = {
        "place": place, "base": name, "revision": f', revision="{revision}"' if revision else "",
        "flag": f" --revision {revision}" if revision else "",
    }  # fmt: skip
    if merged:
        return MERGED.format(**values)
    if recipe.task == "reward":
        return REWARD.format(**values)
    return f"{PEFT.format(**values)}\n{_vllm(folder, values)}"


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
