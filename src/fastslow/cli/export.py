"""`fastslow export`: a run's answer as an adapter or as a merged model."""

from pathlib import Path

import typer


def export(
    run: Path = typer.Argument(help="Run folder."),
    to: Path = typer.Option(..., help="Folder to write; it must not exist yet."),
    merged: bool = typer.Option(False, "--merged", help="Fold the module into the base model."),
    module: str = typer.Option("leader", help="leader or a module's name."),
    dtype: str = typer.Option(None, help="float32 or bfloat16, for --merged. Default: the base's."),
) -> None:
    """Write a PEFT adapter, or a whole model whose answers are checked against the adapter's."""
    from fastslow.cli.quiet import quiet_libraries
    from fastslow.training.export import export_adapter, export_merged

    quiet_libraries()
    if merged:
        check = export_merged(run, to, module=module, dtype=dtype)
        print(
            f"{to}: merged model in {check.dtype}; on {check.probes} probe tokens its KL to the "
            f"adapter is {check.error:.2e} nats, the adapter's own effect {check.effect:.2e}"
        )
    else:
        print(f"{to}: adapter {export_adapter(run, to, module=module)}")
