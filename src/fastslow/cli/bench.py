"""`fastslow bench`: compare methods on the same data, budget and tuning grid."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from fastslow.cli.stopping import stoppable
from fastslow.cli.tables import show_tables
from fastslow.cli.task_progress import task_progress

app = typer.Typer(no_args_is_help=True, help="Compare methods; results as JSON and a table.")


Out = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Folder of the results; interrupted benchmarks resume."),
]
Model = Annotated[str | None, typer.Option(help="With --data: the base model.")]
Orders = Annotated[
    int,
    typer.Option(
        min=1,
        help="With --data: number of random orders of the pairs. Each begins with another domain.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Trainings in parallel, one thread each if > 1.")]


OF_WORLDS = {"worlds": "--worlds", "first": "--first", "rates": "--rate", "domains": "--domains",
             "conflict": "--conflict", "noise": "--noise"}  # fmt: skip
OF_FILES = {"seeds": "--seeds"}


@app.command()
def continual(
    context: typer.Context,
    out: Out,
    worlds: int = typer.Option(10, min=1, help="Worlds with a known reward to report on."),
    rates: list[float] = typer.Option(
        [3e-4, 1e-3, 3e-3, 1e-2], "--rate", help="Learning rates to choose from; repeatable."
    ),
    pairs: int = typer.Option(768, min=16, help="Training pairs of each domain."),
    domains: int = typer.Option(3, min=2, max=6, help="Domains of each world."),
    conflict: float = typer.Option(0.5, min=0, max=1, help="How far the domains disagree."),
    noise: float = typer.Option(0.0, min=0, max=0.5, help="Share of flipped training labels."),
    data: list[Path] = typer.Option(
        None, help="Instead of worlds: folders with train and test pairs, one for each domain."
    ),
    model: Model = None,
    recipe: Path = typer.Option(None, help="With --data: the settings all methods share."),
    seeds: Orders = 1,
    methods: list[str] = typer.Option(None, "--method", help="Only these; all by default."),
    workers: Workers = 1,
) -> None:
    """COFS-DPO, sequential and joint DPO, replay, EWC, L2-SP and oracles on several domains."""
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.bench.continual import as_markdown, bench_files, bench_worlds
    from fastslow.bench.methods import METHODS

    quiet_libraries()
    chosen = methods or list(METHODS)
    _check_known(chosen, METHODS)
    _check_options(context, data, model, recipe, rates)
    with stoppable(), task_progress() as on_progress:
        if data:
            scenarios, rate, most = _scenarios(data, model, recipe, out, pairs=pairs, seeds=seeds)
            results = bench_files(
                out,
                scenarios,
                rate=rate,
                pairs=most,
                methods=chosen,
                workers=workers,
                on_progress=on_progress,
            )
        else:
            results = bench_worlds(
                out,
                seeds=range(worlds),
                rates=rates,
                pairs=pairs,
                conflict=conflict,
                num_domains=domains,
                noise=noise,
                methods=chosen,
                workers=workers,
                on_progress=on_progress,
            )
    show_tables(as_markdown(results), out / "results.json", out / "table.md")


@app.command()
def chasing(
    out: Out,
    worlds: int = typer.Option(10, min=1, help="Worlds with a known reward to report on."),
    pairs: int = typer.Option(2048, min=128, help="Pairs of each stream."),
    optimizer: str = typer.Option("adamw", help="adamw, rmsprop or sgd."),
    workers: Workers = 1,
) -> None:
    """Fast-slow chasing in fixed settings against DPO at six learning rates."""
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.bench.chasing import RATES, bench_chasing
    from fastslow.bench.races import as_markdown
    from fastslow.errors import ConfigError

    quiet_libraries()
    if optimizer not in RATES:
        raise ConfigError(f"optimizer: got {optimizer!r}; allowed are {', '.join(RATES)}")
    with stoppable(), task_progress() as on_progress:
        results = bench_chasing(
            out,
            seeds=range(worlds),
            pairs=pairs,
            optimizer=optimizer,
            workers=workers,
            on_progress=on_progress,
        )
    show_tables(as_markdown(results), out / "results.json", out / "table.md")


@app.command()
def objectives(
    context: typer.Context,
    out: Out,
    worlds: int = typer.Option(5, min=1, help="Worlds with a known reward to report on."),
    rates: list[float] = typer.Option(
        [1e-3, 3e-3, 1e-2], "--rate", help="Learning rates to choose from; repeatable."
    ),
    pairs: int = typer.Option(512, min=16, help="Training pairs."),
    data: Path = typer.Option(
        None, help="Instead of worlds: a folder with train and test pairs of one domain."
    ),
    model: Model = None,
    recipe: Path = typer.Option(None, help="With --data: the settings all objectives share."),
    seeds: Orders = 1,
    names: list[str] = typer.Option(
        None, "--objective", help="Only these, as 'simpo' or 'simpo beta=10'; all by default."
    ),
    workers: Workers = 1,
) -> None:
    """Every objective on the same answers, compared at the same reverse KL."""
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.bench.objectives import (
        as_markdown,
        asked,
        bench_files,
        bench_worlds,
        lacking,
    )
    from fastslow.objectives import make_objective, objective_names

    quiet_libraries()
    offline = [name for name in objective_names() if not make_objective(name).on_policy]
    chosen = names or offline
    made = {name: asked(name)[1] for name in chosen}
    _check_options(context, data, model, recipe, rates)
    with stoppable(), task_progress() as on_progress:
        if data:
            scenarios, rate, most = _scenarios(
                [data], model, recipe, out, pairs=pairs, seeds=seeds, lacking=partial(lacking, made)
            )
            bench = partial(bench_files, out, scenarios, rate=rate, pairs=most)
        else:
            bench = partial(bench_worlds, out, seeds=range(worlds), rates=rates, pairs=pairs)
        results = bench(names=chosen, workers=workers, on_progress=on_progress)
    show_tables(as_markdown(results), out / "results.json", out / "table.md")


@app.command()
def online(
    context: typer.Context,
    out: Out,
    worlds: int = typer.Option(5, min=1, help="Worlds with a known reward to report on."),
    first: int = typer.Option(0, min=0, help="Seed of the first world."),
    pairs: int = typer.Option(512, min=48, help="Stored pairs, or prompts in total."),
    data: Path = typer.Option(
        None, help="Instead of worlds: a folder with train and test pairs of one domain."
    ),
    model: Model = None,
    recipe: Path = typer.Option(
        None, help="With --data: the shared settings, with a judge and another in eval."
    ),
    seeds: Orders = 1,
    methods: list[str] = typer.Option(None, "--method", help="Only these; all by default."),
    workers: Workers = 1,
) -> None:
    """DPO and HyPO; iterative DPO, APO and SPPO; online DPO, RLOO, PPO and ESPO."""
    from fastslow.adapters.library_logging import quiet_libraries
    from fastslow.bench.online import bench_files, bench_online
    from fastslow.bench.online_methods import METHODS
    from fastslow.bench.online_table import as_markdown

    quiet_libraries()
    known = [name for name, method in METHODS.items() if not data or method.data != "narrow"]
    chosen = methods or known
    _check_known(chosen, known)
    _check_options(context, data, model, recipe, [])
    with stoppable(), task_progress() as on_progress:
        if data:
            scenarios, _, most = _scenarios([data], model, recipe, out, pairs=pairs, seeds=seeds)
            results = bench_files(
                out, scenarios, pairs=most, names=chosen, workers=workers, on_progress=on_progress
            )
        else:
            results = bench_online(
                out,
                seeds=range(first, first + worlds),
                pairs=pairs,
                names=chosen,
                workers=workers,
                on_progress=on_progress,
            )
    show_tables(as_markdown(results), out / "results.json", out / "table.md")


def _check_known(chosen: list[str], known: Iterable[str]) -> None:
    from fastslow.errors import ConfigError

    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ConfigError(f"method: got {', '.join(unknown)}; allowed are {', '.join(known)}")


def _check_options(
    context: typer.Context, data: Any, model: str | None, recipe: Path | None, rates: list[float]
) -> None:
    """Refuse options that lack others, have no effect, or are invalid."""
    from fastslow.errors import ConfigError

    if len({bool(data), bool(model), bool(recipe)}) > 1:
        raise ConfigError("data: --data, --model and --recipe belong together")
    unused = [
        option
        for name, option in (OF_WORLDS if data else OF_FILES).items()
        if name in context.params and _on_command_line(context, name)
    ]
    if unused:
        where = "with --data, where the recipe decides" if data else "without --data"
        raise ConfigError(f"{', '.join(unused)}: no effect {where}; remove it")
    if wrong := [rate for rate in rates if not rate > 0]:
        raise ConfigError(f"--rate: got {wrong[0]:g}; must be above 0")


def _on_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _scenarios(
    data: list[Path],
    model: str | None,
    recipe: Path,
    out: Path,
    *,
    pairs: int,
    seeds: int,
    **chosen: Any,
) -> tuple[list[Any], float, int]:
    """One scenario per order of the pairs, the learning rate, and the number of pairs available.

    Each scenario rotates the order of the domains by one, so that over as many scenarios as domains
    every domain is once in every place.
    """
    from fastslow.bench.scenario import files_scenario, smallest_domain
    from fastslow.config import load_recipe

    shared = load_recipe(recipe, [f"model={model}"])
    scenarios = []
    for seed in range(seeds):
        shift = seed % len(data)
        domains = [*data[shift:], *data[:shift]]
        to = out / "scenarios" / f"files-{seed}"
        scenarios.append(files_scenario(domains, shared, to, pairs=pairs, seed=seed, **chosen))
    return scenarios, shared.train.learning_rate, min(pairs, *map(smallest_domain, scenarios))
