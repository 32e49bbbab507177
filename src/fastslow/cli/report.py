"""`fastslow report`: a page or a table that shows a run, or compares several."""

from pathlib import Path

import typer

from fastslow.cli.console import say


def report(
    runs: list[Path] = typer.Argument(
        metavar="RUN",
        help="Run folders; several are compared. Or the folder of one `bench online` or `demo`.",
    ),
    style: str = typer.Option(
        "html", "--format", help="html; or the table of results as csv, latex or markdown."
    ),
    to: Path = typer.Option(
        None,
        help="Output file. Default: report.html in the run folder, for several runs in this one; a "
        "table is printed.",
    ),
    show: bool = typer.Option(False, "--open", help="Open the page in a browser."),
) -> None:
    """One self-contained HTML page: curves, who led when, likelihoods, frontier, retention."""
    from fastslow import write_report
    from fastslow.errors import ConfigError

    if style != "html":
        if show:
            raise ConfigError("--open: only a page opens in a browser; leave out --format")
        _table(runs, style, to)
        return
    page = write_report(runs, to or (runs[0] if len(runs) == 1 else Path()) / "report.html")
    say(f"the report is in {page}")
    if show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _table(runs: list[Path], style: str, to: Path | None) -> None:
    from fastslow.atomic_io import write_text
    from fastslow.disk_errors import disk_errors
    from fastslow.reports import report_table

    text = report_table(runs, style)
    if to is None:
        say(text.removesuffix("\n"))
        return
    with disk_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
    write_text(to, text)
    say(f"the table is in {to}")
