"""Text from data, folders and servers is text on the terminal."""

import io
import json

import pytest
import tiny
from rich.table import Table
from rich.text import Text

from fastslow.cli.console import CONTROLS, say, say_json, tell, visible
from fastslow.cli.screen import Screen

TITLE = "\x1b]0;OWNED\x07\x1b[2J"
PAYLOADS = [
    TITLE, "\x9b2J", "\x08\x08\x7f", "\r", "\u202egnp.exe", "\u2066x", "\ud800", "\U000e0041",
    "\u2028",
]  # fmt: skip


def test_controls_are_written_out_and_the_rest_stays():
    assert visible("a\x1b[2J\x9b\r") == "a\\x1b[2J\\x9b\\r"
    assert visible("\u202e") == "\\u202e"
    plain = "Grüße, 你好, שלום, 👩‍👩‍👧, é\n\ttab [bold]x[/bold] {a} \\n"
    assert visible(plain) == plain


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_no_way_to_print_passes_them(payload, capsys):
    say(f"say {payload}")
    tell(f"tell {payload}")
    say_json({"key": payload})
    for console in (Screen(file=(shown := io.StringIO()), width=60),):
        console.print(f"plain {payload}", style="bold")
        console.print(Text.assemble(("styled ", "red"), payload))
        table = Table(payload, "b")
        table.add_row(payload, f"[red]{payload}[/red]")
        console.print(table)
    out, err = capsys.readouterr()
    for text in (out, err, shown.getvalue()):
        assert not CONTROLS.search(text), ascii(text)
    assert "[red]" in shown.getvalue()  # No markup either.
    assert json.loads(out.splitlines()[-1]) == {"key": payload}


def test_styles_still_work_on_a_terminal():
    console = Screen(file=(shown := io.StringIO()), force_terminal=True, highlight=False)
    console.print("calm\x1b[2J", style="bold")
    assert "\x1b[1mcalm\\x1b[2J\x1b[0m" in shown.getvalue()


@pytest.fixture
def hostile(model_folder, tmp_path):
    """A recipe over rows whose every text holds a payload."""
    rows = [
        {
            "prompt": f"Describe {TITLE} {number}.",
            "chosen": f"good{TITLE}",
            "rejected": "bad",
            "domain": f"[red]d{TITLE}",
        }
        for number in range(40)
    ]
    tiny.write_rows(tmp_path / "rows.jsonl", [*rows, {"prompt": "x", TITLE: 1}])
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {model_folder}\n"
        f"output_dir: {tmp_path / 'run'}\n"
        f"data: {{train: {tmp_path / 'rows.jsonl'}, eval: {tmp_path / 'rows.jsonl'}, "
        "max_length: 128, max_bad_fraction: 0.5}\n"
        "eval: {num_prompts: 1, max_new_tokens: 4}\n"
        "train: {max_steps: 1, batch_size: 4}\n"
    )
    return path


def test_no_command_passes_what_rows_hold(hostile, cli, tmp_path):
    run = tmp_path / "run"
    for arguments in (
        ("validate", hostile),
        ("validate", hostile, "data.max_bad_fraction=0"),
        ("train", hostile),
        ("eval", run),
        ("sample", run, f"Hi {TITLE}", "--max-new-tokens", 4),
        ("sample", run, f"Hi {TITLE}", "--max-new-tokens", 4, "--json"),
        ("sample", run, "Hi", "--module", TITLE),
        ("report", run),
        ("export", run, "--to", tmp_path / f"x{TITLE}"),
    ):
        _, out, err = cli(*arguments)
        for text in (out, err):
            assert not CONTROLS.search(text), (arguments[0], ascii(text))
