"""The page as a file: whole, self-contained, and deaf to what its data would have it do."""

import builtins
import errno
import json
import re
from html.parser import HTMLParser

import folders
import fork_server
import pytest

from fastslow.errors import ConfigError, StateError
from fastslow.reports import write_report

NASTY = """</script><script>alert("x")</script> & <img src=x onerror=alert(1)> {{ 1 }} 漢 \u2028"""


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of the scripts that hold data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def nasty_run(tmp_path):
    path = folders.continual(
        tmp_path / "run<script>'\"",
        [[0.5], [0.8]],
        domains=("<script>",),
    )
    sample = {"domain": NASTY, "prompt": NASTY, "answers": {NASTY: NASTY}, "rewards": None}
    (path / "samples.json").write_text(json.dumps([sample]))
    with (path / "config.yaml").open("a", encoding="utf-8") as file:
        file.write(f"objective: {{name: {json.dumps(NASTY)}}}\n")
    warning = {"event": "warning", "step": 1, "message": NASTY}
    with (path / "domains" / "01-<script>" / "events.jsonl").open("a") as file:
        file.write(json.dumps(warning) + "\n")
    return path


def test_nothing_from_the_data_becomes_markup(tmp_path):
    page = write_report([nasty_run(tmp_path)], tmp_path / "page.html").read_text(encoding="utf-8")
    tags = [tag for tag, _ in Elements(page).found]
    data = page.count('<script type="application/json">')
    assert tags.count("script") == data + 2, "the figures, plotly and the page's own"
    assert "img" not in tags and "b" not in tags
    assert "&lt;/script&gt;&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page
    assert "{{ 1 }}" in page and "漢" in page
    for text in re.findall(r'<script type="application/json">(.*?)</script>', page, re.S):
        json.loads(text)


def test_the_page_loads_nothing(pair_of_continual_runs, tmp_path):
    page = write_report(pair_of_continual_runs, tmp_path / "page.html").read_text(encoding="utf-8")
    for tag, attributes in Elements(page).found:
        assert not {"src", "srcset", "action", "data", "poster"} & attributes.keys(), tag
        assert attributes.get("href", "#").startswith("#"), attributes
        assert tag not in ("link", "iframe", "object", "embed", "base")
    own = re.sub(r"<script>/\*\*.*?</script>", "", page, count=1, flags=re.S)
    assert len(own) < len(page) / 4, "plotly is taken out"
    assert not re.search(r"https?://|url\(|@import", own)
    assert "default-src 'none'" in page


def test_the_page_stays_small(tmp_path):
    events = [folders.step(n, pairs=n, loss=0.7 + 1e-6 * (n % 7)) for n in range(1, 5001)]
    page = write_report([folders.ordinary(tmp_path / "run", events)], tmp_path / "page.html")
    assert page.stat().st_size < 6.5e6


def test_it_is_written_in_one_step(tmp_path, monkeypatch):
    run = folders.ordinary(tmp_path / "run", [])
    to = tmp_path / "new" / "page.html"
    assert write_report([run], to) == to and [p.name for p in to.parent.iterdir()] == ["page.html"]
    to.write_text("before")
    full = OSError(errno.ENOSPC, "full")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(StateError, match="page.html cannot be written: No space left"):
        write_report([run], to)
    assert to.read_text() == "before" and len(list(to.parent.iterdir())) == 1


def test_a_page_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report([folders.ordinary(tmp_path / "run", [])], tmp_path)


def test_without_plotly_the_message_says_what_to_install(tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == "plotly":
            raise ImportError(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'fastslow\[report\]'"):
        write_report([folders.ordinary(tmp_path / "run", [])], tmp_path / "page.html")


def command(*arguments, cwd):
    return fork_server.run("-m", "fastslow", "report", *arguments, cwd=cwd)


@pytest.mark.processes
def test_the_command_writes_beside_one_run_and_here_for_several(tmp_path):
    for name in ("a", "b"):
        folders.ordinary(tmp_path / name, [folders.step(1, pairs=8, loss=0.7)])
    done = command("a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == "the report is in a/report.html\n" and (tmp_path / "a/report.html").exists()
    )
    assert command("a", "b", cwd=tmp_path).stdout == "the report is in report.html\n"
    assert command("a", "--to", "x/y.html", cwd=tmp_path).stdout == "the report is in x/y.html\n"
    assert (tmp_path / "x" / "y.html").exists()


@pytest.mark.processes
def test_the_commands_mistakes_get_one_message(tmp_path):
    done = command("none", cwd=tmp_path)
    assert done.returncode == 1 and "none is not a run folder" in done.stderr
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    done = command(cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
