"""`fastslow sample`: answers of a finished run."""

from pathlib import Path

import typer


def sample(
    run: Path = typer.Argument(help="Run folder."),
    prompts: list[str] = typer.Argument(None, help="Prompts to answer."),
    data: list[str] = typer.Option(None, help="Read prompts from the rows of these files."),
    limit: int = typer.Option(8, min=1, help="Use the first so many rows of the files."),
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
    json_output: bool = typer.Option(False, "--json", help="One JSON object an answer."),
) -> None:
    """Answer prompts with the run's leader, or with several of its policies side by side."""
    from fastslow.errors import ConfigError

    if not prompts and not data:
        raise ConfigError("give prompts as arguments, or files of them with --data")
    if not all(text.strip() for text in prompts or []):
        raise ConfigError("a prompt is empty; give some text to answer")
    if temperature == 0 and count > 1:
        raise ConfigError("at temperature 0 every answer is the same; set --count 1")
    import json
    from itertools import islice

    from rich.console import Console
    from rich.markup import escape

    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.streams import open_sources, read_prompts
    from fastslow.training.export.open_run import open_run, read_run

    quiet_libraries()
    if read_run(run)[0].trains == "reward":
        raise ConfigError(f"the run in {run} trained a reward model, which answers nothing")
    rows = islice(read_prompts(open_sources(data or [])), limit)
    asked = [*(prompts or []), *(row.prompt for row in rows)]
    finished = open_run(run)
    encoder, policies = finished.encoder, finished.policies
    longest = max_new_tokens or min(128, finished.recipe.data.max_length // 2)
    names = {asked_for: finished.policy(asked_for) for asked_for in module}
    console = Console(soft_wrap=True, highlight=False)
    for prompt in asked:
        ids = encoder.prompt_ids(prompt, room=longest)
        if not json_output:
            console.print(f"[bold]{escape(finished.tokenizer.decode(ids))}[/bold]")
        for name, policy in names.items():
            (answers,) = policies.answer(
                policy,
                [ids],
                end_ids=sorted(encoder.end_ids),
                max_new_tokens=longest,
                seed=seed,
                temperature=temperature,
                top_p=top_p,
                per_prompt=count,
            )
            for answer in answers:
                text = finished.tokenizer.decode(answer.tokens, skip_special_tokens=True)
                if json_output:
                    row = {
                        "prompt": finished.tokenizer.decode(ids),
                        "module": policy,
                        "answer": text,
                        "tokens": len(answer.tokens),
                        "ended": answer.ended,
                    }
                    print(json.dumps(row, ensure_ascii=False), flush=True)
                else:
                    mark = "" if answer.ended else " [dim](cut at the limit)[/dim]"
                    console.print(f"[cyan]{name}[/cyan]: {escape(text)}{mark}")
        if not json_output:
            console.print()
