"""A run from Python: trained, or opened from its folder."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastslow.api.given import one_listener, recipe_with
from fastslow.api.policy import PolicyMethods
from fastslow.api.view import View, names_of
from fastslow.config import Recipe, flat, open_recipe
from fastslow.errors import ConfigError, StateError
from fastslow.foreign_files import check_is_run, misfit, read_log
from fastslow.hub import Pushed, check_login, check_repo_id, files_in, repo_url, upload
from fastslow.training.export.export import (
    MergeCheck,
    Publication,
    export_adapter,
    export_merged,
)
from fastslow.training.export.open_run import OpenedRun, open_run, read_run
from fastslow.training.loop.signals import StopToken
from fastslow.training.policies.loading import PREVIOUS
from fastslow.training.run import train as train_recipe
from fastslow.training.state.event_log import ignore
from fastslow.training.state.events import Event
from fastslow.training.state.summary import ContinualSummary, RunSummary, read_summary

PARTS = ("stages", "rounds", "domains")
"""Folders of the parts of a run, each an ordinary run."""


class Run(PolicyMethods):
    """A run in its folder. The model is loaded once, when it is first needed.

    Attributes:
        folder: the run folder.
        status: `complete`; `drift`, where a change of the preferences ended it; or `stopped`: it is
            not finished, and the same call of `fastslow.train` resumes it.
        summary: the result, None of a run that is stopped.
        trust_code: whether Python that its config.yaml names is run, and its judge is asked.
        max_length: longest prompt plus answer, tokens; None takes the recipe's.
    """

    def __init__(
        self,
        folder: Path,
        summary: RunSummary | ContinualSummary | None,
        *,
        trust_code: bool = False,
        max_length: int | None = None,
    ) -> None:
        self.folder = folder
        self.summary = summary
        self.trust_code = trust_code
        self.max_length = max_length
        self.status = _status(summary)
        self._opened: View | None = None

    @classmethod
    def load(
        cls, folder: str | Path, *, trust_code: bool = False, max_length: int | None = None
    ) -> "Run":
        """The run in a folder, which may be somebody else's.

        Args:
            folder: the run folder.
            trust_code: run the Python that its config.yaml names (an objective's or a judge's file,
                a model's own code), and ask the language model that it names as the judge. Only for
                folders that you know.
            max_length: longest prompt plus answer, tokens, in place of the recipe's
                `data.max_length`; the base must read as many.

        Raises StateError where there is none.
        """
        path = Path(folder)
        if max_length is not None and max_length < 2:
            raise ConfigError(f"max_length: got {max_length}; must be 2 or more")
        check_is_run(path)
        summary = path / "summary.json"
        found = read_summary(summary) if summary.exists() else None
        return cls(path, found, trust_code=trust_code, max_length=max_length)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, status={self.status!r})"

    @property
    def recipe(self) -> Recipe:
        """The recipe with every default written out; of a finished run in parts, the last one's."""
        if self.summary is None:
            return open_recipe(self.folder / "config.yaml", trust_code=self.trust_code)
        return read_run(self.folder, trust_code=self.trust_code)[0]

    @property
    def leader(self) -> str:
        """The module that is the run's answer. Raises StateError where the run is not finished."""
        return self._finished().leader

    def to_pandas(self) -> Any:
        """The steps as a pandas DataFrame, one row each; nested values have dotted names.

        Losses and log-probs are in nats. A run in parts has a column `part` with their folders.
        Raises ConfigError without pandas, StateError where there is no log.
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError:
            raise ConfigError("to_pandas: needs pandas; run `pip install pandas`") from None
        steps = list(self._steps())
        return pandas.DataFrame([flat(step) for step in steps])

    def events(self) -> Iterator[Event]:
        """Every event of the log, in order; of a run in parts, with the part's folder as `part`."""
        logs = [self.folder / "events.jsonl"]
        if not logs[0].exists():
            places = [f"{part}/*/events.jsonl" for part in PARTS]
            logs = [log for place in places for log in sorted(self.folder.glob(place))]
        if not logs:
            raise StateError(f"the run in {self.folder} has no events.jsonl; train it first")
        for log in logs:
            part = log.parent.relative_to(self.folder).as_posix()
            where = {} if part == "." else {"part": part}
            for number, event in read_log(log):
                if fault := misfit(event.get("event"), str, "'event'"):
                    raise StateError(f"{log}:{number}: {fault}; restore the file")
                found: Any = where | event
                yield found

    def _steps(self) -> Iterator[dict[str, Any]]:
        return (
            {key: value for key, value in event.items() if key != "event"}
            for event in self.events()
            if event["event"] == "step"
        )

    def export(self, to: str | Path, *, module: str = "leader") -> str:
        """Write a module as a PEFT folder with the tokenizer; the module's name.

        Raises ConfigError where `to` exists or there is no such module.
        """
        return export_adapter(self.folder, Path(to), module=module, trust_code=self.trust_code)

    def merge_and_unload(
        self, to: str | Path, *, module: str = "leader", dtype: str | None = None
    ) -> MergeCheck:
        """Write base plus module as one model folder with the tokenizer.

        Args:
            to: a folder that does not exist.
            module: `leader` or a module's name.
            dtype: `float32`, `bfloat16` or `float16`. Default: the base's.

        Returns how far the written model is from the adapter: KL in nats per token. Raises
        StateError and writes nothing where that is more than rounding.
        """
        return export_merged(
            self.folder, Path(to), module=module, dtype=dtype, trust_code=self.trust_code
        )

    def push_to_hub(
        self,
        repo: str,
        *,
        module: str = "leader",
        merged: bool = False,
        dtype: str | None = None,
        private: bool = True,
        base_model: str | None = None,
        dry_run: bool = False,
        on_files: Callable[[Pushed], None] | None = None,
    ) -> Pushed:
        """Export to a repository of the Hugging Face Hub, made if need be, in one commit.

        The token is HF_TOKEN's, or that of `hf auth login`. Nothing of this machine is named: an
        adapter whose base is a folder here names no base unless `base_model` does.

        Args:
            repo: `owner/name`.
            module: `leader` or a module's name.
            merged: upload base plus module as one model, not the adapter.
            dtype: of the merged model, as of `merge_and_unload`.
            private: whether a new repository is private. One that is there must be so already.
            base_model: the base's id on the Hub, where it was a folder here.
            dry_run: export and list, and send nothing.
            on_files: is called with what will be uploaded, before anything is sent.

        Returns what was uploaded and where. Raises ConfigError for what cannot be asked for, also
        without a token or offline; StateError, or one of its kinds, where the Hub refuses or cannot
        be reached.
        """
        check_repo_id(repo)
        if base_model is not None:
            check_repo_id(base_model)
        if dtype is not None and not merged:
            raise ConfigError("dtype: has no effect without merged: an adapter keeps its float32")
        if not dry_run:
            check_login()
        how: dict[str, Any] = {
            "module": module,
            "trust_code": self.trust_code,
            "publication": Publication(repo, base_model),
        }
        with TemporaryDirectory(prefix="fastslow-") as scratch:
            folder = Path(scratch) / "export"
            if merged:
                export_merged(self.folder, folder, dtype=dtype, **how)
            else:
                export_adapter(self.folder, folder, **how)
            planned = Pushed(repo, repo_url(repo), private, files_in(folder), dry_run)
            if on_files is not None:
                on_files(planned)
            if dry_run:
                return planned
            what = "merged model" if merged else "adapter"
            return upload(folder, repo, private=private, message=f"Upload {what} with fastslow")

    def adapter(self, module: str) -> Path | None:
        """The PEFT folder that a policy is on its base; None of the base, and of one that is no
        single folder. Raises ConfigError for a policy that there is not."""
        summary, name = self._finished(), self.policy(module)
        if name in summary.adapters:
            return summary.adapter(self.folder, name)
        start = self.recipe.lora.start_from
        return Path(start) if name == PREVIOUS and start is not None else None

    def policy(self, module: str) -> str:
        """The policy that a name means, such as `leader`. Raises ConfigError with the names."""
        return self._view().policy(module)

    def _finished(self) -> RunSummary | ContinualSummary:
        if self.summary is None:
            read_run(self.folder, trust_code=False)  # Says that it is not finished, and what to do.
            raise StateError(f"the run in {self.folder} has finished since; load it again")
        return self.summary

    def _view(self) -> View:
        if self._opened is None:
            self._opened = view_of(
                open_run(self.folder, trust_code=self.trust_code, max_length=self.max_length)
            )
        return self._opened


def view_of(opened: OpenedRun) -> View:
    """A run's policies in a user's terms."""
    summary = opened.summary
    return View(
        recipe=opened.recipe,
        tokenizer=opened.tokenizer,
        encoder=opened.encoder,
        policies=opened.policies,
        reference=opened.reference,
        names=names_of(summary.adapters, summary.leader, opened.reference),
        running=summary.running if isinstance(summary, RunSummary) else {},
    )


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    judge: Any = None,
    callback: Callable[[Event], None] | None = None,
    stop: StopToken | None = None,
    listener: Callable[[Event], None] | None = None,
) -> Run:
    """Run a recipe; the run, whose `status` says how it ended.

    An interrupted run of the same recipe in `output_dir` resumes from its newest checkpoint with
    the same bits; a finished one is opened.

    Args:
        recipe: a Recipe, a mapping, or the path of a YAML file.
        train_dataset: rows, a datasets.Dataset, or an iterator, in place of `data.train`. They are
            written to `output_dir/data`; to resume, give the same ones.
        eval_dataset: the same for `data.eval`.
        judge: in place of the recipe's: a function f(prompt, answer) or f(prompt, answers), an
            object with judge(requests) or compare(prompt, a, b), or a mapping.
        callback: is called with every event, a dict with the key `event`. What it raises ends the
            run, which resumes from its newest checkpoint.
        stop: asks for a stop, from any thread.
        listener: the same as callback.

    Raises ConfigError, DataError or StateError.
    """
    hears = one_listener(callback, listener)
    checked = recipe_with(
        recipe, train_dataset=train_dataset, eval_dataset=eval_dataset, judge=judge
    )
    summary = train_recipe(checked, listener=hears or ignore, stop=stop)
    return Run(Path(checked.output_dir), summary, trust_code=True)  # The user gave its recipe.


def _status(summary: RunSummary | ContinualSummary | None) -> str:
    if summary is None:
        return "stopped"
    return summary.ended if isinstance(summary, RunSummary) else "complete"
