"""Rounds: the policy samples, a judge compares, a run trains on the result; repeat.

run folder/
  answers/01/               completions of the first round and their judgements
  rounds/01/                the run trained on them
  policies/01/              the next sampling policy, if momentum or compression changes it
  adapters/, summary.json   of the last round, the result of the run

Each is written atomically, so a run that was killed, or whose judge failed, resumes where it was.
Every round learns a fresh module of the recipe's rank and alpha on top of its start, so that all
learn at the same scale. Iterative DPO is momentum 0; APO (arXiv 2410.06293) has pi_t = learned_t +
momentum (learned_t - learned_{t-1}) as the sampling policy and the round's start and reference, and
returns learned_T. Sums of modules are exact: concatenated factors.
"""

import glob
import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from fastslow.adapters import BASE, Factors, combine, load_tokenizer, without_repeats
from fastslow.adapters import recompress as nearest
from fastslow.atomic_io import file_hash, new_folder
from fastslow.config import Recipe, part_recipe, round_settings
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.judges import Judge, make_judge
from fastslow.records import Prompt, prompt_key
from fastslow.training.budget.adapter import adapter_within
from fastslow.training.context import RunContext
from fastslow.training.data.dataset import input_fingerprints, objective_of
from fastslow.training.on_policy.answer_files import (
    RoundSampling,
    finished_answers,
    write_answers,
)
from fastslow.training.on_policy.prompts import askable_prompts
from fastslow.training.on_policy.sampler import sampling_seed
from fastslow.training.on_policy.truncation import truncation_warning
from fastslow.training.policies.loading import (
    SharedBase,
    make_encoder,
    make_modules,
    make_policies,
    open_policies,
)
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.publish import EnginePublisher, make_publisher
from fastslow.training.preflight import check_parts
from fastslow.training.state.event_log import progress_of
from fastslow.training.state.events import AnswersEvent, BudgetEvent
from fastslow.training.state.inputs import keep_inputs
from fastslow.training.state.parts import leader_of
from fastslow.training.state.run_config import write_config
from fastslow.training.state.run_lock import check_run_folder

POLICY = "policy"


def train_rounds(recipe: Recipe, folder: Path, context: RunContext) -> list[Path] | None:
    """Generate, judge and train all rounds in the run's folder, which is locked.

    Returns the folders of their runs, or None if it was asked to stop. Raises as `train`, and
    JudgeError if the judge fails; finished work is then on disk.
    """
    assert recipe.rounds is not None and recipe.judge is not None
    began = check_run_folder(folder, recipe)
    check_parts(recipe, context.processes)
    judge = make_judge(recipe.judge, device=recipe.train.device)
    write_config(folder, recipe)  # First, so that the folder is known to be this run's.
    keep_inputs(folder, input_fingerprints(recipe), began=began)
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    usable, messages = askable_prompts(recipe, recipe.rounds, make_encoder(recipe, tokenizer))
    for message in messages:
        context.listener({"event": "warning", "message": message})
    prompts = round_prompts(recipe, usable)
    count, warned = recipe.rounds.count, False
    for index in range(count):
        if context.stop.received:
            return None
        context.listener({"event": "round", "number": index + 1, "of": count})
        warning = _generate(recipe, folder, index, prompts[index], judge, context)
        if warning and not warned:
            context.listener({"event": "warning", "message": warning})
            warned = True
        part = round_recipe(recipe, folder, index)
        if context.train(part, Path(part.output_dir)) is None:
            return None
        if index + 1 < count:
            _write_policy(recipe, folder, index, prompts[index], context)
    return [_run(folder, index) for index in range(count)]


def round_recipe(recipe: Recipe, folder: Path, index: int) -> Recipe:
    """The recipe of one round's run; `index` counts from 0."""
    start = _policy(recipe, folder, index)
    settings = round_settings(
        recipe.model_dump(mode="json"),
        index,
        # Only the rows: the counts beside them are not data.
        answers=f"{glob.escape(str(_answers(folder, index)))}/*.jsonl",
        start_from=None if start is None else str(start),
        output_dir=str(_run(folder, index)),
    )
    return part_recipe(settings, f"round {index + 1}")


def round_prompts(recipe: Recipe, prompts: Iterable[Prompt]) -> list[list[Prompt]]:
    """The distinct prompts of each round, shuffled with the seed.

    If there are too few for all rounds, they repeat.
    """
    assert recipe.rounds is not None
    rounds = recipe.rounds
    prompts = list({prompt_key(row): row for row in prompts}.values())
    random.Random(f"{recipe.seed}/prompts").shuffle(prompts)
    size = rounds.prompts_per_round or max(1, len(prompts) // rounds.count)
    return [
        [prompts[i % len(prompts)] for i in range(index * size, (index + 1) * size)]
        for index in range(rounds.count)
    ]


def _answers(folder: Path, index: int) -> Path:
    return folder / "answers" / f"{index + 1:02d}"


def _run(folder: Path, index: int) -> Path:
    return folder / "rounds" / f"{index + 1:02d}"


def _learned(recipe: Recipe, folder: Path, index: int) -> Path | None:
    """The adapter learned before a round; None for the base."""
    if index == 0:
        return Path(recipe.lora.start_from) if recipe.lora.start_from else None
    return leader_of(_run(folder, index - 1), "round")


def _policy(recipe: Recipe, folder: Path, index: int) -> Path | None:
    """The adapter of the sampling policy of a round; None for the base."""
    assert recipe.rounds is not None
    changed = recipe.rounds.momentum or recipe.rounds.recompress is not None
    if index == 0 or not changed:
        return _learned(recipe, folder, index)
    return folder / "policies" / f"{index:02d}"


def _write_policy(
    recipe: Recipe, folder: Path, index: int, prompts: list[Prompt], context: RunContext
) -> None:
    """Write the sampling policy after a round, if it differs from the learned one."""
    assert recipe.rounds is not None
    momentum, to = recipe.rounds.momentum, _policy(recipe, folder, index + 1)
    learned, before = (_learned(recipe, folder, i) for i in (index + 1, index))
    assert to is not None and learned is not None
    if to == learned or to.exists():
        return
    earlier = Factors.read(before) if before else None
    total = carried(Factors.read(learned), earlier, momentum)
    if recipe.rounds.recompress is not None:
        total, _ = nearest(total, recipe.rounds.recompress)
    strength = _strength(recipe, total, prompts, context)
    with new_folder(to) as draft:
        combine([total], [strength]).write(draft)


def _strength(recipe: Recipe, policy: Factors, prompts: list[Prompt], context: RunContext) -> float:
    """The strength at which a sampling policy is within the budget, which momentum may exceed."""
    if recipe.lora.start_from is not None:
        return 1.0  # Each round is measured from its own start, not from the base.
    with TemporaryDirectory() as scratch:
        policy.write(Path(scratch) / POLICY)
        facts = adapter_within(Path(scratch) / POLICY, prompts, recipe, context.bases)
    if facts is None or facts.strength == 1:
        return 1.0
    event = {"event": "budget", "module": "the policy that answers next", **asdict(facts)}
    context.listener(cast(BudgetEvent, event))
    return facts.strength


def carried(learned: Factors, before: Factors | None, momentum: float) -> Factors:
    """learned + momentum (learned - before), exactly; `before` None is the base.

    With exact rounds, log pi_t = log pi_0 + c_t r / beta and c_{t+1} - c_t = 1 + momentum (c_t -
    c_{t-1}).
    """
    if before is None or not momentum:
        return combine([learned], [1 + momentum])
    return without_repeats(combine([learned, before], [1 + momentum, -momentum]))


def _generate(
    recipe: Recipe,
    folder: Path,
    index: int,
    prompts: list[Prompt],
    judge: Judge,
    context: RunContext,
) -> str | None:
    """Write the completions of a round and their judgements, unless they exist.

    Returns a warning if most of them were cut off.
    """
    assert recipe.rounds is not None
    to, start = _answers(folder, index), _policy(recipe, folder, index)
    if finished_answers(to):
        return None
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    publisher = make_publisher(recipe, recipe.rounds.engine, context.processes)
    if publisher is not None and start is not None:
        publisher.publish_folder(start, label=f"round-{index + 1:02d}")
    sampling = RoundSampling(
        policies=_opened(recipe, start, tokenizer, context.bases),
        policy=POLICY if start else BASE,
        encoder=make_encoder(recipe, tokenizer),
        judge=judge,
        config=recipe.rounds,
        kind=objective_of(recipe).takes,
        seed=sampling_seed(recipe, index),
        provenance=_provenance(start, index, publisher),
        engine=publisher.engine if publisher else None,
    )
    progress = progress_of(context.listener, "sampling")
    try:
        counts = write_answers(to, prompts, sampling, progress=progress)
    finally:
        if publisher is not None:
            publisher.unload()
    answers = {"event": "answers", "judge": judge.name, **counts}
    context.listener(cast(AnswersEvent, answers))
    return truncation_warning(
        "rounds",
        cut=counts["truncated"],
        of=counts["answers"],
        longest=recipe.rounds.max_new_tokens,
        room=recipe.data.max_length,
    )


def _provenance(
    start: Path | None, index: int, publisher: EnginePublisher | None
) -> dict[str, Any]:
    """Which policy a round's completions come from."""
    provenance: dict[str, Any] = {"round": index + 1, "policy": BASE, "adapter": None}
    if start is not None:
        weights = file_hash(start / ADAPTER_WEIGHTS)
        provenance |= {"policy": str(start), "adapter": weights}
    return provenance | ({"engine": publisher.engine.name} if publisher else {})


def _opened(recipe: Recipe, start: Path | None, tokenizer: Any, bases: SharedBase) -> Policies:
    if start is not None:
        return open_policies(recipe, {POLICY: start}, tokenizer, bases)
    # The base alone samples; none of these modules is used.
    modules = make_modules(recipe, bases.load(recipe), critic=False)
    return make_policies(recipe, modules, tokenizer, bases.processes)
