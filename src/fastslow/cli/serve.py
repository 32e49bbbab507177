"""`fastslow serve`: people compare answers on a page or over HTTP."""

import os
from pathlib import Path

import typer

from fastslow.cli.console import say
from fastslow.cli.extras import check_installed

SECRET = "FASTSLOW_WEBHOOK_SECRET"


def serve(
    folder: Path = typer.Argument(metavar="DIR", help="Its store and tokens; made if need be."),
    overrides: list[str] = typer.Argument(
        None, metavar="[SECTION.KEY=VALUE]...", help="Settings of a recipe; model=... answers."
    ),
    port: int = typer.Option(8000, min=0, max=65535, help="0 takes any that is free."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    host_name: list[str] = typer.Option(
        None, help="Name by which a proxy's users ask for this server; repeatable."
    ),
    store: str = typer.Option(
        None, help="postgresql+psycopg://... in place of SQLite in the folder."
    ),
    pairs: list[str] = typer.Option(
        None, help="File of pairs to put up for comparison, as data.train takes it; repeatable."
    ),
    prompts: list[str] = typer.Option(
        None, help="File of prompts that the model answers twice, to be compared; repeatable."
    ),
    adapter: list[Path] = typer.Option(
        None, help="Adapter that answers beside the model's base; the last one by default."
    ),
    engine: str = typer.Option(
        None, help="URL of an engine with OpenAI's API that answers, as http://127.0.0.1:8001/v1."
    ),
    engine_model: str = typer.Option(None, help="Its base model; the only one by default."),
    learn: bool = typer.Option(
        False, "--learn", help="Learn from the votes beside it, as `fastslow learn` does."
    ),
    webhook: str = typer.Option(None, help=f"URL that is told of new rows, signed with ${SECRET}."),
) -> None:
    """Let people compare answers, and keep their votes as training data."""
    check_installed("fastslow.serve.server", what="serving", extra="serve")
    from fastslow.serve import Settings
    from fastslow.serve.engine.opening import EngineChoice
    from fastslow.serve.server import serve as run

    if (overrides or adapter) and engine is None:
        from fastslow.adapters.library_logging import quiet_libraries

        quiet_libraries()
    run(
        folder,
        host=host,
        port=port,
        settings=Settings(
            hosts=(*Settings().hosts, *(host_name or ())),
            webhook=webhook,
            webhook_secret=_secret(webhook),
        ),
        store_url=store,
        pairs=pairs or [],
        prompts=prompts or [],
        answers=EngineChoice(
            overrides or [], adapter or [], engine, engine_model, _threads() if learn else None
        ),
        learning=_learning(overrides or [], store) if learn else None,
        say=say,
    )


def _threads() -> int:
    """That answer beside a learner."""
    from fastslow.serve.supervised import threads_of_both

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # Read when torch is loaded, later.
    return threads_of_both()[0]


def _learning(overrides: list[str], store: str | None) -> list[str]:
    """The arguments of `fastslow learn` after the folder."""
    from fastslow.errors import ConfigError

    if not overrides:
        raise ConfigError("--learn: needs the model that learns; add model=path/to/model")
    return [*overrides, *(["--store", store] if store else [])]


def _secret(webhook: str | None) -> str | None:
    """What messages are signed by."""
    from fastslow.errors import ConfigError

    secret = os.environ.get(SECRET)
    if webhook is not None and not secret:
        raise ConfigError(f"--webhook needs its secret in ${SECRET}, 24 bytes or more in base64")
    return secret
