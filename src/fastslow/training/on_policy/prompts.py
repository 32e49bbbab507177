"""Selects the prompts that can be encoded; the others are skipped and counted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from fastslow.config import AnswerConfig, Recipe
from fastslow.errors import EncodingError
from fastslow.records import Prompt
from fastslow.scoring import Encoder
from fastslow.training.data.batch_reader import (
    ENOUGH_PAIRS,
    MAX_SKIPPED,
    REMOVE_ROWS,
    SHOWN,
    too_many_skipped,
)
from fastslow.training.data.dataset import prompt_stream


@dataclass(slots=True)
class PromptFilter:
    """Passes on the prompts that can be encoded.

    Args:
        room: tokens of the longest completion.
        uncut: True if prompts must fit without truncation: an engine reads whole ones, so it would
            complete a different prompt from the one learned from.
    """

    encoder: Encoder
    room: int
    uncut: bool = False
    kept: int = 0
    dropped: int = 0
    shown: tuple[str, ...] = ()
    """The first few dropped prompts, as `file:row: reason`."""

    def askable(self, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
        """The prompts that can be encoded. Raises DataError if more than a tenth cannot."""
        for prompt in prompts:
            if reason := self._fault(prompt):
                self._drop(prompt, reason)
            else:
                self.kept += 1
                yield prompt
        self._check(1)

    def _fault(self, prompt: Prompt) -> str | None:
        try:
            ids = self.encoder.prompt_ids_of(prompt, room=self.room)
        except EncodingError as error:
            return str(error)
        if not ids:
            return "the prompt has no tokens"
        most = self.encoder.max_length - self.room
        if self.uncut and (length := self.encoder.prompt_length(prompt)) > most:
            return (
                f"the prompt has {length} tokens; an engine reads whole prompts, and "
                f"data.max_length leaves {most} beside the answer"
            )
        return None

    def _drop(self, prompt: Prompt, reason: str) -> None:
        self.dropped += 1
        if len(self.shown) < SHOWN:
            self.shown += (f"{prompt.source}: {reason}",)
        self._check(ENOUGH_PAIRS)

    def _check(self, enough: int) -> None:
        """Raise DataError if more than a tenth of the prompts are dropped.

        Early on, a single one is a large share, so at least `enough` prompts count as seen.
        """
        total = self.kept + self.dropped
        if self.dropped > MAX_SKIPPED * max(total, enough):
            raise too_many_skipped(self.dropped, total, self.shown, [REMOVE_ROWS], what="prompts")

    def state(self) -> dict[str, Any]:
        """The counts, as JSON."""
        return {"kept": self.kept, "dropped": self.dropped, "shown": list(self.shown)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore counts that `state()` returned."""
        self.kept, self.dropped = state["kept"], state["dropped"]
        self.shown = tuple(state["shown"])


def askable_prompts(
    recipe: Recipe, answers: AnswerConfig, encoder: Encoder
) -> tuple[list[Prompt], list[str]]:
    """All prompts of a section that can be encoded, and a warning that counts the others.

    Raises DataError if the others are more than a tenth.
    """
    usable = PromptFilter(encoder, answers.max_new_tokens, uncut=answers.engine is not None)
    prompts = list(usable.askable(cast(Iterable[Prompt], prompt_stream(recipe, answers, epochs=1))))
    if not usable.dropped:
        return prompts, []
    start = f"{usable.dropped} of {usable.dropped + usable.kept} prompts are not asked: "
    return prompts, [start + "; ".join(usable.shown)]
