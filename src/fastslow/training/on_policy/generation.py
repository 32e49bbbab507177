"""Samples a policy's completions of prompts, and makes examples of them once they are judged."""

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
"""Kinds of examples that hold a whole list of completions."""
RETOKENISED = 4
"""Most tokens that one sampled token can become when its text is tokenised again: a byte that is no
character comes back as a character of three bytes."""
OTHER_PROMPT = (
    "{engine} counts different prompt tokens from this process; if it serves another chat template "
    "or tokenizer, its completions are not those of the policy that is trained"
)


@dataclass(frozen=True, slots=True)
class CompletionGroup:
    """A prompt with its completions."""

    prompt: Prompt
    """Its domain, weight and provenance apply to the completions."""
    texts: tuple[str, ...]
    tree: Tree
    """The exact tokens."""
    truncated: tuple[bool, ...]
    """For each completion, whether the length limit cut it off."""
    logps: tuple[float, ...] = ()
    """Log-prob of each under the policy at the sampling temperature, nats; empty if unknown."""
    token_logps: tuple[tuple[float, ...], ...] = ()
    """Log-prob of each token of each completion, nats."""

    @property
    def request(self) -> JudgeRequest:
        """The request to a judge."""
        return JudgeRequest(self.prompt.prompt, self.texts)

    def subset(self, places: Sequence[int]) -> "CompletionGroup":
        """The completions at the given indices; use it before their log-probs are known."""
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
    """The named policy's completions of tokenised prompts, with a recipe section's settings."""
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
    """The named policy's distinct completions of prompts, with their log-probs.

    Prompts with fewer than two distinct completions are skipped. An `engine`, which must have the
    policy's module loaded, generates in place of the local policy.
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
    """The named policy's completions of each prompt, including duplicates."""
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
    """An engine's completions of each prompt, as the tokens it reports or else tokenised here;
    needs no model.

    With `logps` they have the log-probs that the engine sampled them with, at temperature 1. Raises
    UnreachableError. Warns once if the engine reads different prompts from this process.
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
    # A completion truncated before any text has only the end-of-turn token.
    cut = tuple(completion.truncated and bool(completion.text) for completion in completions)
    prompt_ids = encoder.prompt_ids_of(prompt, room=max_new_tokens)
    if completions[0].prompt_tokens not in (0, len(prompt_ids)):
        warnings.warn(OTHER_PROMPT.format(engine=engine.name), FutureWarning, stacklevel=2)
    if all(_reports_all_tokens(completion, encoder) for completion in completions):
        cut = tuple(completion.truncated for completion in completions)
        responses = tuple(completion.tokens for completion in completions)
        if max(map(len, responses)) > max_new_tokens:
            raise _too_long(engine, max(map(len, responses)), max_new_tokens)
        return CompletionGroup(prompt, texts, Tree(prompt_ids, responses), cut)
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


def _reports_all_tokens(completion: EngineCompletion, encoder: Encoder) -> bool:
    """True if the engine reported all tokens that it sampled: a finished completion has its end
    token, and every token is in the tokenizer's vocabulary."""
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
                f"{engine.name} did not report the tokens it sampled and their log-probs, which "
                "this objective needs when completions wait to be learned from; set "
                "online.overlap to false, or use an engine that takes return_token_ids and "
                "logprobs"
            )
    logps = tuple(completion.logps for completion in completions)
    return replace(group, logps=tuple(map(sum, logps)), token_logps=logps)


def drop_duplicates(groups: Sequence[CompletionGroup]) -> list[CompletionGroup]:
    """The groups with each text once and no empty texts; groups with fewer than two are dropped.

    For objectives that compare completions. Estimates of an expectation over them need all.
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
        tokens += [tuple(logps.tolist()) for logps in scores.tokens.split(batch.lengths.tolist())]
    scored = zip(sums, tokens, strict=True)
    by_group = [list(islice(scored, len(group.texts))) for group in groups]
    return [
        replace(group, logps=tuple(s for s, _ in each), token_logps=tuple(t for _, t in each))
        for group, each in zip(groups, by_group, strict=True)
    ]


def _distinct(texts: Sequence[str]) -> list[int]:
    """Indices of the texts that are not blank, each text once."""
    first: dict[str, int] = {}
    for place, text in enumerate(texts):
        if text.strip():
            first.setdefault(text, place)
    return list(first.values())


def judged(group: CompletionGroup, judgement: Judgement, *, kind: str, pick: str) -> Pair | Ranking:
    """The example that a group becomes, for an objective that learns from `kind`.

    It is the best completion (the first of equals) against the worst (the last of equals), or a
    ranking of all if the objective learns from lists, or from pairs and `pick` is `all`.
    """
    ranking = ranking_of(group, judgement)
    listwise = kind in LISTWISE or (kind == "pairs" and pick == "all")
    return ranking if listwise else _best_and_worst(ranking, group, judgement)


def places_of(group: CompletionGroup, example: Example) -> list[int]:
    """The indices in a group of an example's responses."""
    return [group.texts.index(_text(response)) for response in example.responses]


def order_of(judgement: Judgement) -> list[int]:
    """Indices of the completions from best to worst; equals keep their order."""
    return sorted(range(len(judgement.scores)), key=lambda place: -judgement.scores[place])


def ranking_of(group: CompletionGroup, judgement: Judgement) -> Ranking:
    """All completions, best first, with the prompt's provenance."""
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
