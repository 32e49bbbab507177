"""Answers to the same prompt side by side, from every run that answered it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fastslow.reports.drawn import DrawnRun

BASE = "base"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer and the policy it is from."""

    policy: str
    text: str
    reward: str
    """Empty if there is none."""
    colour: str | None


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """A prompt with its answers, the base's first."""

    domain: str
    prompt: str
    answers: list[Answer] = field(default_factory=list)


def answered_prompts(drawn: Sequence[DrawnRun]) -> list[AnsweredPrompt]:
    """Every sampled prompt once, in the order in which the runs have them."""
    prompts: dict[tuple[str, str], AnsweredPrompt] = {}
    for drawn_run in drawn:
        for sample in drawn_run.run.samples:
            key = (sample["domain"], sample["prompt"])
            answered = prompts.setdefault(key, AnsweredPrompt(*key))
            for answer in _answers(drawn_run, sample):
                # The base gives the same answers in all runs with one seed.
                if answer not in answered.answers:
                    answered.answers.append(answer)
    return list(prompts.values())


def _answers(one: DrawnRun, sample: dict[str, dict[str, str]]) -> Iterator[Answer]:
    rewards = sample.get("rewards") or {}
    for policy, text in sample["answers"].items():
        reward = f"{rewards[policy]:.3f}" if policy in rewards else ""
        if policy == BASE:
            yield Answer(BASE, text, reward, None)
        else:
            name = policy if one.alone else f"{one.run.label}: {policy}"
            yield Answer(name, text, reward, one.colour)
