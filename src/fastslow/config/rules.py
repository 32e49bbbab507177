"""Settings of a recipe that contradict each other or would have no effect: one line for each.

Every rule is a condition and what to do about it, so that all faults are reported at once.
"""

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from fastslow.config.continual import ContinualConfig, DomainConfig
from fastslow.config.sampling import AnswerConfig, RoundsConfig
from fastslow.config.sections import LoraConfig
from fastslow.config.stages import stage_faults

if TYPE_CHECKING:
    from fastslow.config.recipe import Recipe

Faults = Iterator[str]
NOT_OF_REWARDS = (
    "online_kl", "rounds", "online", "filter", "judge", "moving_reference", "anchor", "continual",
    "stages", "reference",
)  # fmt: skip
"""Keys that only apply to policies."""
OF_TRAINING = (
    "stages", "continual", "rounds", "online", "filter", "online_kl", "replay", "live", "publish",
    "report_to",
)  # fmt: skip
"""Keys that only apply if something is trained."""


def faults(recipe: "Recipe") -> list[str]:
    """Every contradiction in a recipe."""
    groups = (
        _reference, _adapters, _training, _reward_model, _own_answers, _fresh_kl, _rounds, _stages,
        _domains, _followed, _standard_input, _prompts,
    )  # fmt: skip
    return list(chain.from_iterable(rules(recipe) for rules in groups))


def _reference(recipe: "Recipe") -> Faults:
    begins = recipe.lora.start_from is not None
    several = recipe.continual is not None or recipe.rounds is not None or bool(recipe.stages)
    if recipe.reference == "previous" and not begins and not several:
        yield (
            "reference: 'previous' is the policy at the start of the run, which without "
            "lora.start_from is the base; set lora.start_from or reference: base"
        )
    if recipe.moving_reference is not None and begins and recipe.reference == "base":
        yield (
            "moving_reference: begins at the adapter that the run starts from; remove "
            "reference: base"
        )


def _adapters(recipe: "Recipe") -> Faults:
    lora, defaults = recipe.lora, LoraConfig()
    settings = ("rank", "alpha", "dropout", "target_modules")
    changed = [key for key in settings if getattr(lora, key) != getattr(defaults, key)]
    fresh = lora.freeze_start or recipe.rounds is not None
    if lora.start_from is not None and changed and not fresh:
        yield (
            f"lora.start_from: brings its own settings; remove {', '.join(changed)}, or learn a "
            "fresh adapter on top of it with lora.freeze_start: true"
        )
    if lora.freeze_start and lora.start_from is None:
        yield "lora.freeze_start: there is no adapter to leave as it is; set lora.start_from"
    if fresh and recipe.anchor is not None:
        where = "lora.freeze_start" if lora.freeze_start else "a round"
        yield f"anchor: holds the weights that are learned on, and {where} learns fresh ones"
    if recipe.anchor is not None and lora.start_from is None:
        yield "anchor: holds adapters near the one they start from; set lora.start_from"


def _training(recipe: "Recipe") -> Faults:
    train = recipe.train
    if recipe.load_in_4bit and train.precision != "bfloat16":
        yield "load_in_4bit: a 4-bit base computes in bfloat16; set train.precision to 'bfloat16'"
    if train.micro_batch_size is not None and train.micro_batch_size > train.batch_size:
        yield (
            f"train.micro_batch_size: got {train.micro_batch_size}; must not be above "
            f"train.batch_size = {train.batch_size}"
        )
    if train.compile and train.gradient_checkpointing:
        yield (
            "train.compile: cannot be combined with train.gradient_checkpointing; set one of them"
        )
    if train.max_steps is not None and train.warmup_steps >= train.max_steps:
        yield (
            f"train.warmup_steps: got {train.warmup_steps}; must be below train.max_steps = "
            f"{train.max_steps}"
        )
    if recipe.data.eval_sources and recipe.eval.num_prompts and recipe.task == "policy":
        yield from _room_for_prompts(recipe, "eval", recipe.eval.max_new_tokens)


def _room_for_prompts(recipe: "Recipe", section: str, max_new_tokens: int) -> Faults:
    if max_new_tokens >= recipe.data.max_length:
        yield (
            f"{section}.max_new_tokens: got {max_new_tokens}; must be below data.max_length = "
            f"{recipe.data.max_length}, which limits prompt plus answer"
        )


def _reward_model(recipe: "Recipe") -> Faults:
    if recipe.task == "policy":
        return
    for name in NOT_OF_REWARDS:
        if getattr(recipe, name):
            yield f"{name}: not supported for reward models; remove it"
    if recipe.lora.start_from is not None:
        yield "lora.start_from: not supported for reward models, which start from the base"
    if recipe.eval.judge is not None:
        yield "eval.judge: not supported for reward models, which generate no answers"


def _own_answers(recipe: "Recipe") -> Faults:
    """Rules for the three sections in which a judge compares the policy's answers."""
    sections = [name for name in ("rounds", "online", "filter") if getattr(recipe, name)]
    if sections and recipe.judge is None:
        yield f"judge: is missing; {sections[0]} needs one to compare the policy's answers"
    # A recipe that trains nothing may be for `fastslow judge` alone.
    trains = recipe.data.train_sources or recipe.stages or recipe.continual or recipe.live
    if recipe.judge is not None and not sections and recipe.prompts is None and trains:
        yield "judge: has nothing to compare; give rounds, online or filter, or remove it"
    if len(sections) > 1:
        yield f"{' and '.join(sections)}: cannot be combined; give one of them"
    if recipe.filter is not None:
        if recipe.stages or recipe.continual is not None or recipe.data.label_delay > 0:
            yield "filter: cannot be combined with continual, stages or data.label_delay"
        yield from _room_for_prompts(recipe, "filter", recipe.filter.max_new_tokens)
    if recipe.rounds is not None:
        yield from _compared_answers(recipe, "rounds", recipe.rounds)
    if recipe.online is not None:
        yield from _compared_answers(recipe, "online", recipe.online)
        if recipe.data.label_delay > 0 or recipe.drift is not None:
            yield (
                "online: cannot be combined with data.label_delay or drift, which are for stored "
                "pairs; remove them"
            )


def _compared_answers(recipe: "Recipe", name: str, answers: AnswerConfig) -> Faults:
    if recipe.continual is not None or recipe.stages:
        yield (
            f"{name}: cannot be combined with continual or stages in one recipe; train one after "
            "the other, the second with lora.start_from"
        )
    yield from _room_for_prompts(recipe, name, answers.max_new_tokens)
    if answers.offline_fraction > 0 and not recipe.data.train_sources:
        yield f"{name}.offline_fraction: takes pairs of data.train, which is missing"
    if "-" in [*answers.prompt_sources, *recipe.data.train_sources]:
        yield f"{name}: prompts are read more than once, which standard input cannot; give a file"
    if recipe.replay is not None and name == "rounds":
        yield f"{name}: cannot be combined with replay; set {name}.offline_fraction instead"


def _fresh_kl(recipe: "Recipe") -> Faults:
    kl, size = recipe.online_kl, recipe.train.batch_size
    if kl is None:
        return
    yield from _room_for_prompts(recipe, "online_kl", kl.max_new_tokens)
    if (kl.prompts or 0) > size:
        yield f"online_kl.prompts: got {kl.prompts}; must not be above train.batch_size = {size}"


def _rounds(recipe: "Recipe") -> Faults:
    rounds: RoundsConfig | None = recipe.rounds
    if rounds is None:
        return
    if rounds.beta is not None and len(rounds.beta) != rounds.count:
        yield f"rounds.beta: got {len(rounds.beta)} values for {rounds.count} rounds"


def _stages(recipe: "Recipe") -> Faults:
    if recipe.stages and recipe.continual is not None:
        yield (
            "stages: cannot be combined with continual; train the stages, `fastslow export` them "
            "merged, and give that folder as model"
        )
    yield from stage_faults(recipe.stages)


def _domains(recipe: "Recipe") -> Faults:
    """Rules for several domains, given or found by drift."""
    continual = recipe.continual
    if continual is None:
        return
    if bool(continual.domains) == (recipe.drift is not None):
        yield "continual: give either continual.domains, or drift to find them in data.train"
    if continual.domains and (recipe.data.train_sources or recipe.data.eval_sources):
        yield "continual.domains: bring their own data; remove data.train and data.eval"
    yield from _combination(recipe, continual)
    yield from _start_of_domains(recipe, continual)
    yield from _domain_files(continual.domains)
    if "-" in [*recipe.data.train_sources, *recipe.data.eval_sources]:
        yield (
            "continual: standard input (-) can be read once only, but each domain that drift finds "
            "is read up to from the beginning; write it to a file first"
        )


def _combination(recipe: "Recipe", continual: ContinualConfig) -> Faults:
    weights, fixed, domains = continual.weights, continual.fixed, continual.domains
    if (weights == "fixed") != (fixed is not None):
        yield "continual.fixed: goes together with continual.weights: fixed; give both or neither"
    if fixed is not None and domains and len(fixed) != len(domains):
        yield f"continual.fixed: got {len(fixed)} weights for {len(domains)} domains"
    if fixed is not None and recipe.drift is not None:
        yield "continual.fixed: how many domains drift will find is not known; take other weights"
    if continual.recompress is not None and weights in (None, "routed"):
        yield (
            "continual.recompress: there is no combination to compress with weights: "
            f"{weights or 'null'}"
        )
    fitted = weights in ("grid", "learned", "regmean", "distilled", "routed")
    needed = fitted or bool(continual.replay) or continual.anchor == "ewc"
    if recipe.data.replay_buffer_size == 0 and needed:
        yield "data.replay_buffer_size: is 0, but replay, ewc and fitted weights need the examples"


def _start_of_domains(recipe: "Recipe", continual: ContinualConfig) -> Faults:
    fresh = continual.start == "fresh"
    if continual.anchor is not None and fresh:
        yield "continual.anchor: fresh adapters have nothing to be held near; set start: continue"
    if recipe.lora.start_from is not None or recipe.anchor is not None or recipe.replay is not None:
        yield "lora.start_from, anchor and replay are set for each domain by continual; remove them"
    if recipe.reference == "previous" and fresh:
        yield "reference: 'previous' with start: fresh is the base; set reference: base"
    if recipe.moving_reference is not None and not fresh and recipe.reference != "previous":
        yield (
            "moving_reference: begins at the adapter before where continual.start is "
            f"{continual.start}; set reference: previous"
        )
    if continual.start == "recall" and recipe.drift is not None:
        yield "continual.start: domains that drift finds have no names that return; give continue"


def _domain_files(domains: list[DomainConfig]) -> Faults:
    unmeasured = [domain.name for domain in domains if not domain.eval_sources]
    if 0 < len(unmeasured) < len(domains):
        yield (
            "continual.domains: each is measured after every other, so give eval for all of them "
            f"or for none; it is missing for {', '.join(unmeasured)}"
        )
    evals: dict[str, list[str]] = {}
    for domain in domains:
        evals.setdefault(domain.name, domain.eval_sources)
    changing = [d.name for d in domains if evals[d.name] != d.eval_sources]
    if changing and not unmeasured:
        yield (
            f"continual.domains: {', '.join(changing)} returns with other held-out pairs than "
            "before; give it the same ones, or another name"
        )
    live = [source for d in domains for source in d.train_sources].count("-")
    if live > 1 or any("-" in d.eval_sources for d in domains):
        yield (
            "continual.domains: standard input (-) can be read once only, and held-out pairs are "
            "read more often"
        )


def _followed(recipe: "Recipe") -> Faults:
    """Rules for data that grows during training."""
    data = recipe.data
    votes = [source for source in data.train_sources if source.startswith("feedback:")]
    if data.follow:
        several = recipe.stages or recipe.continual or recipe.rounds or recipe.online
        if several or data.label_delay or recipe.drift:
            yield (
                "data.follow: only a run on the rows themselves can wait for more; remove it, or "
                "stages, rounds, online, continual, drift and data.label_delay"
            )
        if not data.train_sources:
            yield "data.follow: there is no data.train to follow"
    if recipe.train.epochs > 1 and (data.follow or votes):
        yield "train.epochs: rows that come over time are learned from once; set it to 1"
    if data.shuffle and votes:
        yield "data.shuffle: votes are learned from in their order; set it to 0"


def _standard_input(recipe: "Recipe") -> Faults:
    if recipe.data.label_delay > 0 and "-" in recipe.data.train_sources:
        yield (
            "data.label_delay: shows pairs ahead of learning them, which standard input cannot; "
            "give a file"
        )
    if [*recipe.data.train_sources, *recipe.data.eval_sources].count("-") > 1:
        yield "data: standard input (-) can be read once only"


def _prompts(recipe: "Recipe") -> Faults:
    """Rules for optimising an instruction, when nothing is trained."""
    prompts = recipe.prompts
    if prompts is None:
        return
    if (prompts.candidates is None) == (prompts.demonstrations is None):
        yield (
            "prompts: needs either candidates, a file of instructions, or demonstrations, from "
            "which the model writes them; give one of the two"
        )
    if prompts.initial > prompts.budget:
        yield f"prompts.initial: got {prompts.initial}; must not be above prompts.budget"
    if (prompts.metric == "judge") != (recipe.judge is not None):
        yield (
            "prompts.metric: judge and the section judge go together; give both or neither "
            f"(metric is {prompts.metric})"
        )
    if prompts.engine is None:
        yield from _room_for_prompts(recipe, "prompts", prompts.max_new_tokens)
    elif prompts.engine.folder is not None:
        yield "prompts.engine.folder: no adapter is written; remove it"
    extra = [name for name in OF_TRAINING if getattr(recipe, name)]
    extra += ["data.train"] if recipe.data.train_sources else []
    extra += ["task: reward"] if recipe.task == "reward" else []
    if extra:
        yield f"prompts: trains nothing; remove {' and '.join(extra)}"
