"""`fastslow recipe`: explain a recipe's keys, with the same text as docs/recipe.md."""

import typer

from fastslow.cli.console import say


def recipe(
    key: str = typer.Argument(
        None,
        metavar="SECTION[.KEY]",
        help="Only this section or key, such as data or chase.alpha.",
    ),
) -> None:
    """Explain the keys of a recipe: types, defaults, meaning."""
    from fastslow.config.reference import describe

    section, _, name = (key or "").partition(".")
    if section != "objective" or name == "name":
        say(describe(key))
        return
    # Settings of objectives come with the objectives, not with the recipe's schema.
    from fastslow.objectives.described import setting_text, settings_text

    say(setting_text(name) if name else f"{describe(key)}\n\n{settings_text('dpo')}")
