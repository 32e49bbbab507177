"""Rollouts: the policy samples, a judge compares, optionally in the background.

Work on the model happens in the calling thread. The judge, and an engine that samples instead of
the local policy, can run in the background, in the main process only.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from threading import Thread
from typing import Any

from fastslow.config import OnlineConfig, Recipe
from fastslow.judges import Judge, Judgement
from fastslow.records import Prompt
from fastslow.sampling import Engine
from fastslow.scoring import Encoder
from fastslow.training.data.serialization import example_from_json
from fastslow.training.distributed.messages import Codec
from fastslow.training.on_policy.generation import (
    GROUP,
    CompletionGroup,
    drop_duplicates,
    generate_local,
    generate_with_engine,
    with_logps,
)
from fastslow.training.on_policy.judging import JUDGEMENT
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.publish import EnginePublisher


@dataclass(frozen=True, slots=True)
class JudgedGroups:
    """Completions with their judgements, and what judging them has cost."""

    groups: list[tuple[CompletionGroup, Judgement]]
    cost: Mapping[str, int]


def _encode(judged: JudgedGroups) -> list[Any]:
    pairs = [[GROUP.encode(group), JUDGEMENT.encode(verdict)] for group, verdict in judged.groups]
    return [pairs, dict(judged.cost)]


def _decode(sent: list[Any]) -> JudgedGroups:
    pairs, cost = sent
    groups = [(GROUP.decode(group), JUDGEMENT.decode(verdict)) for group, verdict in pairs]
    return JudgedGroups(groups, cost)


JUDGED: Codec[JudgedGroups] = Codec(_encode, _decode)


@dataclass(slots=True)
class PendingRollouts:
    """Prompts whose completions are being sampled and judged."""

    prompts: list[Prompt]
    seed: int
    groups: list[CompletionGroup] | None
    """None while an engine generates them."""
    result: Future[JudgedGroups]


@dataclass(slots=True)
class RolloutSampler:
    """Samples completions of prompts and has them judged.

    Args:
        leader: returns the name of the policy that currently generates.
        distinct: keep only distinct texts, see `drop_duplicates`.
        publisher: passes the leader's module to an engine, which generates in its place.
    """

    policies: Policies
    encoder: Encoder
    judge: Judge
    config: OnlineConfig
    leader: Callable[[], str]
    distinct: bool
    publisher: EnginePublisher | None
    _published_at: int | None = None
    """The `moment` of the module that the engine has."""

    def begin(
        self, prompts: Sequence[Prompt], *, seed: int, moment: int | None = None
    ) -> PendingRollouts:
        """Sample from the current policy, which is the same for as long as `moment` is."""
        prompts = list(prompts)
        if self.publisher is not None:
            engine = self.publisher.engine
            if moment is None or moment != self._published_at:
                self.publisher.publish(self.policies.modules, self.leader(), label=f"{seed}")
                self._published_at = moment
            pending = PendingRollouts(prompts, seed, None, Future())
            self._work(pending, lambda: self._ask_engine(engine, pending))
            return pending
        groups = generate_local(
            self.policies, self.leader(), self.encoder, self.config, prompts, seed=seed
        )
        return self._judge_later(prompts, seed, self._with_logps(self._kept(groups)))

    def finish(self, pending: PendingRollouts) -> JudgedGroups:
        """The groups with their judgements. Raises UnreachableError, which includes JudgeError."""
        judged = self.policies.processes.broadcast_from_main(pending.result.result, JUDGED)
        if self.publisher is None or self.config.overlap:
            return judged  # With overlap, the policy has changed since the engine sampled.
        groups = self._with_logps([group for group, _ in judged.groups])
        verdicts = (verdict for _, verdict in judged.groups)
        return JudgedGroups(list(zip(groups, verdicts, strict=True)), judged.cost)

    def open(self) -> None:
        """Load the current module into an engine, so that a refusal shows at once."""
        if self.publisher is not None:
            self.publisher.publish(self.policies.modules, self.leader(), label="start")

    def close(self) -> None:
        """Leave nothing behind in an engine."""
        if self.publisher is not None:
            self.publisher.unload()

    def to_json(self, pending: PendingRollouts) -> dict[str, Any]:
        """Unfinished rollouts, as JSON; those being judged will be judged again."""
        return {
            "prompts": [asdict(prompt) for prompt in pending.prompts],
            "seed": pending.seed,
            "groups": pending.groups and [GROUP.encode(group) for group in pending.groups],
        }

    def from_json(self, saved: dict[str, Any]) -> PendingRollouts:
        """Rollouts that `to_json` returned; an engine samples again, with the current policy."""
        prompts = [example_from_json(Prompt, prompt) for prompt in saved["prompts"]]
        if saved["groups"] is None:
            return self.begin(prompts, seed=saved["seed"])
        groups = [GROUP.decode(group) for group in saved["groups"]]
        return self._judge_later(prompts, saved["seed"], groups)

    def _judge_later(
        self, prompts: list[Prompt], seed: int, groups: list[CompletionGroup]
    ) -> PendingRollouts:
        pending = PendingRollouts(prompts, seed, groups, Future())
        self._work(pending, lambda: self._judge(groups))
        return pending

    def _work(self, pending: PendingRollouts, work: Callable[[], JudgedGroups]) -> None:
        """Run `work`, with `overlap` in the background: a daemon, so that no judge delays exit."""
        if self.policies.processes.rank > 0:
            return
        if self.config.overlap:
            Thread(target=_settle, args=(pending.result, work), daemon=True).start()
        else:
            _settle(pending.result, work)

    def _ask_engine(self, engine: Engine, pending: PendingRollouts) -> JudgedGroups:
        # Without overlap the policy is still there to score them; with it, the engine must.
        groups = generate_with_engine(
            engine,
            self.encoder,
            self.config,
            pending.prompts,
            seed=pending.seed,
            logps=self.config.overlap and not self.distinct,
        )
        return self._judge(self._kept(groups))

    def _kept(self, groups: list[CompletionGroup]) -> list[CompletionGroup]:
        return drop_duplicates(groups) if self.distinct else groups

    def _judge(self, groups: list[CompletionGroup]) -> JudgedGroups:
        before = dict(self.judge.cost)
        judgements = self.judge.judge([group.request for group in groups])
        cost = {key: value - before.get(key, 0) for key, value in self.judge.cost.items()}
        return JudgedGroups(list(zip(groups, judgements, strict=True)), cost)

    def _with_logps(self, groups: list[CompletionGroup]) -> list[CompletionGroup]:
        return with_logps(self.policies, self.leader(), groups, temperature=self.config.temperature)


def sampling_seed(recipe: Recipe, part: int = 0) -> int:
    """The first seed of the completions of a run or a round; they are far enough apart that no two
    share a seed."""
    # Later seeds count up from here; torch takes 64 bits, engines 63.
    return ((recipe.seed + 1) * 1_000_003 + part * 100_003) % 2**62


def _settle(result: "Future[JudgedGroups]", work: Callable[[], JudgedGroups]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:  # Raised when the result is read.
        result.set_exception(error)
