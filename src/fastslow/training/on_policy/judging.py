"""A judge is asked in the main process; its judgements are the same in all of them."""

from collections.abc import Sequence
from dataclasses import astuple
from functools import partial

from fastslow.judges import Judge, Judgement, JudgeRequest
from fastslow.training.data.serialization import to_tuples
from fastslow.training.distributed.messages import Codec, list_of
from fastslow.training.distributed.processes import ProcessGroup

JUDGEMENT: Codec[Judgement] = Codec(astuple, lambda sent: Judgement(*to_tuples(sent)))


def judge_in_main(
    judge: Judge, requests: Sequence[JudgeRequest], processes: ProcessGroup
) -> list[Judgement]:
    """A judgement of each request. Raises JudgeError in all processes if the judge fails."""
    return processes.broadcast_from_main(partial(judge.judge, requests), list_of(JUDGEMENT))
