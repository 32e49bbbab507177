"""`fastslow recipe`: what can stand in a recipe, from the same text as docs/recipe.md."""

import typer

from fastslow.cli.console import say


def recipe(
    key: str = typer.Argument(
        None, metavar="[SECTION[.KEY]]", help="Only this section or key, as data or chase.alpha."
    ),
) -> None:
    """Explain the keys of a recipe: types, defaults, meaning."""
    from fastslow.config.reference import describe

    say(describe(key))
