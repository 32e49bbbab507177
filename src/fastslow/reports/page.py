"""The page: everything in one file, which needs no network."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fastslow.atomic_io import write_text
from fastslow.disk_errors import disk_errors
from fastslow.errors import ConfigError
from fastslow.reports.runs import ReportedRun, read_runs

if TYPE_CHECKING:
    from fastslow.reports.sections import Section


def write_report(folders: Sequence[str | Path], to: str | Path) -> Path:
    """Write the report of the runs in `folders` to the file `to`, in one step. Returns `to`.

    Unfinished runs are shown with what they have. A single folder of `fastslow bench online`
    becomes a page of its methods' curves, one of `fastslow demo` the demo's page. Raises StateError
    for a folder that is none of these or whose files are damaged and for a full disk, ConfigError
    for a folder given twice, a file that cannot be written, or if plotly is not installed.
    """
    try:
        import plotly  # noqa: F401
    except ImportError:
        raise ConfigError(
            "reports need plotly, which is not installed: pip install 'fastslow[report]'"
        ) from None
    to, paths = Path(to), [Path(folder) for folder in folders]
    page = _page_of(paths)
    with disk_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
    write_text(to, page, private=True)  # It shows prompts and answers.
    return to


def _page_of(paths: Sequence[Path]) -> str:
    if len(paths) == 1 and (paths[0] / "results.json").is_file():
        return _comparison_page(paths[0])
    if len(paths) == 1 and (paths[0] / "demo.json").is_file():
        return _demo_page(paths[0])
    return _run_page(read_runs(paths))


def _demo_page(folder: Path) -> str:
    from fastslow.reports.demo import demo_sections, demo_verdict, read_demo, run_folders

    shown = read_demo(folder)
    folders = run_folders(folder, shown)
    runs = read_runs(list(folders), folders)
    return _run_page(
        runs,
        heading="Several domains, one after another",
        said=demo_verdict(shown),
        first=demo_sections(shown),
    )


def _run_page(
    runs: Sequence[ReportedRun],
    *,
    heading: str = "",
    said: str | None = None,
    first: "Sequence[Section]" = (),
) -> str:
    from fastslow.reports.drawn import drawn_runs
    from fastslow.reports.headline import headline
    from fastslow.reports.references import references_differ
    from fastslow.reports.samples import answered_prompts
    from fastslow.reports.sections import all_sections
    from fastslow.reports.tables import changed_settings, environment
    from fastslow.reports.verdict import verdict

    drawn, title = drawn_runs(runs), ", ".join(run.label for run in runs)
    return _rendered(
        "page.html.jinja",
        title=title,
        heading=heading or (title if len(runs) == 1 else f"{len(runs)} runs compared"),
        drawn=drawn,
        verdict=verdict(runs) if said is None else said,
        headline=headline(drawn, outcome=True),
        figures=headline(drawn, outcome=False),
        references_differ=references_differ(runs),
        sections=[*first, *all_sections(drawn)],
        prompts=answered_prompts(drawn),
        settings=changed_settings(runs),
        environment=environment(runs),
    )


def _comparison_page(folder: Path) -> str:
    from fastslow.reports.comparison import comparison_sections, read_comparison, setting_line

    results = read_comparison(folder)
    return _rendered(
        "comparison.html.jinja",
        title="Online learning: method comparison",
        setting=setting_line(results),
        sections=comparison_sections(results),
    )


def _rendered(template: str, **values: Any) -> str:
    from plotly.offline import get_plotlyjs

    templates = Environment(
        loader=PackageLoader("fastslow.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [get_plotlyjs(), templates.get_template("draw.js").render()]
    return templates.get_template(template).render(
        scripts=[Markup(script) for script in scripts],
        hashes=[_hash(script) for script in scripts],
        figure_json=_figure_json,
        **values,
    )


def _hash(script: str) -> str:
    """The hash by which the page's security policy allows a script; nothing else can run."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _figure_json(figure: Any) -> Markup:
    """The figure as JSON, escaped so that no tag can end the script element around it."""
    return Markup(str(figure.to_json(engine="json")).replace("<", "\\u003c"))
