"""Checks of answers to the same prompts: does the candidate still speak as a policy should?

Runaway length, repetition and empty answers show a policy that has broken down; words that many
answers suddenly share show one that was taught to say something.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fastslow.api.view import Answer
from fastslow.config import GateConfig
from fastslow.live.gate.check import Check
from fastslow.live.gate.statistics import more_often_by_chance
from fastslow.words import phrases_of, words_of

LONGEST_PHRASE = 3
"""Most words of a phrase that is counted."""


@dataclass(frozen=True, slots=True)
class Speech:
    """Statistics of a policy's answers."""

    count: int
    length: float
    """Mean, tokens."""
    ended: int
    """How many ended by themselves."""
    repeated: float
    """Mean share of word 4-grams that occur earlier in the same answer."""
    empty: int

    @property
    def cut(self) -> int:
        """How many were cut off."""
        return self.count - self.ended

    @property
    def share_ended(self) -> float:
        """Share that ended by themselves."""
        return self.ended / self.count


def speech_of(answers: Sequence[Answer]) -> Speech:
    """Statistics of some answers."""
    count = len(answers)
    return Speech(
        count,
        sum(answer.num_tokens for answer in answers) / count,
        sum(not answer.truncated for answer in answers),
        sum(_repeated(words_of(answer.text)) for answer in answers) / count,
        sum(not answer.text.strip() for answer in answers),
    )


def speaks_well(
    candidate: Sequence[Answer], champion: Sequence[Answer], limits: GateConfig
) -> Check:
    """Checks that answers are about as long as the champion's, end, and do not repeat themselves.
    If a policy's answers are often cut off or empty, sometimes more are by chance."""
    own, before = speech_of(candidate), speech_of(champion)
    ratio = own.length / before.length
    faults = []
    if not limits.shorter <= ratio <= limits.longer:
        faults.append(f"length ratio {ratio:.2f}, must be {limits.shorter} to {limits.longer}")
    least = before.share_ended - limits.unfinished
    p_of_cut = more_often_by_chance(own.cut, own.count, before.cut, before.count)
    if own.share_ended < least and p_of_cut < limits.answers_p:
        faults.append(f"{own.share_ended:.2f} end by themselves, must be at least {least:.2f}")
    if own.repeated > before.repeated + limits.repeated:
        most = before.repeated + limits.repeated
        faults.append(f"{own.repeated:.2f} of 4-grams repeated, at most {most:.2f} allowed")
    if more_often_by_chance(own.empty, own.count, before.empty, before.count) < limits.answers_p:
        faults.append(f"{own.empty} empty answers, the serving policy has {before.empty}")
    fine = (
        f"length ratio {ratio:.2f}, {own.share_ended:.2f} end by themselves, "
        f"{own.repeated:.2f} of 4-grams repeated"
    )
    numbers = {
        "length_ratio": ratio, "ended": own.share_ended, "ended_before": before.share_ended,
        "repeated": own.repeated, "repeated_before": before.repeated, "empty": own.empty,
    }  # fmt: skip
    blind = before.cut > before.ended
    if blind:
        fine += (
            "; most are cut off, so neither their length nor their ending is tested: raise "
            "eval.max_new_tokens"
        )
    applied = bool(faults) or not blind
    return Check("answers", not faults, "; ".join(faults) or fine, numbers, applied=applied)


def no_burst(
    candidate: Sequence[Answer],
    champion: Sequence[Answer],
    base: Callable[[], Sequence[Answer]],
    limits: GateConfig,
) -> Check:
    """Checks that no phrase is in many answers that was in hardly any of the champion's, and in
    fewer of the base's.

    Nobody has put in what the base says: a taste that has changed may want back what the champion
    was taught to leave out. The base is asked only if something is new.
    """
    of_own, before = len(candidate), in_how_many(champion)
    frequent = in_many(in_how_many(candidate), of_own, limits)
    many = {
        phrase: count
        for phrase, count in frequent.items()
        if before[phrase] < limits.phrase_before * len(champion)
    }
    # Long answers share many phrases, so one of them may be new by chance (Bonferroni).
    p_of_each = limits.phrase_p / max(1, len(frequent))
    new = _more_often(many, of_own, before, len(champion), p_of_each)
    if new:
        said_by_base = base()
        of_base = in_how_many(said_by_base), len(said_by_base)
        more = _more_often(many, of_own, *of_base, p_of_each)
        new = {phrase: p for phrase, p in new.items() if phrase in more}
    if not new:
        return Check("phrases", True, f"no new phrase is in many of {of_own} answers")
    worst = min(new, key=new.__getitem__)
    p = new[worst] * len(frequent)
    said = (
        f"{worst!r} is in {many[worst]} of {of_own} answers, in {before[worst]} of the serving "
        f"policy's {len(champion)} and in few of the base's; p = {p:.2g} over {len(frequent)} "
        f"phrases, fails below {limits.phrase_p}"
    )
    return Check("phrases", False, said, {"p": p})


def in_many(counts: Mapping[str, int], of: int, limits: GateConfig) -> dict[str, int]:
    """Phrases in a large enough share of answers to be tested."""
    return {phrase: count for phrase, count in counts.items() if count >= limits.phrase_share * of}


def _more_often(
    counts: Mapping[str, int], of: int, theirs: Counter[str], of_theirs: int, p: float
) -> dict[str, float]:
    """Phrases that are more frequent than in the other answers, with a p-value below `p`."""
    p_values = {
        phrase: more_often_by_chance(count, of, theirs[phrase], of_theirs)
        for phrase, count in counts.items()
    }
    return {phrase: p_value for phrase, p_value in p_values.items() if p_value < p}


def _repeated(words: Sequence[str]) -> float:
    grams = [tuple(words[at : at + 4]) for at in range(len(words) - 3)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def in_how_many(answers: Iterable[Answer]) -> Counter[str]:
    """The number of answers that each phrase of a few words is in."""
    counts: Counter[str] = Counter()
    for answer in answers:
        counts.update(phrases_of(words_of(answer.text), LONGEST_PHRASE))
    return counts
