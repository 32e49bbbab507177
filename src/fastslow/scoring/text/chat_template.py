"""A tokenizer's chat template: turns to text, and whether the text holds what went in.

Templates leave out roles, thoughts and system turns, end turns in their own way, and some write the
date. What a template does is found out once, on a conversation of known words; then every rendered
conversation is compared with its turns.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

from fastslow.errors import ConfigError, EncodingError
from fastslow.records import Message
from fastslow.scoring.text.copied_words import copies_words
from fastslow.scoring.text.frame import Frames
from fastslow.scoring.text.rendered_turns import ADVICE, THOUGHT_END, RenderedTurn, find_turns

QUESTION, ANSWER = "zqxquestion", "zqxanswer"
CLOCK = datetime(2024, 7, 26)
"""What a template that asks for the date is told, so that two runs see the same text."""
RENDERED_TWICE = 8
"""Conversations that are rendered twice, to see that the text is the same."""
THOUGHTS_LOST = "the chat template leaves out thoughts of earlier turns"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt, and the prompt with each response."""

    prompt: str
    conversations: list[str]
    said: list[list[tuple[int, int]]]
    """For each response of several turns, the characters that the assistant says; else nothing."""


class ChatTemplate:
    """The chat template of a tokenizer of transformers.

    Args:
        tokenizer: has a template.
        name: of one of several named templates; None is the default one.
        settings: what the template is given besides the turns, as `enable_thinking`.
        end_ids: tokens that end a turn besides eos; they must not stand in a turn's text.

    Raises ConfigError for a template that cannot be chosen, or is no template.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        end_ids: Iterable[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._settings = dict(settings or {})
        templates = tokenizer.chat_template
        chosen = _chosen(templates, name)
        with_tools = templates.get("tool_use") if isinstance(templates, dict) else None
        self._source = _dated(chosen)
        self._source_with_tools = _dated(chosen if name or with_tools is None else with_tools)
        self._writes_date = "strftime_now" in chosen
        self._to_check = RENDERED_TWICE
        self.end = ""
        """What the template writes after an answer."""
        self._header = ""
        """What it writes between a question and an answer."""
        self._missing_prompt = ""
        """The generation prompt, where the template does not write one itself."""
        self._notes: list[str] = []
        self._thoughts_lost = False
        self._probe()
        self._reserved = self._reserved_tokens(end_ids)
        render = partial(self._render, given={})
        self._frames = Frames(render) if copies_words(self._source) else None

    @property
    def frame(self) -> str:
        """What it writes around every answer, as far as that is known."""
        return self._header + self.end

    def _probe(self) -> None:
        question, answer = Message("user", QUESTION), Message("assistant", ANSWER)
        if self._writes_date:
            self._notes.append(
                f"the chat template writes the date; {CLOCK:%d %b %Y} is written instead of "
                "today's, so that runs agree (data.chat_template_kwargs can give another where "
                "the template takes one)"
            )
        try:
            bare = self._render([question], {})
            opened = self._render([question], {}, generation_prompt=True)
            whole = self._render([question, answer], {})
        except EncodingError:  # It wants other turns; rows will say which.
            return
        if not whole.startswith(bare) or ANSWER not in whole[len(bare) :]:
            return
        self._header, self.end = whole[len(bare) :].split(ANSWER, 1)
        # A space belongs to the answer, as tokenizers attach it to the word that follows.
        header = self._header.rstrip(" ")
        if opened == bare and header.strip():
            self._missing_prompt = header
            self._notes.append(
                f"the chat template has no generation prompt; {header!r}, which it writes before "
                "an answer, is taken"
            )
        elif opened.startswith(bare) and not self._header.startswith(opened[len(bare) :]):
            self._notes.append(
                f"the chat template opens a new answer with {opened[len(bare) :]!r} and a given "
                f"one with {self._header!r}: an answer that does not go on like the former is "
                f"learned after what both share, and sampled after the former{ADVICE}"
            )

    def _reserved_tokens(self, end_ids: Iterable[int]) -> re.Pattern[str] | None:
        """The special tokens that must not come from a turn's text."""
        tokenizer = self._tokenizer
        written = self.frame
        for messages in ([Message("user", QUESTION)], [Message("system", QUESTION)]):
            try:
                written += self._render(messages, {})
            except EncodingError:
                continue
        named = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
        named |= {tokenizer.decode([token]) for token in end_ids}
        named |= {
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special and token.content in written
        }
        found = sorted(re.escape(token) for token in named if token and token.strip())
        return re.compile("|".join(found)) if found else None

    @property
    def notes(self) -> list[str]:
        """What a user should know of this template and what it did so far, a line each."""
        return [*self._notes, *([THOUGHTS_LOST] if self._thoughts_lost else [])]

    def add_notes(self, notes: Sequence[str]) -> None:
        """Take over what the same template did in another process."""
        self._thoughts_lost |= THOUGHTS_LOST in notes

    def uses(self, name: str) -> bool:
        """Whether the template mentions a field or a variable."""
        return name in self._source or name in self._source_with_tools

    def prompt(self, turns: Sequence[Message], given: Mapping[str, Any]) -> str:
        """The turns with a generation prompt. Raises EncodingError where the text lacks one."""
        self._check_content(turns)
        text = self._render(turns, given, generation_prompt=True)
        found = find_turns(text, turns, header=self._header, end=self.end, answers_from=len(turns))
        self._thoughts_lost |= any(turn.thought_lost for turn in found)
        return text + self._missing_prompt

    def conversations(
        self,
        prompt: Sequence[Message],
        responses: Sequence[Sequence[Message]],
        given: Mapping[str, Any],
    ) -> Rendered:
        """The prompt, and the prompt with each response.

        Raises EncodingError where the template refuses them, or a text does not hold its turns.
        """
        if not given and (framed := self._framed(prompt, responses)) is not None:
            return framed
        opened = self.prompt(prompt, given)
        bare = self._render(prompt, given).rstrip()
        texts, said = [], []
        for response in responses:
            self._check_content(response)
            turns = [*prompt, *response]
            text = self._render(turns, given)
            found = find_turns(
                text, turns, header=self._header, end=self.end, answers_from=len(prompt)
            )
            if not text.startswith(bare):
                raise EncodingError(
                    "the chat template writes the prompt in another way once it is answered"
                    + ADVICE
                )
            texts.append(text)
            said.append(_said(found[len(prompt) :], len(text)) if len(response) > 1 else [])
        return Rendered(opened, texts, said)

    def _framed(
        self, prompt: Sequence[Message], responses: Sequence[Sequence[Message]]
    ) -> Rendered | None:
        """As `conversations`, without rendering: None where that takes more than copying words."""
        if self._frames is None or self._to_check or any(len(turns) != 1 for turns in responses):
            return None
        if any(turn.extra or THOUGHT_END in turn.content for turn in chain(prompt, *responses)):
            return None
        roles = tuple(turn.role for turn in prompt)
        opened = self._frames.frame(roles, generation_prompt=True)
        bare, whole = self._frames.frame(roles), self._frames.frame((*roles, "assistant"))
        if opened is None or bare is None or whole is None or not whole.continues(bare):
            return None
        if any(turn.role != "assistant" for (turn,) in responses):
            return None
        for turns in (prompt, *responses):
            self._check_content(turns)
        words = [turn.content for turn in prompt]
        return Rendered(
            opened.around(words) + self._missing_prompt,
            [whole.around([*words, turn.content]) for (turn,) in responses],
            [[] for _ in responses],
        )

    def _check_content(self, turns: Sequence[Message]) -> None:
        for turn in turns:
            if self._reserved and (token := self._reserved.search(turn.content)):
                raise EncodingError(
                    f"the {turn.role} turn holds {token[0]!r}, which the chat template writes; "
                    "texts that were rendered already need data.template: plain"
                )

    def _render(
        self, turns: Sequence[Message], given: Mapping[str, Any], *, generation_prompt: bool = False
    ) -> str:
        messages = [{"role": turn.role, "content": turn.content, **turn.extra} for turn in turns]
        options = {
            **self._settings,
            **given,
            "tokenize": False,
            "add_generation_prompt": generation_prompt,
            "chat_template": self._source_with_tools if given.get("tools") else self._source,
        }
        try:
            text: str = self._tokenizer.apply_chat_template(messages, **options)
            again = text
            if self._to_check:
                self._to_check -= 1
                again = self._tokenizer.apply_chat_template(messages, **options)
        except Exception as error:  # A template is a program; whatever it raises is its refusal.
            raise EncodingError(f"the chat template refuses it: {_first_line(error)}") from None
        if again != text:
            raise ConfigError("the chat template gives another text each time" + ADVICE)
        return text


def _chosen(templates: Any, name: str | None) -> str:
    """The source of the template of that name."""
    if isinstance(templates, str):
        if name is None:
            return templates
        raise ConfigError(
            f"data.template: got {name!r}; the tokenizer has one template without a name, so "
            "allowed are chat and plain"
        )
    chosen = templates.get(name or "default")
    if chosen is None:
        given = f"got {name!r}" if name else "the tokenizer has several, none of them 'default'"
        names = ", ".join(sorted(templates))
        raise ConfigError(f"data.template: {given}; choose one of {names}, or plain")
    return str(chosen)


def _dated(source: str) -> str:
    """The template with CLOCK's date in place of the one of the day."""
    return re.sub(
        r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""",
        lambda call: repr(CLOCK.strftime(call[2])),
        source,
    )


def _said(turns: Sequence[RenderedTurn], length: int) -> list[tuple[int, int]]:
    """Where the assistant speaks. The first turn begins where the prompt ends, the last one ends
    where the text does."""
    spans = []
    for place, turn in enumerate(turns):
        if turn.role == "assistant":
            first = 0 if place == 0 else turn.begin
            spans.append((first, length if place == len(turns) - 1 else turn.end))
    return spans


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
