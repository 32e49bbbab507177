"""Tables in Markdown on the screen, and where they were written."""

from pathlib import Path

from fastslow.cli.console import screen


def show_tables(markdown: str, *written: Path) -> None:
    """Print the tables, and the files that hold them."""
    from rich.markdown import Markdown

    console = screen()
    console.print(Markdown(markdown))
    console.print(f"written: {', '.join(map(str, written))}", soft_wrap=True)
