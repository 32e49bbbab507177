"""The page and the notebook run as they stand and print what they show."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from documents import (  # noqa: E402
    NOTEBOOK,
    PAGE,
    ROOT,
    alike,
    cells_of,
    page_blocks,
    run_all,
)

LINES = """
learner = fs.Learner(model, tokenizer, objective="dpo", beta=0.1,
                     peft_config=LoraConfig(r=16), chase=fs.Chase(slow_ratio=0.3))
for batch in fs.batches(dataset, size=16):          # a datasets.Dataset, rows, or paths
    out = learner.step(batch)                       # metrics from before the update
    if out.swapped: print(out.step, learner.leader, out.metrics["loss"])
print(learner.evaluate(test_rows).accuracy, learner.generate(["Hi"], num_generations=2))
learner.save_checkpoint("ckpt"); learner.save_pretrained("out")

run = fs.train(recipe, train_dataset=rows, callback=fn)   # a Run with .status; never None
run = fs.Run.load("runs/x"); run.summary; run.to_pandas()
run.score(rows); run.evaluate("test.jsonl"); run.generate(["Hi"]); run.merge_and_unload("merged")
policy = fs.combine(["runs/a", "runs/b"], weights="learned")
""".strip().splitlines()
"""The API in fifteen lines, as they were agreed on."""


def check(codes, shown):
    for code, printed, expected in zip(codes, run_all(codes), shown, strict=True):
        assert alike(printed, expected), (
            f"run python tests/api/documents.py; this block\n{code}\nprints\n{printed}"
        )


def test_every_block_of_the_page_prints_what_it_shows():
    blocks = page_blocks(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 8
    check([code for code, _ in blocks], [shown for _, shown in blocks])


def test_the_notebook_runs():
    cells = cells_of(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    shown = ["".join("".join(o["text"]) for o in cell["outputs"]) for cell in cells]
    check(["".join(cell["source"]) for cell in cells], shown)


def test_the_notebook_has_the_lines_that_were_agreed_on():
    cells = cells_of(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    text = "\n".join("".join(cell["source"]) for cell in cells)
    assert [line for line in LINES if line not in text] == []
    assert (ROOT / "docs" / "python.md").exists()
