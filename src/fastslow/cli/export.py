"""`fastslow export`: a run's result as an adapter or as a merged model."""

from pathlib import Path

import typer

from fastslow.cli.arguments import TrustCode
from fastslow.cli.console import say, say_json


def export(
    run: Path = typer.Argument(metavar="RUN", help="Run folder."),
    to: Path = typer.Option(..., help="Folder to write; it must not exist yet."),
    merged: bool = typer.Option(False, "--merged", help="Fold the module into the base model."),
    module: str = typer.Option("leader", help="leader or a module's name."),
    dtype: str = typer.Option(
        None, help="float32, bfloat16 or float16, for --merged. Default: the base's."
    ),
    trust_code: bool = TrustCode,
    json_output: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Write a PEFT adapter, or a whole model whose answers are checked against the adapter's."""
    from dataclasses import asdict

    from fastslow.errors import ConfigError

    if dtype and not merged:
        raise ConfigError("--dtype has no effect without --merged: an adapter keeps its float32")

    from fastslow import Run
    from fastslow.adapters.library_logging import quiet_libraries

    quiet_libraries()
    opened = Run.load(run, trust_code=trust_code)
    if not merged:
        name = opened.export(to, module=module)
        if json_output:
            say_json({"adapter": name, "path": str(to)})
        else:
            say(f"{to}: {name}")
        return
    check = opened.merge_and_unload(to, module=module, dtype=dtype)
    if json_output:
        say_json({"path": str(to), **asdict(check)})
        return
    say(
        f"{to}: merged model in {check.dtype}; over {check.probes} probe tokens its KL to the "
        f"adapter is {check.error:.2e} nats per token, the adapter's own effect {check.effect:.2e}"
    )
