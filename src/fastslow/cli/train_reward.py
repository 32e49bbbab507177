"""`fastslow train-reward`: train a model that scores answers, for the judge `reward_model`."""

from pathlib import Path

import typer

from fastslow.cli.train import train


def train_reward(
    recipe: Path = typer.Argument(help="YAML recipe; its `trains` is set to reward."),
    overrides: list[str] = typer.Argument(
        None, metavar="[SECTION.KEY=VALUE]...", help="Settings that replace the recipe's."
    ),
    json_output: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Train a reward model on preferences. Ctrl-C writes a checkpoint, from which it goes on."""
    train(recipe, ["task=reward", *(overrides or [])], json_output)
