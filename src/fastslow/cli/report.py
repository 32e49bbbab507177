"""`fastslow report`: one page that shows a run, or compares several."""

from pathlib import Path

import typer

from fastslow.cli.console import say


def report(
    runs: list[Path] = typer.Argument(
        metavar="RUN...",
        help="Run folders; several are compared. Or the folder of one `bench online` or `demo`.",
    ),
    to: Path = typer.Option(
        None, help="The page. Default: report.html in the run folder; here for several runs."
    ),
    show: bool = typer.Option(False, "--open", help="Open the page in a browser."),
) -> None:
    """One self-contained HTML page: curves, who led when, likelihoods, frontier, retention."""
    from fastslow import write_report

    page = write_report(runs, to or (runs[0] if len(runs) == 1 else Path()) / "report.html")
    say(f"the report is in {page}")
    if show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
