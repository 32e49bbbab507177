"""Completions of a policy to prompts, and the examples they become once they are judged."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from fastslow.config import AnswerConfig, SamplingConfig
from fastslow.errors import EncodingError, ReplyError
from fastslow.judges import Judgement, JudgeRequest
from fastslow.records import Example, Pair, Prompt, Ranking, Text
from fastslow.sampling import Completion, Engine, EngineCompletion
from fastslow.scoring import Encoder, Tree, truncate
from fastslow.training.data.serialization import example_from_json, to_tuples
from fastslow.training.distributed.messages import Codec, list_of
from fastslow.training.policies.policies import Policies, in_passes

LISTWISE = ("rankings", "tokens", "demonstrations")
"""Kinds of objectives that learn from a list of completions as it is."""
RETOKENISED = 4
"""Most tokens that the text of one sampled token becomes when it is tokenised again: a byte that is
no character comes back as one of three bytes."""
OTHER_PROMPT = (
    "{engine} counts other prompt tokens than this process; where it serves another chat template "
    "or tokenizer, its completions are not those of the policy that is trained"
)


@dataclass(frozen=True, slots=True)
class CompletionGroup:
    """A prompt with its completions."""

    prompt: Prompt
    """Its domain, weight and provenance are the completions'."""
    texts: tuple[str, ...]
    tree: Tree
    """The very tokens."""
    truncated: tuple[bool, ...]
    """For each, whether it was cut by the length limit."""
    logps: tuple[float, ...] = ()
    """Of each under the policy at the temperature of sampling, nats; empty where not known."""
    token_logps: tuple[tuple[float, ...], ...] = ()
    """Of each token of each, nats."""

    @property
    def request(self) -> JudgeRequest:
        """What a judge is asked."""
        return JudgeRequest(self.prompt.prompt, self.texts)

    def subset(self, places: Sequence[int]) -> "CompletionGroup":
        """The completions at some places, before their log-probs are known."""
        responses = tuple(self.tree.responses[place] for place in places)
        return replace(
            self,
            texts=tuple(self.texts[place] for place in places),
            tree=Tree(self.tree.prompt, responses),
            truncated=tuple(self.truncated[place] for place in places),
        )


def _group_of(sent: Mapping[str, Any]) -> CompletionGroup:
    rest = {name: value for name, value in sent.items() if name not in ("prompt", "tree")}
    return CompletionGroup(
        prompt=example_from_json(Prompt, sent["prompt"]),
        tree=Tree(**to_tuples(sent["tree"])),
        **to_tuples(rest),
    )


GROUP: Codec[CompletionGroup] = Codec(asdict, _group_of)


def sample(
    policies: Policies,
    name: str,
    encoder: Encoder,
    config: SamplingConfig,
    ids: Sequence[tuple[int, ...]],
    *,
    seed: int,
    top_p: float = 1.0,
) -> list[list[Completion]]:
    """The named policy's completions of prompts in tokens, with a recipe section's settings."""
    return policies.generate(
        name,
        ids,
        end_ids=sorted(encoder.end_ids),
        max_new_tokens=config.max_new_tokens,
        seed=seed,
        temperature=config.temperature,
        top_p=top_p,
        num_generations=config.num_generations,
    )


def text_of(completion: Completion, encoder: Encoder) -> str:
    """The decoded completion without special tokens."""
    text: str = encoder.tokenizer.decode(completion.tokens, skip_special_tokens=True)
    return text


def generate_groups(
    policies: Policies,
    name: str,
    encoder: Encoder,
    config: AnswerConfig,
    prompts: Sequence[Prompt],
    *,
    seed: int,
    engine: Engine | None = None,
) -> list[CompletionGroup]:
    """Different completions of the named policy to prompts, with its log-probs of them.

    Prompts with fewer than two different completions are skipped. An `engine` generates instead,
    if it has the policy's module loaded.
    """
    if engine is None:
        groups = generate_local(policies, name, encoder, config, prompts, seed=seed)
    else:
        groups = policies.processes.broadcast_from_main(
            lambda: generate_with_engine(engine, encoder, config, prompts, seed=seed),
            list_of(GROUP),
        )
    return with_logps(policies, name, drop_duplicates(groups), temperature=config.temperature)


def generate_local(
    policies: Policies,
    name: str,
    encoder: Encoder,
    config: AnswerConfig,
    prompts: Sequence[Prompt],
    *,
    seed: int,
) -> list[CompletionGroup]:
    """The named policy's completions of each prompt, as they came."""
    room = config.max_new_tokens
    ids = [encoder.prompt_ids_of(row, room=room) for row in prompts]
    sampled = sample(policies, name, encoder, config, ids, seed=seed, top_p=config.top_p)
    return [
        CompletionGroup(
            prompt=prompt,
            texts=tuple(text_of(completion, encoder) for completion in completions),
            tree=Tree(prompt_ids, tuple(completion.tokens for completion in completions)),
            truncated=tuple(completion.truncated for completion in completions),
        )
        for prompt, prompt_ids, completions in zip(prompts, ids, sampled, strict=True)
    ]


def generate_with_engine(
    engine: Engine,
    encoder: Encoder,
    config: AnswerConfig,
    prompts: Sequence[Prompt],
    *,
    seed: int,
    logps: bool = False,
) -> list[CompletionGroup]:
    """An engine's completions of each prompt, in its tokens where it says them, or tokenised here;
    needs no model.

    With `logps` they have the log-probs that the engine sampled them with, at temperature 1. Raises
    UnreachableError. Warns once of an engine that reads other prompts than this process.
    """
    replies = engine.generate(
        [row.prompt for row in prompts],
        count=config.num_generations,
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        seed=seed,
        template_kwargs=[row.template_kwargs for row in prompts],
        logps=logps,
    )
    groups = [
        _group_of_engine(engine, encoder, prompt, completions, config.max_new_tokens)
        for prompt, completions in zip(prompts, replies, strict=True)
    ]
    if not logps:
        return groups
    return [
        _with_engine_logps(engine, group, completions)
        for group, completions in zip(groups, replies, strict=True)
    ]


def _group_of_engine(
    engine: Engine,
    encoder: Encoder,
    prompt: Prompt,
    completions: Sequence[EngineCompletion],
    max_new_tokens: int,
) -> CompletionGroup:
    texts = tuple(completion.text for completion in completions)
    # One that was truncated before any text has no token but the end of the turn.
    cut = tuple(completion.truncated and bool(completion.text) for completion in completions)
    read = encoder.prompt_ids_of(prompt, room=max_new_tokens)
    if completions[0].prompt_tokens not in (0, len(read)):
        warnings.warn(OTHER_PROMPT.format(engine=engine.name), FutureWarning, stacklevel=2)
    if all(_says_tokens(completion, encoder) for completion in completions):
        cut = tuple(completion.truncated for completion in completions)
        responses = tuple(completion.tokens for completion in completions)
        if max(map(len, responses)) > max_new_tokens:
            raise _too_long(engine, max(map(len, responses)), max_new_tokens)
        return CompletionGroup(prompt, texts, Tree(read, responses), cut)
    try:
        tree = encoder.tree(prompt.prompt, texts, cut, template_kwargs=prompt.template_kwargs)
    except EncodingError as error:
        raise ReplyError(
            f"{engine.name} returned a completion for {prompt.source}: {error}"
        ) from error
    longest = max(map(len, tree.responses))
    if longest > RETOKENISED * max_new_tokens:
        raise _too_long(engine, longest, max_new_tokens)
    kept = truncate(tree, encoder.max_length, bos_id=encoder.tokenizer.bos_token_id)
    return CompletionGroup(prompt, texts, kept, cut)


def _says_tokens(completion: EngineCompletion, encoder: Encoder) -> bool:
    """Whether an engine says which tokens it sampled, all of them: a finished completion has its
    end token, and every token is one of the tokenizer's."""
    tokens = completion.tokens
    if not tokens or max(tokens) >= len(encoder.tokenizer):
        return False
    return completion.truncated or tokens[-1] in encoder.end_ids


def _too_long(engine: Engine, tokens: int, asked: int) -> ReplyError:
    return ReplyError(
        f"{engine.name} returned a completion of {tokens} tokens, where {asked} were asked for"
    )


def _with_engine_logps(
    engine: Engine, group: CompletionGroup, completions: Sequence[EngineCompletion]
) -> CompletionGroup:
    for response, completion in zip(group.tree.responses, completions, strict=True):
        if response != completion.tokens or len(completion.logps) != len(response):
            raise ReplyError(
                f"{engine.name} did not say which tokens it sampled and how likely they were, "
                "which this objective needs where completions wait to be learned from; set "
                "online.overlap to false, or let an engine answer that takes return_token_ids and "
                "logprobs"
            )
    logps = tuple(completion.logps for completion in completions)
    return replace(group, logps=tuple(map(sum, logps)), token_logps=logps)


def drop_duplicates(groups: Sequence[CompletionGroup]) -> list[CompletionGroup]:
    """Each text of a group once, and no group with fewer than two; empty texts go too.

    For objectives that compare completions. What estimates an expectation over them needs all.
    """
    kept = (group.subset(_distinct(group.texts)) for group in groups)
    return [group for group in kept if len(group.texts) > 1]


def with_logps(
    policies: Policies, name: str, groups: Sequence[CompletionGroup], *, temperature: float
) -> list[CompletionGroup]:
    """The groups with the log-probs of the named policy, which generated them."""
    sums: list[float] = []
    tokens: list[tuple[float, ...]] = []
    for trees in in_passes([group.tree for group in groups]):
        batch = policies.batch(trees)
        scores = policies.measure(name, batch, temperature=temperature)
        sums += scores.sums.tolist()
        tokens += [tuple(own.tolist()) for own in scores.tokens.split(batch.lengths.tolist())]
    found = zip(sums, tokens, strict=True)
    own = [list(islice(found, len(group.texts))) for group in groups]
    return [
        replace(group, logps=tuple(s for s, _ in each), token_logps=tuple(t for _, t in each))
        for group, each in zip(groups, own, strict=True)
    ]


def _distinct(texts: Sequence[str]) -> list[int]:
    """Places of the texts that say something, each once."""
    first: dict[str, int] = {}
    for place, text in enumerate(texts):
        if text.strip():
            first.setdefault(text, place)
    return list(first.values())


def judged(group: CompletionGroup, judgement: Judgement, *, kind: str, pick: str) -> Pair | Ranking:
    """What is kept of the completions for an objective that learns from `kind`.

    The best against the worst, of equals the first ones; or all of them, where the objective learns
    from lists, or from pairs and `pick` is `all`.
    """
    ranking = ranking_of(group, judgement)
    listwise = kind in LISTWISE or (kind == "pairs" and pick == "all")
    return ranking if listwise else _best_and_worst(ranking, group, judgement)


def places_of(group: CompletionGroup, example: Example) -> list[int]:
    """Which of the completions an example's responses are."""
    return [group.texts.index(_text(response)) for response in example.responses]


def order_of(judgement: Judgement) -> list[int]:
    """Places of the completions from the best to the worst, of equals the first ones first."""
    return sorted(range(len(judgement.scores)), key=lambda place: -judgement.scores[place])


def ranking_of(group: CompletionGroup, judgement: Judgement) -> Ranking:
    """All completions, the best first, with the prompt's provenance."""
    scores, texts, order = judgement.scores, group.texts, order_of(judgement)
    levels = sorted(set(scores), reverse=True)
    return Ranking(
        prompt=group.prompt.prompt,
        responses=tuple(texts[place] for place in order),
        ranks=tuple(levels.index(scores[place]) for place in order),
        scores=tuple(scores[place] for place in order),
        truncated=tuple(group.truncated[p] for p in order) if any(group.truncated) else (),
        domain=group.prompt.domain,
        weight=group.prompt.weight,
        source=group.prompt.source,
        provenance=group.prompt.provenance,
        template_kwargs=group.prompt.template_kwargs,
    )


def _best_and_worst(ranking: Ranking, group: CompletionGroup, judgement: Judgement) -> Pair:
    assert ranking.scores is not None
    best, *_, worst = places_of(group, ranking)
    return Pair(
        prompt=ranking.prompt,
        chosen=ranking.responses[0],
        rejected=ranking.responses[-1],
        verdict="tie" if ranking.ranks[-1] == 0 else "chosen",
        score_chosen=ranking.scores[0],
        score_rejected=ranking.scores[-1],
        win_rate_chosen=judgement.win_rates[best],
        win_rate_rejected=judgement.win_rates[worst],
        truncated=(ranking.truncated[0], ranking.truncated[-1]) if ranking.truncated else (),
        domain=ranking.domain,
        weight=ranking.weight,
        source=ranking.source,
        provenance=ranking.provenance,
        template_kwargs=ranking.template_kwargs,
    )


def _text(response: Text) -> str:
    assert isinstance(response, str)
    return response
