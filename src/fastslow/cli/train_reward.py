"""`fastslow train-reward`: train a model that scores answers, for the judge `reward_model`."""

import typer

from fastslow.cli.arguments import Arguments
from fastslow.cli.train import train


def train_reward(
    arguments: list[str] = Arguments,
    json_output: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:
    """Train a reward model on preferences; `task` is set to reward.

    Ctrl-C writes a checkpoint, from which the same command resumes.
    """
    train([*arguments, "task=reward"] if arguments else [], json_output)
