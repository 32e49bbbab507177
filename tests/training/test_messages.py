"""What processes send one another is JSON in tensors, and arrives as it was sent."""

import ast
import json
from pathlib import Path

import pytest
from two import in_two

import fastslow
from fastslow.errors import ConfigError, DataError, JudgeError, StateError
from fastslow.judges import Judgement
from fastslow.records import Message, Prompt
from fastslow.sampling import Completion
from fastslow.scoring import Tree
from fastslow.training.distributed.messages import ERROR
from fastslow.training.distributed.processes import SUMS
from fastslow.training.on_policy.generation import GROUP, CompletionGroup
from fastslow.training.on_policy.judging import JUDGEMENT
from fastslow.training.on_policy.sampler import JUDGED, JudgedGroups
from fastslow.training.policies.policies import COMPLETION

SCRIPT = """
import json, math, pickle
from dataclasses import asdict
from torch.distributed import distributed_c10d
from fastslow.errors import ConfigError, FastslowError
from fastslow.evaluation import MetricSums
from fastslow.training.distributed.processes import ProcessGroup

def refuse(*given, **named):
    raise AssertionError("pickled")
# After the imports, as some of them pickle; torch has taken its own name for it by then.
pickle.Pickler = pickle.Unpickler = pickle.dumps = pickle.loads = refuse
distributed_c10d._object_to_tensor = distributed_c10d._tensor_to_object = refuse

group = ProcessGroup()
rank = group.rank
told = [
    group.all_gather([rank, "é" * (1 + 5 * rank), 0.1 + 0.2, None]),
    group.gather([f"{rank}-{place}" for place in range(3 - rank)]),
    group.any(rank == 1),
    group.broadcast_from_main(lambda: {"a": [1, 2.5, "x" * 3000]})["a"][:2],
    math.isnan(group.all_gather(float("nan"))[1]),
    asdict(group.merged(MetricSums(1 + rank, {"loss": 0.5 + rank}, {"kl": rank}))),
]

def fail(error):
    raise error
for error in (ConfigError("one", "two"), ValueError("odd")):
    try:
        group.broadcast_from_main(lambda: fail(error))
    except FastslowError as caught:
        told.append([type(caught).__name__, str(caught), list(getattr(caught, "problems", []))])
print("RESULT", json.dumps(told))
"""


@pytest.mark.processes
def test_two_processes_tell_each_other_everything_without_a_pickle():
    first, second = in_two(SCRIPT, ACCELERATE_USE_CPU="true")
    assert first == second
    (told,) = first
    third = 0.1 + 0.2
    assert told == [
        [[0, "é", third, None], [1, "éééééé", third, None]],
        ["0-0", "1-0", "0-1", "1-1", "0-2"],
        True,
        [1, 2.5],
        True,
        {"count": 3, "sums": {"loss": 2.0}, "counts": {"kl": 1}},
        ["ConfigError", "2 problems:\n  - one\n  - two", ["one", "two"]],
        ["StateError", "the main process raised ValueError: odd", []],
    ]


def test_every_kind_of_message_arrives_as_it_was():
    prompt = Prompt((Message("user", "hi"),), domain="d", provenance={"row": [1, {"x": 2}]})
    group = CompletionGroup(
        prompt, ("a", "b"), Tree((1, 2), ((3,), (4, 5))), (True, False), (-0.1, -2.5)
    )
    verdict = Judgement((1.0, float("-inf")), (0.75, 0.25))
    for codec, value in (
        (GROUP, group),
        (JUDGEMENT, verdict),
        (COMPLETION, Completion((1, 2), True)),
        (JUDGED, JudgedGroups([(group, verdict)], {"requests": 3})),
    ):
        assert codec.decode(json.loads(json.dumps(codec.encode(value)))) == value
    for error in (ConfigError("a", "b"), DataError("c"), StateError("d"), JudgeError("e")):
        again = ERROR.decode(json.loads(json.dumps(ERROR.encode(error))))
        assert (type(again), str(again)) == (type(error), str(error))
    assert SUMS.encode(SUMS.decode({"count": 2, "sums": {"a": 1.5}, "counts": {}}))["count"] == 2


def test_an_error_of_a_users_own_kind_arrives_as_the_nearest_one():
    class Own(JudgeError):
        pass

    assert type(ERROR.decode(ERROR.encode(Own("gone")))) is JudgeError


def test_nothing_of_the_package_pickles():
    called = {"gather_object", "broadcast_object_list", "all_gather_object", "scatter_object_list"}
    for path in Path(fastslow.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & (called | {"pickle", "cloudpickle", "dill"}), path
