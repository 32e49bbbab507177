"""Answers of a policy to prompts, and what there is to learn from them once they are judged."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastslow.config import AnswerConfig, SamplingConfig
from fastslow.judges import Asked, Judgement
from fastslow.records import Example, Pair, Prompt, Ranking, Text
from fastslow.sampling import Sample
from fastslow.scoring import Encoder, Tree
from fastslow.training.policies import Policies

RANKED = ("rankings", "demonstrations")
"""Kinds that learn from a list of answers as it is."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt with two or more different answers."""

    prompt: Prompt
    """Its domain and weight are the answers'."""
    texts: tuple[str, ...]
    tree: Tree
    """The very tokens."""
    logps: tuple[float, ...]
    """Of each answer under the policy at the temperature of sampling, nats."""
    unended: tuple[bool, ...]
    """Of each, whether the length limit cut it off."""

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
) -> list[Answered]:
    """The named policy's answers to those prompts to which it gives two different ones."""
    ids = [encoder.prompt_ids(one.prompt, room=config.max_new_tokens) for one in prompts]
    given = sample(policies, name, encoder, config, ids, seed=seed, top_p=config.top_p)
    different = [_different(samples, encoder) for samples in given]
    usable = [place for place, own in enumerate(different) if len(own) > 1]
    if not usable:
        return []
    trees = [
        Tree(ids[place], tuple(one.tokens for one in different[place].values())) for place in usable
    ]
    sums = policies.measure(name, policies.batch(trees), temperature=config.temperature).sums
    logps = sums.split([len(tree.responses) for tree in trees])
    return [
        Answered(
            prompt=prompts[place],
            texts=tuple(different[place]),
            tree=tree,
            logps=tuple(own.tolist()),
            unended=tuple(not one.ended for one in different[place].values()),
        )
        for place, tree, own in zip(usable, trees, logps, strict=True)
    ]


def _different(samples: Sequence[Sample], encoder: Encoder) -> dict[str, Sample]:
    """The answers that say something, each text once."""
    found: dict[str, Sample] = {}
    for sampled in samples:
        text = text_of(sampled, encoder)
        if text.strip():
            found.setdefault(text, sampled)
    return found


def judged(answered: Answered, judgement: Judgement, *, kind: str, pick: str) -> Pair | Ranking:
    """What is kept of the answers for an objective that learns from `kind`.

    The best against the worst, of equals the first ones; or all of them, where the objective learns
    from lists, or from pairs and `pick` is `all`.
    """
    whole = _ranking(answered, judgement)
    listed = kind in RANKED or (kind == "pairs" and pick == "all")
    return whole if listed else _ends(whole, answered, judgement)


def places_of(answered: Answered, example: Example) -> list[int]:
    """Which of the answers an example's responses are."""
    return [answered.texts.index(_text(response)) for response in example.responses]


def _ranking(answered: Answered, judgement: Judgement) -> Ranking:
    """All answers, the best first."""
    scores, texts = judgement.scores, answered.texts
    order = sorted(range(len(texts)), key=lambda place: -scores[place])
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
