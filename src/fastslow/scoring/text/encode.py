"""Examples to token trees: templates, the boundary between prompt and response, truncation.

The response's tokens begin after the longest token prefix shared by the prompt and by the prompt
with each response, so a merge across the boundary never hides a response token. The end of the turn
is appended once, where the template did not write it. In a response of several turns only what the
assistant says is scored.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from fastslow.errors import ConfigError, EncodingError
from fastslow.records import Example, Pair, Prompt, Text
from fastslow.scoring.text.chat_template import ChatTemplate
from fastslow.scoring.text.pieces import Pieces
from fastslow.scoring.text.token_tree import Tree, newest, truncate
from fastslow.scoring.text.tokens import (
    TextIds,
    Texts,
    tokenize,
    tokenize_each,
    without_embedding,
)
from fastslow.transcripts import assistant_spans, conversation


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example ready to be scored; its tree has the responses in their order."""

    example: Example
    tree: Tree
    truncated: bool
    """Whether truncation took tokens."""
    prompt_truncated: bool = False
    """Whether it took tokens of the prompt."""
    full_length: int = 0
    """Tokens of the prompt with its longest response before truncation."""
    sampled: tuple[float, ...] = ()
    """Of each response, its log-prob under the sampling policy, nats; empty if unknown.
    """
    of_tokens: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """By name, values of each token of each response, as an objective of tokens learns from."""

    @property
    def is_tie(self) -> bool:
        """Whether it is a pair without a preference."""
        return isinstance(self.example, Pair) and self.example.is_tie


@dataclass(frozen=True, slots=True)
class Dropped:
    """An example that cannot be scored, and why."""

    example: Example
    reason: str


class Encoder:
    """Turns text into token trees with one tokenizer, template and length limit.

    Args:
        tokenizer: of transformers; its chat template is used where it has one.
        max_length: longest prompt plus response, in tokens.
        template: `plain` never uses the chat template on text; `chat` does; or the name of one of
            several templates.
        end_ids: further tokens that end a turn, such as the model's generation settings name.
        template_settings: what the chat template is given besides the turns.
        num_embeddings: rows of the model's embedding; tokens beyond them cannot be used.

    Raises ConfigError when the tokenizer has no end-of-turn token, or no such template, or when the
    model has no embedding for the tokens that open and end an answer.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        template: str = "chat",
        end_ids: Sequence[int] = (),
        template_settings: Mapping[str, Any] | None = None,
        num_embeddings: int | None = None,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no end-of-turn token; set eos_token in its tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.end_ids = frozenset({tokenizer.eos_token_id, *end_ids})
        self._template: ChatTemplate | None = None
        # Of several templates none has to be chosen for plain text.
        several = isinstance(tokenizer.chat_template, dict) and template == "plain"
        if tokenizer.chat_template and not several:
            self._template = ChatTemplate(
                tokenizer,
                name=None if template in ("chat", "plain") else template,
                settings=template_settings,
                end_ids=end_ids,
            )
            self.end_ids |= self._single_token(self._template.end)
        self._for_text = None if template == "plain" else self._template
        self._num_embeddings = num_embeddings
        self._pieces = Pieces(tokenizer)
        self._check_frame()

    def _check_frame(self) -> None:
        """Whether the model knows the tokens around every answer."""
        ids = [self.tokenizer.eos_token_id]
        if self._for_text is not None:
            ids += self.tokenizer(self._for_text.frame, add_special_tokens=False)["input_ids"]
        if fault := without_embedding(self.tokenizer, ids, self._num_embeddings):
            raise ConfigError(
                f"model: {fault}, but it opens or ends every answer; resize the embedding "
                "(model.resize_token_embeddings(len(tokenizer))) and train it first, or give the "
                "tokenizer that belongs to the model"
            )

    def _single_token(self, text: str) -> set[int]:
        """The token that a text is, if it is one special token."""
        ids = self.tokenizer(text.strip(), add_special_tokens=False)["input_ids"]
        return (
            set(ids) if len(ids) == 1 and ids[0] in self.tokenizer.added_tokens_decoder else set()
        )

    @property
    def notes(self) -> list[str]:
        """What a user should know of the template and what it did so far, a line each."""
        return self._template.notes if self._template else []

    def add_notes(self, notes: Sequence[str]) -> None:
        """Take over notes of an encoder of the same template in another process."""
        if self._template:
            self._template.add_notes(notes)

    def warnings(self, examples: Sequence[Example]) -> list[str]:
        """What a user should know of the template and of what it makes of the examples."""
        for example in examples:
            with suppress(EncodingError):  # Such an example is skipped, with its reason.
                self._texts(example.prompt, example.responses, example.template_kwargs)
        unused = self.unused_fields(examples)
        fields = [f"the chat template does not use: {', '.join(unused)}"] if unused else []
        return [*self.notes, *fields]

    def unused_fields(self, examples: Iterable[Example]) -> list[str]:
        """Names of what the examples hold for the chat template, which it does not use."""
        if self._template is None:
            return []
        names = dict.fromkeys(chain.from_iterable(_template_fields(one) for one in examples))
        return [name for name in names if not self._template.uses(name)]

    def encode(self, example: Example) -> Encoded | Dropped:
        """The example's token tree within the length limit, or why there is none.

        Raises ConfigError for a conversation when the tokenizer has no chat template.
        """
        return self.encode_all([example])[0]

    def encode_all(self, examples: Sequence[Example]) -> list[Encoded | Dropped]:
        """As `encode`, of each. They are tokenised together, which uses all cores."""
        asked: list[Texts] = []
        found: list[Dropped | None] = []
        for example in examples:
            try:
                asked.append(
                    self._texts(example.prompt, example.responses, example.template_kwargs)
                )
                found.append(None)
            except EncodingError as error:
                found.append(Dropped(example, str(error)))
        each = tokenize_each(
            self.tokenizer, asked, pieces=self._pieces, num_embeddings=self._num_embeddings
        )
        rows = iter(each)
        return [
            dropped or self._encoded(example, next(rows))
            for example, dropped in zip(examples, found, strict=True)
        ]

    def _encoded(self, example: Example, ids: TextIds | str) -> Encoded | Dropped:
        if isinstance(ids, str):
            return Dropped(example, ids)
        tree = self._tree(ids, example.truncated)
        if not tree.prompt:
            return Dropped(example, "the prompt has no tokens")
        if not all(tree.responses):
            return Dropped(example, "a response has no tokens")
        kept = self._truncate(tree)
        cut = f"after truncation to data.max_length = {self.max_length}; raise it"
        if not all(kept.num_scored):
            return Dropped(example, f"nothing that the assistant says is left {cut}")
        if len(set(kept.responses)) < len(kept.responses):
            same = cut if kept != tree else "as tokens"
            return Dropped(example, f"{_named(example)} are identical {same}")
        return Encoded(
            example,
            kept,
            truncated=kept != tree,
            prompt_truncated=kept.prompt != tree.prompt,
            full_length=tree.longest,
        )

    def _truncate(self, tree: Tree) -> Tree:
        return truncate(tree, self.max_length, bos_id=self.tokenizer.bos_token_id)

    def tree(
        self,
        prompt: Text,
        responses: Sequence[Text],
        truncated: Sequence[bool] = (),
        *,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Tree:
        """The token tree of a prompt and its responses, not truncated.

        A truncated response gets no end-of-turn token. Raises EncodingError.
        """
        ids = self._tokenize(self._texts(prompt, responses, template_kwargs or {}))
        return self._tree(ids, truncated)

    def _tree(self, ids: TextIds, truncated: Sequence[bool]) -> Tree:
        _, *full_ids = ids.rows
        boundary = _shared_prefix(ids.rows)
        cuts = truncated or [False] * len(full_ids)
        responses = [
            self._end_turn(row[boundary:], truncated=cut)
            for row, cut in zip(full_ids, cuts, strict=True)
        ]
        scored: list[tuple[bool, ...]] = []
        if any(ids.scored):
            for response, flags in zip(responses, ids.scored, strict=True):
                known = flags[boundary:][: len(response)]
                # What is not in the text is an end of turn that was appended.
                scored.append((*known, *(True,) * (len(response) - len(known))))
        return Tree(tuple(ids.rows[0][:boundary]), tuple(responses), tuple(scored))

    def conversations(
        self,
        prompt: Text,
        responses: Sequence[Text],
        *,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[list[int]]:
        """The tokens of the prompt with each response, within the length limit.

        Raises EncodingError.
        """
        kept = [
            self._truncate(self.tree(prompt, [response], template_kwargs=template_kwargs))
            for response in responses
        ]
        return [[*tree.prompt, *tree.responses[0]] for tree in kept]

    def prompt_ids(
        self, prompt: Text, *, room: int, template_kwargs: Mapping[str, Any] | None = None
    ) -> tuple[int, ...]:
        """The tokens a model is given to answer the prompt, the newest that leave room to answer.

        Raises ConfigError when `room` tokens of answer leave no prompt within max_length, and
        EncodingError when the prompt cannot be encoded as it is.
        """
        if room >= self.max_length:
            raise ConfigError(
                f"completions of {room} tokens leave no room for a prompt in max_length = "
                f"{self.max_length}"
            )
        ids = self._tokenize(self._texts(prompt, (), template_kwargs or {}))
        bos_id = self.tokenizer.bos_token_id
        return newest(tuple(ids.rows[0]), self.max_length - room, bos_id=bos_id)

    def prompt_ids_of(self, asked: Example | Prompt, *, room: int) -> tuple[int, ...]:
        """As `prompt_ids`, of an example's prompt with what its chat template is given."""
        return self.prompt_ids(asked.prompt, room=room, template_kwargs=asked.template_kwargs)

    def whole_prompt_ids_of(self, asked: Example | Prompt) -> tuple[int, ...]:
        """The tokens of a whole prompt, whatever the limit is. Raises as `prompt_ids`."""
        texts = self._texts(asked.prompt, (), asked.template_kwargs or {})
        return tuple(self._tokenize(texts).rows[0])

    def prompt_length(self, asked: Example | Prompt) -> int:
        """How many tokens a whole prompt has. Raises as `prompt_ids`."""
        return len(self.whole_prompt_ids_of(asked))

    def _tokenize(self, texts: Texts) -> TextIds:
        (ids,) = tokenize(
            self.tokenizer, [texts], pieces=self._pieces, num_embeddings=self._num_embeddings
        )
        return ids

    def _texts(
        self, prompt: Text, responses: Sequence[Text], template_kwargs: Mapping[str, Any]
    ) -> Texts:
        plain = isinstance(prompt, str) and all(isinstance(r, str) for r in responses)
        if isinstance(prompt, str) and plain and self._for_text is None:
            return self._plain_texts(prompt, [str(response) for response in responses])
        if self._template is None:
            raise ConfigError(
                "the data holds conversations but the tokenizer has no chat template; add "
                "chat_template.jinja to the model folder, or give prompts and responses as text"
            )
        turns, answers = conversation(prompt, responses)
        if not responses:
            return Texts([self._template.prompt(turns, template_kwargs)], False, [])
        rendered = self._template.conversations(turns, answers, template_kwargs)
        return Texts([rendered.prompt, *rendered.conversations], False, rendered.said)

    def _plain_texts(self, prompt: str, responses: Sequence[str]) -> Texts:
        texts = [prompt, *(f"{prompt}{response}" for response in responses)]
        bos = self.tokenizer.bos_token
        said = [assistant_spans(prompt, text) for text in texts[1:]]
        return Texts(texts, not (bos and prompt.startswith(bos)), said)

    def _end_turn(self, ids: list[int], *, truncated: bool) -> tuple[int, ...]:
        """The response closed by exactly one end-of-turn token, or by none if it is truncated."""
        end = len(ids)
        while end and self._is_blank(ids[end - 1]):
            end -= 1
        closed = end > 0 and ids[end - 1] in self.end_ids
        if truncated:
            return tuple(ids[: end - 1] if closed else ids)
        return tuple(ids[:end]) if closed else (*ids, self.tokenizer.eos_token_id)

    def _is_blank(self, token: int) -> bool:
        return token not in self.end_ids and not self.tokenizer.decode([token]).strip()


def _named(example: Example) -> str:
    return "chosen and rejected" if isinstance(example, Pair) else "two of the responses"


def _shared_prefix(sequences: list[list[int]]) -> int:
    first, *others = sequences
    length = min(map(len, sequences))
    for other in others:
        if first[:length] != other[:length]:
            length = next(at for at, (a, b) in enumerate(zip(first, other, strict=False)) if a != b)
    return length


def _template_fields(example: Example) -> Iterator[str]:
    for text in (example.prompt, *example.responses):
        for turn in () if isinstance(text, str) else text:
            yield from turn.extra
    yield from example.template_kwargs
