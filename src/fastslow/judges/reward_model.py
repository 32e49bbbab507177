"""A reward model as the judge: any sequence classifier, as `fastslow train-reward` makes one."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from fastslow.atomic_io import file_hash
from fastslow.config import load_recipe
from fastslow.errors import ConfigError, EncodingError, JudgeError
from fastslow.foreign_files import check_no_links, inside, misfit, read_json
from fastslow.judges.base import Judge, Judgement, JudgeRequest, scored
from fastslow.records import plain_text

SHORT = 8
"""Length of a row that is short for any model, in tokens."""


class RewardModelJudge(Judge):
    """Scores with a classifier: by its one label, or by the log-odds of the second of two.

    Args:
        folder: a finished run of a reward model, a PEFT folder, a model folder or a hub id.
        template: `chat` writes prompt and answer with the tokenizer's chat template, `plain` joins
            them; a tokenizer without an end of text takes them as its pair of texts.
        max_length: longest prompt plus answer, in tokens; prompts lose their oldest tokens.
        batch_size: answers scored at once.
        device: `cpu`, or `auto` for a GPU where there is one.

    A run's folder brings its own model, template and length. Raises ConfigError if there is no
    such model.
    """

    def __init__(
        self,
        folder: str,
        *,
        template: str,
        max_length: int,
        batch_size: int,
        device: str = "auto",
    ) -> None:
        import torch

        from fastslow.adapters import load_reward_model
        from fastslow.scoring import Encoder, longest_decides

        base = None
        if (Path(folder) / "config.yaml").exists():
            folder, base, template, max_length = _of_run(Path(folder))
        on_gpu = device != "cpu" and torch.cuda.is_available()
        self._model, self._tokenizer = load_reward_model(
            folder, base=base, device=torch.device("cuda" if on_gpu else "cpu")
        )
        self._max_length, self._batch_size = max_length, batch_size
        bare = self._model.get_base_model() if hasattr(self._model, "peft_config") else self._model
        self._one_length = longest_decides(bare, near=SHORT, far=max_length)
        self._encoder = (
            Encoder(
                self._tokenizer,
                max_length=max_length,
                template=template,
                num_embeddings=self._model.get_input_embeddings().weight.shape[0],
            )
            if self._tokenizer.eos_token_id is not None
            else None
        )
        weights = sorted(Path(folder).glob("*.safetensors"))
        hashes = " ".join(file_hash(path)[:12] for path in weights)
        self._name = f"reward model {folder} {hashes}".strip()

    @property
    def name(self) -> str:
        return self._name

    def judge(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        rows = [row for request in asked for row in self._rows(request)]
        scores = [0.0] * len(rows)
        for places in self._batches(rows):
            batch_scores = self._score([rows[place] for place in places])
            for place, score in zip(places, batch_scores, strict=True):
                scores[place] = score
        each = iter(scores)
        return [scored([next(each) for _ in request.answers]) for request in asked]

    def _batches(self, rows: Sequence[list[int]]) -> Iterator[list[int]]:
        """Places of rows to score at once: of similar lengths, or of equal length where the longest
        row decides how the model reads the others."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        length = (lambda place: len(rows[place])) if self._one_length else (lambda _: 0)
        for _, group in groupby(order, key=length):
            places = list(group)
            for first in range(0, len(places), self._batch_size):
                yield places[first : first + self._batch_size]

    def _rows(self, asked: JudgeRequest) -> list[list[int]]:
        """Each answer with its prompt, in tokens."""
        if self._encoder is None:
            ids: list[list[int]] = self._tokenizer(
                [plain_text(asked.prompt)] * len(asked.answers),
                list(asked.answers),
                truncation=True,
                max_length=self._max_length,
            )["input_ids"]
            return ids
        try:
            return self._encoder.conversations(asked.prompt, asked.answers)
        except EncodingError as error:
            raise JudgeError(f"{self._name} cannot read a prompt: {error}") from None

    def _score(self, rows: Sequence[list[int]]) -> list[float]:
        import torch

        width = max(map(len, rows))
        pad = self._pad_id(rows)
        device = self._model.get_input_embeddings().weight.device
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows], device=device)
        with torch.no_grad():
            logits = self._model(input_ids=ids, attention_mask=mask).logits.float()
        scores: list[float] = (
            logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        ).tolist()
        if not all(map(math.isfinite, scores)):
            raise JudgeError(f"{self._name} gave a score that is no finite number")
        return scores

    def _pad_id(self, rows: Sequence[list[int]]) -> int:
        """The token that pads rows.

        Decoders find a row's last token as the last that is not padding. This fails where the end
        of a turn is also the padding token, so their padding is a token that no row contains.
        """
        if self._encoder is None:
            return int(self._tokenizer.pad_token_id or 0)
        used = {token for row in rows for token in row}
        free = next(token for token in range(len(used) + 1) if token not in used)
        self._model.config.get_text_config().pad_token_id = free
        return free


def folders_of(folder: str) -> list[str]:
    """The folders of the weights: a model's, or an adapter's and its base's."""
    base = None
    if (Path(folder) / "config.yaml").exists():
        folder, base, _, _ = _of_run(Path(folder))
    adapter = Path(folder) / "adapter_config.json"
    if base is None and adapter.exists():
        base = read_json(adapter, dict[str, Any]).get("base_model_name_or_path")
    return [folder, base] if base else [folder]


def _of_run(run: Path) -> tuple[str, str, str, int]:
    """Adapter, base, template and length of a finished run of a reward model."""
    recipe = load_recipe(run / "config.yaml")
    if recipe.task != "reward":
        raise ConfigError(
            f"judge.folder: the run in {run} trained a policy; judges need a run of "
            "fastslow train-reward"
        )
    if not (run / "summary.json").exists():
        raise ConfigError(f"judge.folder: the run in {run} is not finished; run its command again")
    summary = read_json(run / "summary.json", dict[str, Any], error=ConfigError)
    leader, adapters = summary.get("leader"), summary.get("adapters")
    if fault := misfit(leader, str, "leader") or misfit(adapters, dict[str, str], "adapters"):
        raise ConfigError(f"judge.folder: {run / 'summary.json'} is damaged: {fault}; restore it")
    if leader not in adapters:
        raise ConfigError(f"judge.folder: {run / 'summary.json'} names no adapter {leader!r}")
    adapter = inside(run, adapters[leader])
    check_no_links(adapter)
    return str(adapter), recipe.model, recipe.data.template, recipe.data.max_length
