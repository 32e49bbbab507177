"""`fastslow push`: a run's result to the Hugging Face Hub."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fastslow.cli.arguments import TrustCode
from fastslow.cli.console import say, say_json, tell

if TYPE_CHECKING:
    from fastslow.hub import Pushed


def push(
    run: Path = typer.Argument(metavar="RUN", help="Run folder."),
    repo: str = typer.Argument(
        metavar="OWNER/NAME", help="Repository on the Hub; created if it does not exist."
    ),
    merged: bool = typer.Option(False, "--merged", help="Fold the module into the base model."),
    module: str = typer.Option("leader", help="leader or a module's name."),
    dtype: str = typer.Option(
        None, help="float32, bfloat16 or float16, for --merged. Default: the base's."
    ),
    public: bool = typer.Option(
        False, "--public", help="Make the repository public; a new one is private by default."
    ),
    base_model: str = typer.Option(
        None, help="OWNER/NAME of the base on the Hub, if it was a local folder."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="List the files and send nothing."),
    trust_code: bool = TrustCode,
    json_output: bool = typer.Option(False, "--json", help="Print what was uploaded as JSON."),
) -> None:
    """Upload what `export` writes, with its model card, in one commit.

    Log in with HF_TOKEN or `hf auth login`.
    """
    from fastslow import Run
    from fastslow.adapters.library_logging import quiet_libraries

    quiet_libraries()
    pushed = Run.load(run, trust_code=trust_code).push_to_hub(
        repo,
        module=module,
        merged=merged,
        dtype=dtype,
        private=not public,
        base_model=base_model,
        dry_run=dry_run,
        on_files=_list,
    )
    if json_output:
        say_json(asdict(pushed))
    elif dry_run:
        say(f"nothing was sent; without --dry-run it goes to {pushed.url}")
    else:
        say(pushed.url)


def _list(planned: "Pushed") -> None:
    visibility = "private" if planned.private else "public"
    tell(f"to {planned.repo} ({visibility}), {sum(planned.files.values()):,} bytes:")
    for name, size in planned.files.items():
        tell(f"  {name}  {size:,}")
