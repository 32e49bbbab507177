"""Rounds: the policy answers, a judge compares, a run learns from that, and again.

run folder/
  answers/01/            what was answered in the first round and how it was judged
  rounds/01/             the run that learned from it
  policies/01/           the policy that answers next, where momentum carries it further
  adapters/, summary.json, ...    the last round, which is the run's answer

Each is written whole and found again, so a run that was killed, or whose judge gave up, goes on
where it was. Iterative DPO is momentum 0; APO (arXiv 2410.06293) has pi_t = learned_t + momentum
(learned_t - learned_{t-1}) as the policy that answers and is the round's start and reference, and
returns learned_T. Sums of modules are exact: factors side by side.
"""

import random
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from accelerate import Accelerator

from fastslow.adapters import BASE, Factors, combine, load_tokenizer
from fastslow.adapters import recompress as nearest
from fastslow.atomic_io import file_hash, new_folder, write_text
from fastslow.config import LoraConfig, ObjectiveConfig, Recipe, ReplayConfig, dump_recipe
from fastslow.judges import Judge, make_judge
from fastslow.records import Prompt
from fastslow.sampling import Engine
from fastslow.training.build import (
    make_base,
    make_encoder,
    make_engine,
    make_modules,
    make_policies,
    open_policies,
    served_folder,
)
from fastslow.training.data.dataset import objective_of, prompt_stream
from fastslow.training.distributed.processes import Team
from fastslow.training.on_policy.answer_files import Answering, finished_answers, write_answers
from fastslow.training.policies.policies import Policies
from fastslow.training.preflight import check_parts
from fastslow.training.stages import TrainOne
from fastslow.training.state.event_log import Listener
from fastslow.training.state.run_lock import claim
from fastslow.training.state.summary import leader_of

POLICY = "policy"


def train_rounds(
    recipe: Recipe, folder: Path, listener: Listener, *, train_one: TrainOne
) -> Recipe | None:
    """Answer and train all rounds but the last, and answer for that, in a run's folder.

    Returns the last round's recipe, or None if a signal stopped the run before it. Raises as
    `train`, and JudgeError where the judge gives up; what is done is then on disk.
    """
    assert recipe.rounds is not None and recipe.judge is not None
    claim(folder, recipe)
    check_parts(recipe)
    judge = make_judge(recipe.judge)
    prompts = round_prompts(recipe)
    write_text(folder / "config.yaml", dump_recipe(recipe))
    for index in range(recipe.rounds.count):
        listener({"event": "round", "number": index + 1, "of": recipe.rounds.count})
        _answer(recipe, folder, index, prompts[index], judge, listener)
        if index + 1 < recipe.rounds.count:
            part = round_recipe(recipe, folder, index)
            if train_one(part, Path(part.output_dir), listener) is None:
                return None
            _carry_on(recipe, folder, index)
    return last_round(recipe, folder)


def last_round(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe that the run folder itself is of; the recipe where it has no rounds.

    Raises StateError where a round before is missing or not finished.
    """
    return round_recipe(recipe, folder, recipe.rounds.count - 1) if recipe.rounds else recipe


def round_recipe(recipe: Recipe, folder: Path, index: int) -> Recipe:
    """The run of one round, from 0."""
    assert recipe.rounds is not None
    rounds, start = recipe.rounds, _policy(recipe, folder, index)
    last = index + 1 == rounds.count
    changes: dict[str, Any] = {
        "output_dir": recipe.output_dir if last else str(_run(folder, index)),
        "data": recipe.data.model_copy(update={"train": str(_answers(folder, index)), "skip": 0}),
        "rounds": None,
        "judge": None,
        "eval": recipe.eval.model_copy(update={"judge": recipe.eval.judge or recipe.judge}),
    }
    if rounds.beta is not None:
        settings = {**recipe.objective.settings, "beta": rounds.beta[index]}
        changes["objective"] = ObjectiveConfig(name=recipe.objective.name, **settings)
    if start is not None:
        changes["lora"] = LoraConfig(start_from=str(start))
        changes["reference"] = recipe.reference or "previous"
    elif recipe.lora.start_from is None:
        changes["reference"] = "base"
    if rounds.stored:
        changes["replay"] = ReplayConfig(memory=recipe.data.train_sources, share=rounds.stored)
    raw = recipe.model_copy(update=changes).model_dump(mode="json")
    return Recipe.model_validate(raw)


def round_prompts(recipe: Recipe) -> list[list[Prompt]]:
    """The different prompts of each round, in an order drawn by the seed.

    Where there are fewer than all rounds want, they come again.
    """
    assert recipe.rounds is not None
    rounds = recipe.rounds
    rows = cast(Iterable[Prompt], prompt_stream(recipe, rounds, epochs=1))
    prompts = list({row.prompt: row for row in rows}.values())
    random.Random(f"{recipe.seed}/prompts").shuffle(prompts)
    size = rounds.prompts_per_round or max(1, len(prompts) // rounds.count)
    return [
        [prompts[place % len(prompts)] for place in range(index * size, (index + 1) * size)]
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
    """The adapter of the policy that answers in a round; None for the base."""
    assert recipe.rounds is not None
    if index == 0 or not recipe.rounds.momentum:
        return _learned(recipe, folder, index)
    return folder / "policies" / f"{index:02d}"


def _carry_on(recipe: Recipe, folder: Path, index: int) -> None:
    """Write the policy that answers after a round, if momentum makes it another than learned."""
    assert recipe.rounds is not None
    momentum, to = recipe.rounds.momentum, _policy(recipe, folder, index + 1)
    assert to is not None
    if not momentum or to.exists():
        return
    learned, before = (_learned(recipe, folder, place) for place in (index + 1, index))
    assert learned is not None
    modules, weights = [Factors.read(learned)], [1 + momentum]
    if before is not None:
        modules.append(Factors.read(before))
        weights.append(-momentum)
    total = combine(modules, weights)
    if recipe.rounds.recompress is not None:
        total, _ = nearest(total, recipe.rounds.recompress)
    with new_folder(to) as draft:
        draft.rmdir()
        total.write(draft)


def _answer(
    recipe: Recipe,
    folder: Path,
    index: int,
    prompts: list[Prompt],
    judge: Judge,
    listener: Listener,
) -> None:
    assert recipe.rounds is not None
    to, start = _answers(folder, index), _policy(recipe, folder, index)
    if finished_answers(to):
        return
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    told: dict[str, Any] = {"round": index + 1, "policy": BASE, "adapter": None}
    if start is not None:
        told |= {"policy": str(start), "adapter": file_hash(start / "adapter_model.safetensors")}
    engine = make_engine(recipe, recipe.rounds.engine)
    if engine is not None:
        told["engine"] = engine.name
        if start is not None:
            Team().from_first(partial(_hand_over, engine, recipe, start, index))
    answering = Answering(
        policies=_opened(recipe, start, tokenizer),
        policy=POLICY if start else BASE,
        encoder=make_encoder(recipe, tokenizer),
        judge=judge,
        sampling=recipe.rounds,
        kind=objective_of(recipe).takes,
        seed=_seed(recipe.seed, index),
        told=told,
        engine=engine,
    )
    counts = write_answers(
        to,
        prompts,
        answering,
        progress=lambda done, total: listener(
            {"event": "progress", "task": "answering", "done": done, "total": total}
        ),
    )
    if engine is not None:
        Team().from_first(engine.unload)
    listener({"event": "answers", "judge": judge.name, **counts})


def _hand_over(engine: Engine, recipe: Recipe, start: Path, index: int) -> None:
    engine.load(f"fastslow-{uuid4().hex[:12]}", _readable(recipe, start, index))


def _readable(recipe: Recipe, start: Path, index: int) -> Path:
    """An adapter where the engine can read it: as it is, or a copy in `engine.folder`."""
    assert recipe.rounds is not None and recipe.rounds.engine is not None
    if recipe.rounds.engine.folder is None:
        return start
    to = served_folder(recipe, recipe.rounds.engine) / f"round-{index + 1:02d}"
    shutil.copytree(start, to, dirs_exist_ok=True)
    return to


def _opened(recipe: Recipe, start: Path | None, tokenizer: Any) -> Policies:
    if start is not None:
        return open_policies(recipe, {POLICY: start}, tokenizer)
    modules = make_modules(recipe, make_base(recipe, Accelerator().device))
    return make_policies(recipe, modules, tokenizer)


def _seed(seed: int, index: int) -> int:
    """Far enough apart that no two parts of a run share one."""
    return (seed + 1) * 1_000_003 + index * 100_003
