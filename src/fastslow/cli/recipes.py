"""`fastslow recipes`: the recipes that come with fastslow, listed or printed."""

import typer


def recipes(
    name: str = typer.Argument(None, metavar="NAME", help="Print this one, as YAML."),
) -> None:
    """List the recipes that come with fastslow, or print one: `fastslow recipes NAME > my.yaml`."""
    from fastslow.config import recipe_names, recipe_summary, recipe_text

    if name is not None:
        print(recipe_text(name), end="")
        return
    names = recipe_names()
    width = max(map(len, names))
    for known in names:
        print(f"{known:{width}}  {recipe_summary(known)}")
