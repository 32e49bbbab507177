"""Examples to token trees: templates, the boundary between prompt and response, truncation.

The response's tokens begin after the longest token prefix shared by the prompt and by the prompt
with each response, so a merge across the boundary never hides a response token. The end of the turn
is appended once, where the template did not write it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from jinja2 import TemplateError

from fastslow.errors import ConfigError
from fastslow.records import Example, Message, Pair, Text


@dataclass(frozen=True, slots=True)
class Tree:
    """One prompt and k >= 1 responses to it, as token ids."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of the row that holds the prompt once and every response."""
        return len(self.prompt) + sum(len(response) for response in self.responses)


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example ready to be scored; its tree has the responses in their order."""

    example: Example
    tree: Tree
    truncated: bool
    """Whether truncation took tokens."""
    sampled: tuple[float, ...] = ()
    """Of each response, its log-prob under the sampling policy, nats; empty if unknown.
    """
    of_tokens: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """By name, values of each token of each response, as an objective of tokens learns from."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """An example that cannot be scored, and why."""

    example: Example
    reason: str


@dataclass(frozen=True, slots=True)
class _Texts:
    """A prompt, and the prompt with each response."""

    texts: list[str]
    special: bool
    """Whether special tokens are to be added. A chat template writes its own."""


class Encoder:
    """Turns text into token trees with one tokenizer, template and length limit.

    Args:
        tokenizer: of transformers; its chat template is used where it has one.
        max_length: longest prompt plus response, in tokens.
        template: `plain` never uses the chat template on text.
        end_ids: further tokens that end a turn, such as the model's generation settings name.

    Raises ConfigError when the tokenizer has no end-of-turn token.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        template: str = "chat",
        end_ids: Sequence[int] = (),
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no end-of-turn token; set eos_token in its tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.end_ids = frozenset({tokenizer.eos_token_id, *end_ids})
        self._has_template = bool(tokenizer.chat_template)
        self._template_for_text = template == "chat" and self._has_template

    def encode(self, example: Example) -> Encoded | Dropped:
        """The example's token tree within the length limit, or why there is none.

        Raises ConfigError for a conversation when the tokenizer has no chat template.
        """
        return self.encode_all([example])[0]

    def encode_all(self, examples: Sequence[Example]) -> list[Encoded | Dropped]:
        """As `encode`, of each. They are tokenised together, which uses all cores."""
        asked: list[_Texts] = []
        found: list[Encoded | Dropped | None] = []
        for example in examples:
            try:
                asked.append(self._texts(example.prompt, example.responses))
                found.append(None)
            except TemplateError as error:
                found.append(Dropped(example, f"the chat template refuses it: {error}"))
        rows = iter(self._tokenize(asked))
        return [
            dropped or self._encoded(example, self._tree(next(rows), example.truncated))
            for example, dropped in zip(examples, found, strict=True)
        ]

    def _encoded(self, example: Example, tree: Tree) -> Encoded | Dropped:
        if not tree.prompt:
            return Dropped(example, "the prompt has no tokens")
        if not all(tree.responses):
            return Dropped(example, "a response has no tokens")
        kept = truncate(tree, self.max_length, bos_id=self.tokenizer.bos_token_id)
        if len(set(kept.responses)) < len(kept.responses):
            same = "after truncation" if kept != tree else "as tokens"
            return Dropped(example, f"{_named(example)} are identical {same}")
        return Encoded(example, kept, truncated=kept != tree)

    def tree(self, prompt: Text, responses: Sequence[Text], truncated: Sequence[bool] = ()) -> Tree:
        """The token tree of a prompt and its responses, not truncated.

        A truncated response gets no end-of-turn token.
        """
        (rows,) = self._tokenize([self._texts(prompt, responses)])
        return self._tree(rows, truncated)

    def _tree(self, rows: list[list[int]], truncated: Sequence[bool]) -> Tree:
        prompt_ids, *full_ids = rows
        boundary = _shared_prefix([prompt_ids, *full_ids])
        return Tree(
            prompt=tuple(prompt_ids[:boundary]),
            responses=tuple(
                self._end_turn(ids[boundary:], truncated=cut)
                for ids, cut in zip(full_ids, truncated or [False] * len(full_ids), strict=True)
            ),
        )

    def conversations(self, prompt: Text, responses: Sequence[Text]) -> list[list[int]]:
        """The tokens of the prompt with each response, within the length limit."""
        bos_id = self.tokenizer.bos_token_id
        trees = (self.tree(prompt, [response]) for response in responses)
        kept = (truncate(tree, self.max_length, bos_id=bos_id) for tree in trees)
        return [[*tree.prompt, *tree.responses[0]] for tree in kept]

    def prompt_ids(self, prompt: Text, *, room: int) -> tuple[int, ...]:
        """The tokens a model is given to answer the prompt, the newest that leave room to answer.

        Raises ConfigError when `room` tokens of answer leave no prompt within max_length.
        """
        if room >= self.max_length:
            raise ConfigError(
                f"completions of {room} tokens leave no room for a prompt in max_length = "
                f"{self.max_length}"
            )
        ((ids,),) = self._tokenize([self._texts(prompt, ())])
        bos_id = self.tokenizer.bos_token_id
        return _newest(tuple(ids), self.max_length - room, bos_id=bos_id)

    def _texts(self, prompt: Text, responses: Sequence[Text]) -> _Texts:
        plain = isinstance(prompt, str) and all(isinstance(r, str) for r in responses)
        if isinstance(prompt, str) and plain and not self._template_for_text:
            texts = [prompt, *(f"{prompt}{response}" for response in responses)]
            bos = self.tokenizer.bos_token
            return _Texts(texts, special=not (bos and prompt.startswith(bos)))
        if not self._has_template:
            raise ConfigError(
                "the data holds conversations but the tokenizer has no chat template; add "
                "chat_template.jinja to the model folder, or give prompts and responses as text"
            )
        turns = _as_turns(prompt, "user")
        texts = [self._render(turns, add_generation_prompt=True)]
        for response in responses:
            texts.append(self._render(turns + _as_turns(response, "assistant")))
        return _Texts(texts, special=False)

    def _render(self, turns: tuple[Message, ...], add_generation_prompt: bool = False) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def _tokenize(self, asked: Sequence[_Texts]) -> list[list[list[int]]]:
        """The tokens of each text of each."""
        found: dict[int, list[list[int]]] = {}
        for special in (False, True):
            own = {place: one.texts for place, one in enumerate(asked) if one.special == special}
            if not own:
                continue
            ids = self.tokenizer(
                list(chain.from_iterable(own.values())),
                add_special_tokens=special,
                return_attention_mask=False,
                verbose=False,
            )["input_ids"]
            rows = iter(ids)
            found |= {place: list(islice(rows, len(texts))) for place, texts in own.items()}
        return [self._unclosed(found[place], one) for place, one in enumerate(asked)]

    def _unclosed(self, ids: list[list[int]], asked: _Texts) -> list[list[int]]:
        """Some tokenizers close every text; the prompt is not closed where the response begins."""
        closed = (
            asked.special
            and len(ids[0]) > 1
            and ids[0][-1] == self.tokenizer.eos_token_id
            and not asked.texts[0].endswith(self.tokenizer.eos_token)
        )
        return [row[:-1] for row in ids] if closed else ids

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


def truncate(tree: Tree, max_length: int, *, bos_id: int | None = None) -> Tree:
    """The tree with every prompt-plus-response path at most max_length tokens long.

    The prompt loses its oldest tokens first, but keeps its last one, which predicts the first
    response token, and a leading `bos_id`, which models rely on. Then all responses are truncated
    to the same length.
    """
    longest = max(len(response) for response in tree.responses)
    if len(tree.prompt) + longest <= max_length:
        return tree
    prompt = _newest(tree.prompt, max(1, max_length - longest), bos_id=bos_id)
    room = max_length - len(prompt)
    return Tree(prompt, tuple(response[:room] for response in tree.responses))


def _newest(ids: tuple[int, ...], room: int, *, bos_id: int | None) -> tuple[int, ...]:
    if len(ids) <= room:
        return ids
    if bos_id is not None and ids[0] == bos_id and room > 1:
        return (bos_id, *ids[len(ids) - room + 1 :])
    return ids[len(ids) - room :]


def _shared_prefix(sequences: list[list[int]]) -> int:
    length = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length


def _as_turns(text: Text, role: str) -> tuple[Message, ...]:
    return (Message(role, text),) if isinstance(text, str) else text
