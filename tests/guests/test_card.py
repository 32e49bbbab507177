"""Texts of somebody else's folder stay text in the model card that is made of it."""

import json
import re

import pytest
import yaml
from markdown_it import MarkdownIt

PAYLOADS = [
    "a\n---\nlicense: stolen\n---\n# b",
    "`x` <script>alert(1)</script> ``` y",
    "[click](javascript:alert(1)) ![p](http://e.org/p.png)",
    "a | b |\n| c",
    "a \\| b \\\\| c",
    "\\`<img src=x onerror=alert(1)>",
    "\u202egnp.exe\x1b[2J",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
@pytest.mark.parametrize("merged", [False, True])
def test_no_text_of_a_folder_is_markup_in_its_card(foreign, cli, tmp_path, payload, merged):
    name = payload.replace("/", "\\")
    folder = foreign(name=f"run {name}", data={"train": f"/x/{name}.jsonl", "template": payload})
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    summary |= {"reference": payload, "warnings": [payload], "parts": []}
    summary["versions"][payload] = payload
    summary["data"][payload] = 1
    summary["eval"]["final"] |= {"accuracy": payload, "loss": payload, "pairs": payload}
    path.write_text(json.dumps(summary))
    code, _, err = cli("export", folder, "--to", tmp_path / "out", *["--merged"] * merged)
    assert code == 0, err
    text = (tmp_path / "out" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert set(yaml.safe_load(head)) == {"library_name", "pipeline_tag", "tags"}
    assert "stolen" not in head and "\x1b" not in text and "\u202e" not in text
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(body)
    inner = [child for token in tokens for child in token.children or ()]
    assert not [t for t in tokens + inner if t.type in ("html_block", "html_inline", "image", "hr")]
    assert not [t for t in inner if t.type.startswith("link")]
    headings = [t.content for t in tokens if t.type == "inline" and t.level == 1 and t.content]
    assert "b" not in headings
    for cells in tables(body):
        assert len(set(cells)) == 1, cells


def tables(body):
    """The number of cells in each row, table by table."""
    for block in body.split("\n\n"):
        rows = [line for line in block.strip().splitlines() if line.startswith("|")]
        if rows:
            yield [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
