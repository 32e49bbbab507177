"""Answers of a policy to prompts, and what there is to learn from them once they are judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastslow.config import AnswerConfig, SamplingConfig
from fastslow.judges import Asked, Judgement
from fastslow.records import Example, Pair, Prompt, Ranking, Text
from fastslow.sampling import Engine, Sample
from fastslow.scoring import Encoder, Tree, truncate
from fastslow.training.distributed.processes import Team
from fastslow.training.policies.policies import Policies

RANKED = ("rankings", "tokens", "demonstrations")
"""Kinds that learn from a list of answers as it is."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt with its answers."""

    prompt: Prompt
    """Its domain and weight are the answers'."""
    texts: tuple[str, ...]
    tree: Tree
    """The very tokens."""
    unended: tuple[bool, ...]
    """Of each, whether the length limit cut it off."""
    logps: tuple[float, ...] = ()
    """Of each answer under the policy at the temperature of sampling, nats; empty where they are
    not known."""
    token_logps: tuple[tuple[float, ...], ...] = ()
    """Of each token of each answer."""

    @property
    def asked(self) -> Asked:
        """What a judge is asked."""
        return Asked(self.prompt.prompt, self.texts)


def sample(
    policies: Policies,
    name: str,
    encoder: Encoder,
    config: SamplingConfig,
    ids: Sequence[tuple[int, ...]],
    *,
    seed: int,
    top_p: float = 1.0,
) -> list[list[Sample]]:
    """The named policy's answers to prompts in tokens, as a section of the recipe asks for them."""
    return policies.answer(
        name,
        ids,
        end_ids=sorted(encoder.end_ids),
        max_new_tokens=config.max_new_tokens,
        seed=seed,
        temperature=config.temperature,
        top_p=top_p,
        per_prompt=config.answers,
    )


def text_of(sampled: Sample, encoder: Encoder) -> str:
    """What was said."""
    text: str = encoder.tokenizer.decode(sampled.tokens, skip_special_tokens=True)
    return text


def answer(
    policies: Policies,
    name: str,
    encoder: Encoder,
    config: AnswerConfig,
    prompts: Sequence[Prompt],
    *,
    seed: int,
    different: bool = True,
    engine: Engine | None = None,
) -> list[Answered]:
    """The named policy's answers to prompts, with what it makes of them.

    With `different`, those to which it gives two answers that say something else, each text once.
    What estimates an expectation over answers needs all of them as they came. An `engine` answers
    in its stead, if it has the policy's module.
    """
    given = (
        given_here(policies, name, encoder, config, prompts, seed=seed)
        if engine is None
        else Team().from_first(lambda: given_by(engine, encoder, config, prompts, seed=seed))
    )
    kept = usable(prompts, given, different=different)
    return with_logps(policies, name, kept, temperature=config.temperature)


@dataclass(frozen=True, slots=True)
class Given:
    """The answers to one prompt as they came."""

    tree: Tree
    texts: tuple[str, ...]
    ended: tuple[bool, ...]


def given_here(
    policies: Policies,
    name: str,
    encoder: Encoder,
    config: AnswerConfig,
    prompts: Sequence[Prompt],
    *,
    seed: int,
) -> list[Given]:
    """What the named policy answers."""
    ids = [encoder.prompt_ids(one.prompt, room=config.max_new_tokens) for one in prompts]
    given = sample(policies, name, encoder, config, ids, seed=seed, top_p=config.top_p)
    return [
        Given(
            Tree(prompt, tuple(one.tokens for one in samples)),
            tuple(text_of(one, encoder) for one in samples),
            tuple(one.ended for one in samples),
        )
        for prompt, samples in zip(ids, given, strict=True)
    ]


def given_by(
    engine: Engine,
    encoder: Encoder,
    config: AnswerConfig,
    prompts: Sequence[Prompt],
    *,
    seed: int,
) -> list[Given]:
    """What an engine answers, in the tokens that its texts have here; needs no model.

    Raises UnreachableError.
    """
    said = engine.answer(
        [one.prompt for one in prompts],
        count=config.answers,
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        seed=seed,
    )
    found = []
    for prompt, answers in zip(prompts, said, strict=True):
        texts = tuple(one.text for one in answers)
        # An answer that was cut off before it said anything has no token but the end of the turn.
        ended = tuple(one.ended or not one.text for one in answers)
        tree = encoder.tree(prompt.prompt, texts, [not one for one in ended])
        bos_id = encoder.tokenizer.bos_token_id
        found.append(Given(truncate(tree, encoder.max_length, bos_id=bos_id), texts, ended))
    return found


def usable(prompts: Sequence[Prompt], given: Sequence[Given], *, different: bool) -> list[Answered]:
    """What there is to judge; log-probs are not known yet."""
    found = []
    for prompt, own in zip(prompts, given, strict=True):
        places = _different(own.texts) if different else list(range(len(own.texts)))
        if len(places) > 1 or not different:
            found.append(
                Answered(
                    prompt=prompt,
                    texts=tuple(own.texts[place] for place in places),
                    tree=Tree(
                        own.tree.prompt, tuple(own.tree.responses[place] for place in places)
                    ),
                    unended=tuple(not own.ended[place] for place in places),
                )
            )
    return found


def with_logps(
    policies: Policies, name: str, answered: Sequence[Answered], *, temperature: float
) -> list[Answered]:
    """The answers with what the named policy, that gave them, makes of them."""
    if not answered:
        return []
    batch = policies.batch([one.tree for one in answered])
    scores = policies.measure(name, batch, temperature=temperature)
    logps = iter(scores.sums.tolist())
    token_logps = iter(scores.tokens.split(batch.lengths.tolist()))
    return [
        replace(
            one,
            logps=tuple(next(logps) for _ in one.texts),
            token_logps=tuple(tuple(next(token_logps).tolist()) for _ in one.texts),
        )
        for one in answered
    ]


def _different(texts: Sequence[str]) -> list[int]:
    """Places of the answers that say something, each text once."""
    first: dict[str, int] = {}
    for place, text in enumerate(texts):
        if text.strip():
            first.setdefault(text, place)
    return list(first.values())


def judged(answered: Answered, judgement: Judgement, *, kind: str, pick: str) -> Pair | Ranking:
    """What is kept of the answers for an objective that learns from `kind`.

    The best against the worst, of equals the first ones; or all of them, where the objective learns
    from lists, or from pairs and `pick` is `all`.
    """
    whole = ranking_of(answered, judgement)
    listed = kind in RANKED or (kind == "pairs" and pick == "all")
    return whole if listed else _ends(whole, answered, judgement)


def places_of(answered: Answered, example: Example) -> list[int]:
    """Which of the answers an example's responses are."""
    return [answered.texts.index(_text(response)) for response in example.responses]


def order_of(judgement: Judgement) -> list[int]:
    """Places of the answers from the best to the worst, of equals the first ones first."""
    return sorted(range(len(judgement.scores)), key=lambda place: -judgement.scores[place])


def ranking_of(answered: Answered, judgement: Judgement) -> Ranking:
    """All answers, the best first."""
    scores, texts, order = judgement.scores, answered.texts, order_of(judgement)
    levels = sorted(set(scores), reverse=True)
    cut = any(answered.unended)
    return Ranking(
        prompt=answered.prompt.prompt,
        responses=tuple(texts[place] for place in order),
        ranks=tuple(levels.index(scores[place]) for place in order),
        scores=tuple(scores[place] for place in order),
        unended=tuple(answered.unended[place] for place in order) if cut else (),
        domain=answered.prompt.domain,
        weight=answered.prompt.weight,
        source=answered.prompt.source,
    )


def _ends(whole: Ranking, answered: Answered, judgement: Judgement) -> Pair:
    assert whole.scores is not None
    best, *_, worst = places_of(answered, whole)
    return Pair(
        prompt=whole.prompt,
        chosen=whole.responses[0],
        rejected=whole.responses[-1],
        verdict="tie" if whole.ranks[-1] == 0 else "chosen",
        score_chosen=whole.scores[0],
        score_rejected=whole.scores[-1],
        win_rate_chosen=judgement.win_rates[best],
        win_rate_rejected=judgement.win_rates[worst],
        unended=(whole.unended[0], whole.unended[-1]) if whole.unended else (),
        domain=whole.domain,
        weight=whole.weight,
        source=whole.source,
    )


def _text(response: Text) -> str:
    assert isinstance(response, str)
    return response
