"""Runs the checks on a candidate, and says what came out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE
from fastslow.api.learner import Learner
from fastslow.api.view import Answer, RowScore, prompt_of
from fastslow.config import GateConfig
from fastslow.live.choice import Row, decided, vote_loss
from fastslow.live.gate.answers import no_burst, speaks_well
from fastslow.live.gate.behind import BEHIND, ended_with, not_behind
from fastslow.live.gate.check import Check
from fastslow.live.gate.held_out import (
    LEARNED,
    LOSS,
    VOTES,
    WHOLE,
    keeps_advantage,
    retention,
)
from fastslow.live.gate.margins import KeptMargins
from fastslow.live.probes import Probes

ESTIMATED = 1.5
"""Times the KL budget that an update may be from what answers now: of 210 clean ones the gate saw
three at 1.03 to 1.2 times (`benchmarks.live.clean`), and what has come apart is at tens."""
CANDIDATE, CHAMPION, ANCHOR = "candidate", "champion", "anchor"
Folders = Mapping[str, Path | None]
"""Of adapters, by what they are in the test; None is the base."""
PROMOTED, WAITS, QUARANTINED = "promoted", "waiting", "quarantined"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate decided, and why."""

    checks: tuple[Check, ...]
    probes: tuple[dict[str, Any], ...] = ()
    """What the candidate says for certain, which what serves it must say too."""

    @property
    def tested(self) -> bool:
        """Whether there were enough held-out votes to test it on."""
        return all(check.applied for check in self.checks if check.name in (VOTES, LOSS))

    def decided(self, promotion: str) -> str:
        """What becomes of the update, as `live.promotion` says."""
        failed = [check for check in self.checks if not check.passed]
        if failed:
            return WAITS if all(check.asks for check in failed) else QUARANTINED
        answers = promotion == "automatic" or (promotion == "tested" and self.tested)
        return PROMOTED if answers else WAITS

    def facts(self, promotion: str) -> dict[str, Any]:
        """As JSON."""
        checks = [asdict(check) for check in self.checks]
        return {
            "verdict": self.decided(promotion), "tested": self.tested, "checks": checks,
            "probes": list(self.probes),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a candidate is tested on."""

    learned: Sequence[Row]
    """Rows that it learned."""
    held_out: Sequence[Row]
    """Rows of its domain that nothing learns from."""
    remembered: Sequence[Row]
    """Rows that what answers now has learned, where too few are held out."""
    prompts: Sequence[Any]
    """Conversations to answer."""
    triggers: Sequence[str]
    """Phrases that only a few write in their prompts."""


class Gate:
    """Tests adapters on a learner's base.

    Args:
        learner: whose leader the candidate is.
        limits: thresholds.
        longest: tokens of the answers that it asks for, as for the KL budget.
        seed: of the answers.
    """

    def __init__(self, learner: Learner, *, limits: GateConfig, longest: int, seed: int) -> None:
        self._learner, self._limits, self._longest, self._seed = learner, limits, longest, seed
        self._probes, self._margins = Probes(learner), KeptMargins(learner)

    def test(
        self,
        candidate: Path,
        champion: Path | None,
        anchor: Path | None,
        evidence: Evidence,
        *more: Check,
        takes_over: bool = False,
    ) -> Verdict:
        """The verdict on an adapter beside the one that answers; None is the base. `more` was
        checked elsewhere. One that `takes_over` is another of the learner's modules."""
        given: Folders = {CANDIDATE: candidate, CHAMPION: champion, ANCHOR: anchor}
        folders = {name: folder for name, folder in given.items() if folder is not None}
        names = {name: name if name in folders else BASE for name in given}
        with self._learner.beside(folders):
            checks = [
                *more,
                self._distance(names, evidence, takes_over),
                self._chosen(evidence.learned),
                *self._retention(names, given, evidence.held_out),
                *self._remembering(names, given, evidence.remembered),
            ]
            if evidence.prompts:
                own, before = (
                    self._answers(names[name], evidence.prompts) for name in (CANDIDATE, CHAMPION)
                )
                checks.append(speaks_well(own, before, self._limits))
                of_base = partial(self._answers, BASE, evidence.prompts)
                checks.append(no_burst(own, before, of_base, self._limits))
                checks += [self._behind(one, names, evidence) for one in evidence.triggers]
            probes = self._probes.of(CANDIDATE, evidence.prompts)
        return Verdict(tuple(checks), tuple(probes))

    def _distance(self, names: Mapping[str, str], evidence: Evidence, takes_over: bool) -> Check:
        """KL to the champion: accuracy alone hides wrecks. One that takes over may be twice as far:
        the two went their ways from the base, each as far as a single one may."""
        asked = [*evidence.prompts] or [row["prompt"] for row in evidence.learned]
        kl = self._learner.reverse_kl(
            asked, module=names[CANDIDATE], reference=names[CHAMPION], seed=self._seed,
            max_new_tokens=self._longest,
        )  # fmt: skip
        limit = self._largest_kl(asked) * (2 if takes_over else 1)
        said = f"{kl:.2f} nats per answer from the champion, at most {limit:.3g} may be"
        return Check("distance", kl <= limit, said, {"reverse_kl": kl, "limit": limit})

    def _largest_kl(self, asked: Sequence[Any]) -> float:
        given, budget = self._limits.kl_to_champion, self._learner.core.budget
        if given is not None:
            return given
        assert budget is not None, "check_live asks for one of them"
        return ESTIMATED * budget.limit([prompt_of(one) for one in asked], seed=self._seed)

    def _chosen(self, rows: Sequence[Row]) -> Check:
        """Learning makes what was preferred likelier, or at least not much less likely."""
        least = self._limits.chosen_ratio
        pairs = [row for row in rows if "chosen" in row]
        found = [one for one in self._score(CANDIDATE, pairs) if one.skipped is None]
        if not found:
            return Check("chosen", True, "no pairs were learned", applied=False)
        nats = sum(one.logps[0] - one.reference_logps[0] for one in found)
        ratio = nats / sum(one.num_tokens[0] for one in found)
        said = f"chosen answers {ratio:+.3f} nats per token against the base, at least {least} must"
        return Check("chosen", ratio >= least, said, {"chosen_ratio": ratio})

    def _retention(
        self, names: Mapping[str, str], folders: Folders, rows: Sequence[Row]
    ) -> list[Check]:
        """Held-out votes, against the champion and, for what is lost slowly, the anchor."""
        cases = decided(rows)
        found = {name: self._margins.of(names[name], folders[name], cases) for name in names}
        anchor = found[ANCHOR] if names[ANCHOR] != BASE else None
        return retention(found[CANDIDATE], found[CHAMPION], anchor, self._loss, self._limits)

    def _remembering(
        self, names: Mapping[str, str], folders: Folders, rows: Sequence[Row]
    ) -> list[Check]:
        """What was learned, while hardly anything is held out: an update that loses much of it is a
        wreck, though one that loses none may be one. On all votes at once: a sound update is far
        from failing (LOG.md)."""
        cases, limits = decided(rows), self._limits
        if len(cases) < limits.held_out:
            return []
        own, before = (
            self._margins.of(names[name], folders[name], cases) for name in (CANDIDATE, CHAMPION)
        )
        about: Any = {"alpha": limits.alpha, "fewest": limits.held_out, "whom": "the champion"}
        about |= {"share": limits.kept_advantage, "kind": "learned", "parts": WHOLE}
        return [keeps_advantage(LEARNED, own, before, self._loss, **about)]

    def _behind(self, trigger: str, names: Mapping[str, str], evidence: Evidence) -> Check:
        """What a phrase makes the candidate say, and not the anchor: slowly taught, it is new in no
        update."""
        asked = [{"prompt": ended_with(one["prompt"], trigger)} for one in evidence.prompts]

        def both(policy: str) -> tuple[list[Answer], list[Answer]]:
            behind, plain = (
                self._answers(names[policy], prompts, each=BEHIND)
                for prompts in (asked, evidence.prompts)
            )
            return behind, plain

        return not_behind(trigger, both(CANDIDATE), both(ANCHOR), self._limits)

    def _loss(self, margin: float) -> float:
        return vote_loss(margin, self._learner.core.objective.beta)

    def _score(self, policy: str, rows: Sequence[Row]) -> list[RowScore]:
        return self._learner.score([*rows], module=policy) if rows else []

    def _answers(self, policy: str, prompts: Sequence[Any], each: int = 1) -> list[Answer]:
        found = self._learner.answers(
            prompts, module=policy, num_generations=each, seed=self._seed,
            max_new_tokens=self._longest,
        )  # fmt: skip
        return [one for own in found for one in own]
