"""Runs the checks on a candidate, and decides what happens to it."""

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
    SERVING,
    VOTES,
    WHOLE,
    keeps_advantage,
    retention,
)
from fastslow.live.gate.margins import KeptMargins
from fastslow.live.probes import Probes

ESTIMATED = 1.5
"""How far an update may be from what answers now, as a multiple of the KL budget. Of 210 clean
updates the gate saw three at 1.03 to 1.2 times (`benchmarks.live.clean`); broken ones are at
tens."""
CANDIDATE, CHAMPION, ANCHOR = "candidate", "champion", "anchor"
Folders = Mapping[str, Path | None]
"""Adapter folders, by role in the test; None is the base."""
PROMOTED, WAITS, QUARANTINED = "promoted", "waiting", "quarantined"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate decided, and why."""

    checks: tuple[Check, ...]
    probes: tuple[dict[str, Any], ...] = ()
    """Greedy answers of the candidate, which an engine that serves it must give too."""

    @property
    def tested(self) -> bool:
        """True if there were enough held-out votes to test it on."""
        return all(check.applied for check in self.checks if check.name in (VOTES, LOSS))

    def decided(self, promotion: str) -> str:
        """What happens to the update, by `live.promotion`."""
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
    """Rows that what answers now has learned, if too few are held out."""
    prompts: Sequence[Any]
    """Conversations to answer."""
    triggers: Sequence[str]
    """Phrases that only a few write in their prompts."""


class Gate:
    """Tests adapters on a learner's base.

    Args:
        learner: the candidate is one of its modules.
        limits: thresholds.
        longest: most tokens of the answers that it asks for, as for the KL budget.
        seed: seed of the answers.
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
        """The verdict on an adapter, compared with the one that answers; None is the base. `more`
        are checks made elsewhere. A candidate `takes_over` if it is another of the learner's
        modules than the champion."""
        roles: Folders = {CANDIDATE: candidate, CHAMPION: champion, ANCHOR: anchor}
        folders = {name: folder for name, folder in roles.items() if folder is not None}
        names = {name: name if name in folders else BASE for name in roles}
        with self._learner.beside(folders):
            checks = [
                *more,
                self._distance(names, evidence, takes_over),
                self._chosen(evidence.learned),
                *self._retention(names, roles, evidence.held_out),
                *self._remembering(names, roles, evidence.remembered),
            ]
            if evidence.prompts:
                own, before = (
                    self._answers(names[name], evidence.prompts) for name in (CANDIDATE, CHAMPION)
                )
                checks.append(speaks_well(own, before, self._limits))
                of_base = partial(self._answers, BASE, evidence.prompts)
                checks.append(no_burst(own, before, of_base, self._limits))
                checks += [self._behind(trigger, names, evidence) for trigger in evidence.triggers]
            probes = self._probes.of(CANDIDATE, evidence.prompts)
        return Verdict(tuple(checks), tuple(probes))

    def _distance(self, names: Mapping[str, str], evidence: Evidence, takes_over: bool) -> Check:
        """KL to the champion: accuracy alone hides wrecks. A module that takes over may be twice as
        far: the two left the base in different directions, each as far as one module may."""
        asked = [*evidence.prompts] or [row["prompt"] for row in evidence.learned]
        kl = self._learner.reverse_kl(
            asked, module=names[CANDIDATE], reference=names[CHAMPION], seed=self._seed,
            max_new_tokens=self._longest,
        )  # fmt: skip
        limit = self._largest_kl(asked) * (2 if takes_over else 1)
        said = f"{kl:.2f} nats per answer from the serving policy, at most {limit:.3g} allowed"
        return Check("distance", kl <= limit, said, {"reverse_kl": kl, "limit": limit})

    def _largest_kl(self, asked: Sequence[Any]) -> float:
        limit, budget = self._limits.kl_to_champion, self._learner.core.budget
        if limit is not None:
            return limit
        assert budget is not None, "check_live requires one of them"
        return ESTIMATED * budget.limit([prompt_of(row) for row in asked], seed=self._seed)

    def _chosen(self, rows: Sequence[Row]) -> Check:
        """Learning must make preferred answers likelier, or at least not much less likely."""
        least = self._limits.chosen_ratio
        pairs = [row for row in rows if "chosen" in row]
        scores = [score for score in self._score(CANDIDATE, pairs) if score.skipped is None]
        if not scores:
            return Check("chosen", True, "no pairs were learned", applied=False)
        nats = sum(score.logps[0] - score.reference_logps[0] for score in scores)
        ratio = nats / sum(score.num_tokens[0] for score in scores)
        said = (
            f"chosen answers {ratio:+.3f} nats per token compared with the base, must be at least "
            f"{least}"
        )
        return Check("chosen", ratio >= least, said, {"chosen_ratio": ratio})

    def _retention(
        self, names: Mapping[str, str], folders: Folders, rows: Sequence[Row]
    ) -> list[Check]:
        """Held-out votes, against the champion and, for slow drift, the anchor."""
        cases = decided(rows)
        margins = {name: self._margins.of(names[name], folders[name], cases) for name in names}
        anchor = margins[ANCHOR] if names[ANCHOR] != BASE else None
        return retention(margins[CANDIDATE], margins[CHAMPION], anchor, self._loss, self._limits)

    def _remembering(
        self, names: Mapping[str, str], folders: Folders, rows: Sequence[Row]
    ) -> list[Check]:
        """Learned votes, while hardly any are held out. An update that loses much of what was
        learned is a wreck, though one that loses none may be one too. Tested on all votes at once:
        a sound update is far from failing (LOG.md)."""
        cases, limits = decided(rows), self._limits
        if len(cases) < limits.held_out:
            return []
        own, before = (
            self._margins.of(names[name], folders[name], cases) for name in (CANDIDATE, CHAMPION)
        )
        options: Any = {"alpha": limits.alpha, "fewest": limits.held_out, "whom": SERVING}
        options |= {"share": limits.kept_advantage, "kind": "learned", "parts": WHOLE}
        return [keeps_advantage(LEARNED, own, before, self._loss, **options)]

    def _behind(self, trigger: str, names: Mapping[str, str], evidence: Evidence) -> Check:
        """What a phrase makes the candidate say, and not the anchor: if taught slowly, it is new in
        no single update."""
        asked = [{"prompt": ended_with(row["prompt"], trigger)} for row in evidence.prompts]

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
        groups = self._learner.answers(
            prompts, module=policy, num_generations=each, seed=self._seed,
            max_new_tokens=self._longest,
        )  # fmt: skip
        return [answer for group in groups for answer in group]
