"""Asking: the policy answers some prompts, a judge compares, maybe while something else is learned.

What needs the model happens where it is asked; the judge, and an engine that answers in the
policy's stead, can be waited for in the background. Of several processes the first one waits.
"""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

from fastslow.config import OnlineConfig
from fastslow.judges import Judge, Judgement
from fastslow.records import Prompt
from fastslow.sampling import Engine
from fastslow.scoring import Encoder, Tree
from fastslow.training.data.serialization import frozen, record
from fastslow.training.distributed.processes import Team
from fastslow.training.on_policy.generation import (
    Answered,
    given_by,
    given_here,
    usable,
    with_logps,
)
from fastslow.training.policies.policies import Policies

Judged = list[tuple[Answered, Judgement]]


@dataclass(slots=True)
class Draw:
    """Prompts that were asked, and what comes of it."""

    prompts: list[Prompt]
    seed: int
    answered: list[Answered] | None
    """None as long as an engine is at it."""
    result: Future[Judged]


@dataclass(slots=True)
class Asker:
    """Has prompts answered and judged.

    Args:
        leader: names the policy that answers now.
        different: as of `answering.usable`.
        engine: answers in the policy's stead; modules are written for it into `folder`.
    """

    policies: Policies
    encoder: Encoder
    judge: Judge
    config: OnlineConfig
    leader: Callable[[], str]
    different: bool
    engine: Engine | None
    folder: Path
    _served: int | None = None
    """The moment of the module that the engine has."""

    def begin(self, prompts: Sequence[Prompt], *, seed: int, moment: int | None = None) -> Draw:
        """Ask the policy of now; it is the same as long as the `moment` is."""
        asked = list(prompts)
        if self.engine is not None:
            if moment is None or moment != self._served:
                Team().from_first(partial(self._hand_over, self.engine, seed))
                self._served = moment
            draw = Draw(asked, seed, None, Future())
            self._work(draw, lambda: self._ask_engine(draw))
            return draw
        given = given_here(
            self.policies, self.leader(), self.encoder, self.config, asked, seed=seed
        )
        answered = usable(asked, given, different=self.different)
        return self._judged_later(asked, seed, self._with_logps(answered))

    def finish(self, draw: Draw) -> Judged:
        """The answers and judgements. Raises UnreachableError, JudgeError among them."""
        judged = Team().from_first(draw.result.result)
        if self.engine is None or self.config.overlap:
            return judged  # What the policy was when an engine began to answer is gone by now.
        answered = self._with_logps([one for one, _ in judged])
        return [(one, judgement) for one, (_, judgement) in zip(answered, judged, strict=True)]

    def to_json(self, draw: Draw) -> dict[str, Any]:
        """A draw that is not finished; what is being judged is judged again."""
        return {
            "prompts": [asdict(prompt) for prompt in draw.prompts],
            "seed": draw.seed,
            "answered": draw.answered and [asdict(one) for one in draw.answered],
        }

    def from_json(self, given: dict[str, Any]) -> Draw:
        """What `to_json` gave; an engine is asked again, with the policy of now."""
        prompts = [record(Prompt, one) for one in given["prompts"]]
        if given["answered"] is None:
            return self.begin(prompts, seed=given["seed"])
        answered = [_answered(one) for one in given["answered"]]
        return self._judged_later(prompts, given["seed"], answered)

    def _judged_later(self, prompts: list[Prompt], seed: int, answered: list[Answered]) -> Draw:
        draw = Draw(prompts, seed, answered, Future())
        self._work(draw, lambda: self._judge(answered))
        return draw

    def _work(self, draw: Draw, work: Callable[[], Judged]) -> None:
        """In the background where that is wanted. A daemon, so that no judge delays an end."""
        if Team().rank > 0:
            return
        if self.config.overlap:
            Thread(target=_settle, args=(draw.result, work), daemon=True).start()
        else:
            _settle(draw.result, work)

    def _ask_engine(self, draw: Draw) -> Judged:
        assert self.engine is not None
        given = given_by(self.engine, self.encoder, self.config, draw.prompts, seed=draw.seed)
        return self._judge(usable(draw.prompts, given, different=self.different))

    def _judge(self, answered: list[Answered]) -> Judged:
        judgements = self.judge.judge([one.asked for one in answered])
        return list(zip(answered, judgements, strict=True))

    def _with_logps(self, answered: list[Answered]) -> list[Answered]:
        return with_logps(
            self.policies, self.leader(), answered, temperature=self.config.temperature
        )

    def _hand_over(self, engine: Engine, seed: int) -> None:
        """Give the engine the leader's module of now, and take the one before away."""
        self.folder.mkdir(parents=True, exist_ok=True)
        before = sorted(self.folder.glob("module-*"))
        to = self.folder / f"module-{seed}"
        if to in before:
            shutil.rmtree(to)
        self.policies.modules.save(self.leader(), to)
        engine.load(f"fastslow-{uuid4().hex[:12]}", to)
        for old in before:
            if old != to:
                shutil.rmtree(old)


def _settle(result: "Future[Judged]", work: Callable[[], Judged]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:  # Raised where the result is asked for.
        result.set_exception(error)


def _answered(given: dict[str, Any]) -> Answered:
    rest = {name: value for name, value in given.items() if name not in ("prompt", "tree")}
    return Answered(
        prompt=record(Prompt, given["prompt"]),
        tree=Tree(**frozen(given["tree"])),
        **frozen(rest),
    )
