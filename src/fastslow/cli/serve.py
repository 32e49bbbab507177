"""`fastslow serve`: people compare answers on a page or over HTTP."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fastslow.cli.console import say
from fastslow.cli.extras import check_installed
from fastslow.cli.learn import DEFAULTS

if TYPE_CHECKING:
    from fastslow.serve import Settings
    from fastslow.serve.engine.opening import EngineChoice

TEMPLATE = "data.chat_template_kwargs"
"""Settings below it also go to a remote engine."""
SECRET = "FASTSLOW_WEBHOOK_SECRET"


def serve(
    folder: Path = typer.Argument(
        metavar="DIR", help="Folder of the store and the tokens; created if needed."
    ),
    overrides: list[str] = typer.Argument(
        None,
        metavar="SECTION.KEY=VALUE",
        help="Settings of a recipe; model=... is the model that answers.",
    ),
    port: int = typer.Option(8000, min=0, max=65535, help="0 takes any free port."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    host_name: list[str] = typer.Option(
        None, help="Host name of this server behind a proxy; repeatable."
    ),
    store: str = typer.Option(
        None, help="postgresql+psycopg://... in place of SQLite in the folder."
    ),
    pairs: list[str] = typer.Option(
        None, help="File of pairs to put up for comparison, as data.train takes it; repeatable."
    ),
    prompts: list[str] = typer.Option(
        None, help="File of prompts that the model answers twice, for comparison; repeatable."
    ),
    adapter: list[Path] = typer.Option(
        None, help="Adapter to serve beside the base; the last one is the default; repeatable."
    ),
    engine: str = typer.Option(
        None,
        help="URL of an engine with OpenAI's API that answers, such as http://127.0.0.1:8001/v1.",
    ),
    engine_model: str = typer.Option(None, help="Its base model; the only one by default."),
    answer_tokens: int = typer.Option(
        1024, min=1, help="Longest answer of a pair, or of a chat that names no limit, in tokens."
    ),
    learn: bool = typer.Option(
        False, "--learn", help="Also learn from the votes, as `fastslow learn` does."
    ),
    webhook: str = typer.Option(None, help=f"URL to notify of new rows, signed with ${SECRET}."),
    workers: int = typer.Option(
        1, min=1, help="Processes that answer; several need PostgreSQL, and an engine by URL."
    ),
) -> None:
    """Let people compare answers, and keep their votes as training data."""
    check_installed("fastslow.serve.server", what="serving", extra="serve")
    from fastslow.serve.server import serve as run
    from fastslow.serve.workers import Serving

    answers = _answers(overrides or [], adapter or [], engine, engine_model, learn)
    settings = _settings(host_name or [], answer_tokens, webhook)
    run(
        Serving(folder, settings, answers, prompts or [], store),
        host=host,
        port=port,
        pairs=pairs or [],
        learning=_learning(overrides or [], store) if learn else None,
        workers=workers,
        say=say,
    )


def _answers(
    settings: list[str], adapters: list[Path], url: str | None, model: str | None, learn: bool
) -> "EngineChoice":
    """What answers. With an engine by URL, settings are the learner's, except those of the chat
    template, which must be the same for both."""
    from fastslow.config import load_recipe
    from fastslow.serve.engine.opening import EngineChoice
    from fastslow.serve.supervised import threads_of_both

    threads = threads_of_both()[0] if learn else None
    if url is None:
        return EngineChoice(settings, adapters, model=model, threads=threads)
    others = [] if learn else [setting for setting in settings if not setting.startswith(TEMPLATE)]
    recipe = load_recipe({**DEFAULTS, "model": url}, [] if others else settings)
    template = recipe.data.chat_template_kwargs
    return EngineChoice(others, adapters, url, model, threads, template)


def _learning(overrides: list[str], store: str | None) -> list[str]:
    """The arguments of `fastslow learn` after the folder."""
    from fastslow.errors import ConfigError

    if not overrides:
        raise ConfigError("--learn: needs the model that learns; add model=path/to/model")
    return [*overrides, *(["--store", store] if store else [])]


def _settings(host_names: list[str], answer_tokens: int, webhook: str | None) -> "Settings":
    """The server's settings, with the secret that signs messages."""
    from fastslow.serve import Settings
    from fastslow.serve.webhooks import check_webhook

    secret = os.environ.get(SECRET)
    if webhook is not None:
        check_webhook(webhook, secret)
    hosts = (*Settings().hosts, *host_names)
    return Settings(
        hosts=hosts, answer_tokens=answer_tokens, webhook=webhook, webhook_secret=secret
    )
