"""`fastslow sample`: answers of a finished run."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fastslow.cli.arguments import TrustCode
from fastslow.cli.console import say_json, screen

if TYPE_CHECKING:
    from fastslow.api.view import Answer


def sample(
    run: Path = typer.Argument(metavar="RUN", help="Run folder."),
    prompts: list[str] = typer.Argument(None, metavar="PROMPT", help="Prompts to answer."),
    data: list[str] = typer.Option(None, help="Read prompts from the rows of these files."),
    limit: int = typer.Option(8, min=1, help="Use only the first N rows of these files."),
    module: list[str] = typer.Option(
        ["leader"], help="leader, a module's name, reference or base; give several to compare."
    ),
    count: int = typer.Option(1, "--count", "-n", min=1, help="Answers to each prompt."),
    temperature: float = typer.Option(1.0, min=0.0, help="0 takes the likeliest token."),
    top_p: float = typer.Option(1.0, min=0.01, max=1.0, help="Nucleus to sample from."),
    max_new_tokens: int = typer.Option(
        None,
        min=1,
        help="Longest answer, in tokens. Default: 128, or half of data.max_length if less.",
    ),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same answers."),
    trust_code: bool = TrustCode,
    json_output: bool = typer.Option(False, "--json", help="Print one JSON object per answer."),
) -> None:
    """Answer prompts with the run's leader, or with several of its policies side by side."""
    from fastslow.errors import ConfigError

    if not prompts and not data:
        raise ConfigError("give prompts as arguments, or files of them with --data")

    from itertools import islice

    from fastslow import Run
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.streams import open_sources, read_prompts

    quiet_libraries()
    opened = Run.load(run, trust_code=trust_code)
    sources = open_sources(data or [])
    rows = islice(read_prompts(sources, columns=opened.recipe.data.columns), limit)
    for prompt in [*(prompts or []), *rows]:
        answers = {
            name: opened.answers(
                [prompt],
                num_generations=count,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
                module=name,
            )[0]
            for name in module
        }
        shown = opened.prompt_text(prompt, max_new_tokens=max_new_tokens)
        if json_output:
            _print_json(shown, {opened.policy(name): texts for name, texts in answers.items()})
        else:
            _print_text(shown, answers)


def _print_json(prompt: str, found: "dict[str, list[Answer]]") -> None:
    for name, answers in found.items():
        for answer in answers:
            row = {
                "prompt": prompt,
                "module": name,
                "answer": answer.text,
                "tokens": answer.num_tokens,
                "truncated": answer.truncated,
            }
            say_json(row)


def _print_text(prompt: str, found: "dict[str, list[Answer]]") -> None:
    from rich.text import Text

    console = screen(soft_wrap=True, highlight=False)
    console.print(prompt, style="bold")
    for name, answers in found.items():
        for answer in answers:
            mark = (" (truncated)", "dim") if answer.truncated else ""
            console.print(Text.assemble((name, "cyan"), f": {answer.text}", mark))
    console.print()
