"""A real AlpacaEval: it asks a judge behind a URL its own question, and we read its win rate.

`make test-tools` installs it into an environment of its own and runs this.
"""

import json
import math
import os
import re

import pytest
import tiny

import fastslow as fs

PYTHON = os.environ.get("FASTSLOW_ALPACA_EVAL")
"""The Python of an environment with alpaca-eval."""
SHOWN = re.compile(r'"model_identifier": "([mM])",\s+"output": """(.*?)"""', re.DOTALL)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="needs FASTSLOW_ALPACA_EVAL"),
]


def preferring_short(path, body):
    """A judge that prefers the shorter answer, and says how surely by its log-probs."""
    lengths = {name: len(text) for name, text in SHOWN.findall(body["messages"][-1]["content"])}
    first = 1 / (1 + math.exp((lengths["m"] - lengths["M"]) / 50))
    top = [{"token": "m", "bytes": [109], "logprob": math.log(first)},
           {"token": "M", "bytes": [77], "logprob": math.log(1 - first)}]  # fmt: skip
    said = max(top, key=lambda token: token["logprob"])
    choice = {"index": 0, "finish_reason": "length",
              "message": {"role": "assistant", "content": said["token"]},
              "logprobs": {"content": [said | {"top_logprobs": top}]}}  # fmt: skip
    head = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return 200, head | {"choices": [choice], "usage": usage}


def test_a_local_judge_gives_the_win_rate_of_its_log_probs(
    model_folder, train_file, tmp_path, loopback, monkeypatch
):
    monkeypatch.setenv("THE_KEY", "secret")
    run = fs.train(
        {
            "model": str(model_folder),
            "output_dir": str(tmp_path / "run"),
            "data": {"train": str(train_file), "max_length": 96},
            "lora": {"rank": 2, "alpha": 4.0},
            "train": {"batch_size": 8, "max_steps": 1},
        }
    )
    rows = [{"instruction": f"Describe the {thing}.", "output": "A song. " * (1 + 4 * place)}
            for place, thing in enumerate(tiny.THINGS)]  # fmt: skip
    references = tmp_path / "references.json"
    references.write_text(json.dumps(rows))
    server = loopback(preferring_short)
    judge = {"kind": "llm", "url": server.url, "model": "tiny-instruct", "api_key_env": "THE_KEY"}
    found = fs.evaluate_with(
        run, "alpaca-eval", data=references, judge=judge, max_new_tokens=24, python=PYTHON
    )
    outputs = json.loads((found.folder / "model_outputs.json").read_text())
    gaps = [len(theirs["output"]) - len(ours["output"])
            for theirs, ours in zip(rows, outputs, strict=True)]  # fmt: skip
    expected = [1 / (1 + math.exp(-gap / 50)) for gap in gaps]
    values = {score.metric: score for score in found.result.scores}
    assert values["win_rate"].value == pytest.approx(100 * sum(expected) / len(rows), abs=0.1)
    assert values["win_rate"].count == len(rows) and values["win_rate"].stderr > 0
    assert found.result.version.startswith("0.6")
    paths, keys, bodies = zip(*server.requests, strict=True)
    assert set(paths) == {"/v1/chat/completions"} and set(keys) == {"Bearer secret"}
    assert {body["model"] for body in bodies} == {"tiny-instruct"}
