"""A run: the pool, the search by each method, the test of what they found, all in a folder.

config.yaml, inputs.json    the recipe and fingerprints of what it names, as of every run
writing.jsonl               what a model wrote as instructions
pool/                       the candidates and their embeddings
evaluations.jsonl           each candidate that was asked: scores, answers and cost
summary.json                the result
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fastslow.config import PromptsConfig, Recipe, load_recipe
from fastslow.errors import ConfigError, DataError
from fastslow.judges import judge_fingerprint, make_judge
from fastslow.prompts.baselines import best_of_initial, random_search, resample
from fastslow.prompts.black_box import BlackBox, LocalModel, ServerModel
from fastslow.prompts.events import Listener, ignore
from fastslow.prompts.pool import Pool, embed_all, read_candidates
from fastslow.prompts.questions import Question, read_questions
from fastslow.prompts.records import EvaluationLog, Record, RowLog, Written
from fastslow.prompts.scoring import METRICS, InstructionScorer
from fastslow.prompts.search import Evaluation, Proposals, check_pool, search
from fastslow.prompts.summary import MethodResult, PromptSummary
from fastslow.prompts.writing import Instructions, write_instructions
from fastslow.prompts.zopo import ZopoSettings, zopo
from fastslow.streams import (
    file_fingerprint,
    fingerprints_of,
    folder_fingerprint,
    open_sources,
)
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.loop.signals import StopSignals, StopToken
from fastslow.training.state.event_log import OneAtATime, progress_of
from fastslow.training.state.inputs import keep_inputs
from fastslow.training.state.run_config import with_absolute_paths, write_config
from fastslow.training.state.run_lock import check_run_folder, lock_run_folder


def optimise_prompt(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    callback: Listener = ignore,
    stop: StopToken | None = None,
) -> PromptSummary | None:
    """Find the instruction with which a chat model answers best, within a budget of evaluations.

    An interrupted run of the same recipe in `output_dir` is resumed and asks nothing again; a
    finished one returns its summary.

    Args:
        recipe: with a section `prompts`: a Recipe, the same as a mapping, or a YAML file's path.
        callback: is called with every event (docs/prompts.md). What it raises ends the run.
        stop: requests a stop from any thread, like SIGINT and SIGTERM in the main thread.

    Returns scores from 0 to 1 and the cost, or None if it was stopped. Raises ConfigError,
    DataError, StateError, or, where a server or a judge fails, UnreachableError.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    config = recipe.prompts
    if config is None:
        raise ConfigError(
            "prompts: is missing; give a recipe with this section (`fastslow recipe prompts`)"
        )
    recipe, folder = with_absolute_paths(recipe), Path(recipe.output_dir)
    processes = ProcessGroup(recipe.train.device)
    if processes.size > 1:
        raise ConfigError("prompts: is run by one process; start it without a launcher")
    stop = stop or StopToken()
    tell: Any = OneAtATime(callback)

    def signalled(name: str) -> None:
        tell({"event": "stopping", "signal": name})

    with lock_run_folder(folder), StopSignals(stop, signalled):
        began = check_run_folder(folder, recipe)
        if (folder / "summary.json").exists():
            tell({"event": "already_complete", "folder": str(folder)})
            return PromptSummary.read(folder / "summary.json")
        keep_inputs(folder, _inputs(recipe, config), began=began)
        if not began:
            write_config(folder, recipe)
        run = _Run(recipe, config, folder, tell, stop, LocalModel(recipe, processes))
        return run.finish()


class _Run:
    """One run, in an open folder."""

    def __init__(
        self,
        recipe: Recipe,
        config: PromptsConfig,
        folder: Path,
        callback: Listener,
        stop: StopToken,
        local: LocalModel,
    ) -> None:
        self._recipe, self._config, self._folder = recipe, config, folder
        self._callback, self._stop, self._local = callback, stop, local
        self._black_box: BlackBox = local
        if config.engine is not None:
            self._black_box = ServerModel(
                config.engine,
                plain=recipe.data.template == "plain",
                template=recipe.data.chat_template_kwargs,
            )
        self._scorer = InstructionScorer(
            self._black_box,
            template=config.template,
            metric=METRICS.get(config.metric),
            judge=make_judge(recipe.judge, device=recipe.train.device) if recipe.judge else None,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=recipe.seed,
        )
        columns = recipe.data.columns
        self._validation = read_questions(
            config.validation_sources,
            columns,
            key="prompts.validation",
            most=config.max_validation,
        )
        self._test: list[Question] = []
        if config.test_sources:
            self._test = read_questions(
                config.test_sources, columns, key="prompts.test", most=config.max_test
            )

    def finish(self) -> PromptSummary | None:
        """Do what is left; None if it was stopped."""
        pool = self._pool()
        if pool is None:
            return None
        self._callback(
            {
                "event": "pool",
                "candidates": len(pool.instructions),
                "wanted": None if self._config.candidates is not None else self._config.pool,
                "budget": self._config.budget,
                "cost": pool.cost,
            }
        )
        results: dict[str, MethodResult] = {}
        methods: list[str] = [*dict.fromkeys(self._config.methods)]
        with EvaluationLog(self._folder / "evaluations.jsonl") as log:
            for method in methods:
                found = self._search(method, pool, log)
                if found is None:
                    return None
                results[method] = found
            for method, result in results.items():
                if self._stop.received:
                    return None
                if self._test:
                    best = pool.instructions.index(result.instruction)
                    tested = self._scored("test", self._test, best, pool, log)
                    results[method] = replace(result, test=tested)
            cost: Counter[str] = sum((Counter(row.cost) for row in log.rows), Counter())
            asked = sum(row.split == "validation" for row in log.rows)
        summary = PromptSummary(
            methods=results,
            pool=len(pool.instructions),
            evaluated=asked,
            cost=dict(cost),
            pool_cost=pool.cost,
        )
        summary.write(self._folder / "summary.json")
        return summary

    def _pool(self) -> Pool | None:
        """The candidates, as they are on disk or made now; None if it was stopped."""
        folder = self._folder / "pool"
        if folder.exists():
            return Pool.read(folder)
        embeddings, cost = None, Counter[str]()
        if self._config.candidates is not None:
            instructions, embeddings = read_candidates(self._config.candidates)
        elif (written := self._instructions()) is not None:
            instructions, cost = written.texts, written.cost
        else:
            return None
        if embeddings is None:
            embedding = progress_of(self._callback, "embedding")
            states = self._local.embed(instructions)
            embeddings = embed_all(states, len(instructions), embedding, self._stopped)
        if embeddings is None:
            return None
        pool = Pool(instructions, check_pool(embeddings), dict(cost))
        pool.write(folder)
        return pool

    def _instructions(self) -> Instructions | None:
        """What the model writes; None if it was stopped."""
        config = self._config
        with RowLog(self._folder / "writing.jsonl", Written) as log:
            return write_instructions(
                self._black_box,
                read_questions(
                    config.demonstration_sources,
                    self._recipe.data.columns,
                    key="prompts.demonstrations",
                ),
                log,
                count=config.pool,
                shown=config.shown,
                max_new_tokens=config.max_instruction_tokens,
                seed=self._recipe.seed,
                progress=progress_of(self._callback, "writing instructions"),
                stopped=self._stopped,
            )

    def _stopped(self) -> bool:
        return bool(self._stop.received)

    def _search(self, method: str, pool: Pool, log: EvaluationLog) -> MethodResult | None:
        """What a method finds; None if it was stopped."""
        config, done = self._config, list[Evaluation]()
        proposals = _proposals(method, pool.embeddings, config, seed=self._recipe.seed)

        def evaluate(candidate: int) -> float:
            return self._scored("validation", self._validation, candidate, pool, log)

        best: Evaluation | None = None
        for evaluation in search(proposals, evaluate, budget=config.budget, target=config.target):
            done.append(evaluation)
            if best is None or evaluation.score > best.score:
                best = evaluation
            self._callback(
                {
                    "event": "evaluation",
                    "method": method,
                    "number": len(done),
                    "budget": min(config.budget, len(pool.instructions)),
                    "instruction": pool.instructions[evaluation.candidate],
                    "score": evaluation.score,
                    "best": best.score,
                }
            )
            if self._stop.received:
                return None
        assert best is not None
        return MethodResult(
            instruction=pool.instructions[best.candidate],
            validation=best.score,
            test=None,
            evaluations=len(done),
            found_at=done.index(best) + 1,
            candidates=[evaluation.candidate for evaluation in done],
        )

    def _scored(
        self,
        split: str,
        questions: list[Question],
        candidate: int,
        pool: Pool,
        log: EvaluationLog,
    ) -> float:
        """The score of a candidate, which is asked only if it was not yet."""
        if (known := log.find(split, candidate)) is not None:
            return known.score
        text = pool.instructions[candidate]
        made = self._scorer.score(text, questions)
        log.add(Record(split, candidate, text, made.mean, made.scores, made.answers, made.cost))
        return made.mean


def _proposals(method: str, embeddings: Tensor, config: PromptsConfig, *, seed: int) -> Proposals:
    match method:
        case "random":
            return random_search(embeddings, seed=seed)
        case "initial":
            return best_of_initial(embeddings, initial=config.initial, seed=seed)
        case "resample":
            return resample(embeddings, initial=config.initial, seed=seed)
        case _:
            settings = ZopoSettings(initial=config.initial, **config.zopo.model_dump())
            return zopo(embeddings, settings, seed=seed)


def _inputs(recipe: Recipe, config: PromptsConfig) -> dict[str, Any]:
    """Fingerprints of what the scores depend on besides the recipe."""
    sources = [*config.validation_sources, *config.test_sources, *config.demonstration_sources]
    prints: dict[str, Any] = {
        "model": folder_fingerprint(recipe.model),
        "data": fingerprints_of(open_sources(sources)),
    }
    if config.candidates is not None:
        if not Path(config.candidates).is_file():
            raise DataError(f"prompts.candidates: {config.candidates} is no file; give one")
        prints["candidates"] = file_fingerprint(Path(config.candidates))
    if recipe.judge is not None:
        prints["judge"] = judge_fingerprint(recipe.judge)
    return prints
