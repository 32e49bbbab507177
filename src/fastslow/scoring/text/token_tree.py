"""Token trees, and what is left of one within a length limit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Tree:
    """One prompt and k >= 1 responses to it, as token ids."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    scored: tuple[tuple[bool, ...], ...] = ()
    """Of each response's tokens, whether they are scored; empty where all of all are. In a response
    of several turns those of the user and of tools are not."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the row that holds the prompt once and every response."""
        return len(self.prompt) + sum(len(response) for response in self.responses)

    @property
    def longest(self) -> int:
        """Tokens of the prompt with the longest response."""
        return len(self.prompt) + max(map(len, self.responses), default=0)

    @property
    def num_scored(self) -> list[int]:
        """Scored tokens of each response."""
        return [sum(flags) for flags in self.scored] or [len(ids) for ids in self.responses]

    def scored_places(self) -> Iterator[list[int]]:
        """Of each response, the places of its scored tokens."""
        for number, response in enumerate(self.responses):
            flags = self.scored[number] if self.scored else (True,) * len(response)
            yield [place for place, scored in enumerate(flags) if scored]


def truncate(tree: Tree, max_length: int, *, bos_id: int | None = None) -> Tree:
    """The tree with every prompt-plus-response path at most max_length tokens long.

    The prompt loses its oldest tokens first, but keeps half of the room where its responses are
    longer than the other half, as well as a leading `bos_id`, which models rely on. Then all
    responses are truncated to the same length.
    """
    if tree.longest <= max_length:
        return tree
    longest = tree.longest - len(tree.prompt)
    prompt = newest(tree.prompt, max(max_length // 2, max_length - longest), bos_id=bos_id)
    room = max_length - len(prompt)
    return replace(
        tree,
        prompt=prompt,
        responses=tuple(response[:room] for response in tree.responses),
        scored=tuple(flags[:room] for flags in tree.scored),
    )


def newest(ids: tuple[int, ...], room: int, *, bos_id: int | None) -> tuple[int, ...]:
    """The last `room` tokens of a prompt, a leading `bos_id` among them."""
    if len(ids) <= room:
        return ids
    if bos_id is not None and ids[0] == bos_id and room > 1:
        return (bos_id, *ids[len(ids) - room + 1 :])
    return ids[len(ids) - room :]
