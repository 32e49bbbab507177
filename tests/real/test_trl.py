"""Every loss of TRL against ours: its value, and its gradient by every tensor of a LoRA module.

TRL's real trainers and our real path (tokens, trees, log-probs, objective) are given the same rows,
the same base and the same module, which has left the base. The model is tiny, in float64 and has
learned the rows a little, so that responses are about as likely as a language model finds them.
Where conventions differ, what is asserted is the exact relation, not that they are close.

TRL's own kernel takes log-probs in float32, which is why no more than 1e-5 is asked.
"""

import inspect
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import pytest
import tiny
import torch
import yaml

trl = pytest.importorskip("trl", reason="NOT COMPARED WITH TRL: it is not installed")

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # Or it warns when it is imported.

import datasets  # noqa: E402
from peft import LoraConfig  # noqa: E402
from trl.experimental import cpo, online_dpo, orpo, tpo  # noqa: E402

from fastslow.adapters import Modules  # noqa: E402
from fastslow.config import load_recipe  # noqa: E402
from fastslow.convert import convert  # noqa: E402
from fastslow.objectives import make_objective  # noqa: E402
from fastslow.scoring import Encoder, Tree  # noqa: E402
from fastslow.streams import examples_of_row  # noqa: E402
from fastslow.training.loop.logps import logps_of, score_reference  # noqa: E402
from fastslow.training.policies.policies import Policies  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's, of its experiments and deprecations.

TOLERANCE = 1e-5
PAIRS = 8
END = "<|end|>"


# What both sides are given.


@dataclass(frozen=True)
class World:
    """A base, a module on it that is the policy, and rows by name."""

    tokenizer: Any
    weights: dict[str, torch.Tensor]
    modules: Modules
    policies: Policies
    rows: dict[str, list[dict]]

    def base(self):
        """The base once more, for TRL to wrap."""
        model = tiny.model().double()
        model.load_state_dict(self.weights)
        return model


@pytest.fixture(scope="module")
def world():
    datasets.disable_progress_bars()
    tokenizer = tiny.tokenizer(None)
    rows = drawn(200)
    base = tiny.model().double()
    learn(base, base.parameters(), tokenizer, rows, ("chosen", "rejected"), steps=46)
    weights = {key: value.clone() for key, value in base.state_dict().items()}
    modules = Modules.attach(base, ("policy",), rank=4, alpha=8.0)
    with modules.using("policy"):
        learn(base, modules.parameters("policy").values(), tokenizer, rows, ("chosen",), steps=10)
    policies = Policies(modules, bfloat16=False, max_length=128, pad_id=0)
    assert policies.layout.trees
    # Neighbours, the last and the first too, ask different things, or we would mismatch others.
    mixed = rows[1 : PAIRS + 1]
    named = {
        "mixed": mixed,
        "one": mixed[:1],
        "liked": liked(mixed),
        "unlikely": [*mixed[:4], *map(backwards, mixed[4:])],
        "alike": alike(tokenizer, rows),
    }
    return World(tokenizer, weights, modules, policies, named)


def drawn(count):
    """Pairs as plain text. The first token is written out, since CPO and ORPO would add it."""
    return [
        {
            "prompt": "<|bos|>" + row["prompt"],
            "chosen": " " + row["chosen"],
            "rejected": " " + row["rejected"],
        }
        for row in tiny.domain_rows("warm", count, seed=3)
    ]


def liked(rows):
    """Pairs of which both responses are a chosen one: the policy has learned both."""
    others = rows[3:] + rows[:3]
    return [row | {"rejected": other["chosen"]} for row, other in zip(rows, others, strict=True)]


def backwards(row):
    """Responses that nobody would have sampled."""
    return row | {side: " " + row[side].strip()[::-1] for side in ("chosen", "rejected")}


def alike(tokenizer, rows):
    """Pairs without a prompt, whose chosen responses have the same number of tokens."""
    lengths = [len(tokenizer(row["chosen"])["input_ids"]) for row in rows]
    ((usual, _),) = Counter(lengths).most_common(1)
    kept = [row for row, length in zip(rows, lengths, strict=True) if length == usual]
    return [row | {"prompt": "<|bos|>"} for row in kept[:PAIRS]]


def learn(model, parameters, tokenizer, rows, sides, *, steps):
    """A few steps of likelihood."""
    texts = [row["prompt"] + row[side] + END for row in rows[:24] for side in sides]
    given = tokenizer(texts, padding=True, return_tensors="pt")
    labels = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW([p.requires_grad_() for p in parameters], lr=3e-3)
    for _ in range(steps):
        model(**given, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


# Our side.


@dataclass(frozen=True)
class Ours:
    """Our losses of some rows, with one beta for all of them."""

    world: World
    rows: list[dict]
    beta: float

    def items(self, kind):
        """The rows as a kind of label; of thumbs those that are up first."""
        encoder = Encoder(self.world.tokenizer, max_length=128)
        examples = [
            example
            for row in self.rows
            for example in examples_of_row(row, source="test", kind=kind)
        ]
        examples.sort(key=lambda example: not getattr(example, "desirable", True))
        return [encoder.encode(example) for example in examples]

    def losses(self, name, *, items=None, reference=True, **hyper):
        """The loss of every example, and the log-probs; without a reference, its are 0."""
        objective = make_objective(name, beta=self.beta, **hyper)
        items = items or self.items(objective.takes)
        prepared = score_reference(self.world.policies, objective, items, reference="base")
        score = partial(self.world.policies.measure, "policy", learning=True)
        logps = logps_of(prepared, objective, score, state=objective.initial_state())
        if not reference:
            zeros = torch.zeros_like(logps.reference_chosen)
            logps = replace(logps, reference_chosen=zeros, reference_rejected=zeros)
        return objective(logps).loss, logps

    def mean(self, name, **settings):
        return self.losses(name, **settings)[0].mean()


def mean(name, **settings):
    """The mean over examples, which is what we train on."""
    return lambda ours: ours.mean(name, **settings)


def nll_of_tokens(ours, items=None):
    """TRL's likelihoods: the mean over the tokens of all chosen responses together."""
    sums, logps = ours.losses("sft", reduction="sum", items=items)
    return sums.sum() / logps.chosen_length.sum()


def nll_with_prompt(ours):
    """The same, the prompt after its first token counted as a part of the response."""

    def whole(tree):
        return Tree(tree.prompt[:1], (tree.prompt[1:] + tree.responses[0],))

    items = ours.items("demonstrations")
    return nll_of_tokens(ours, [replace(item, tree=whole(item.tree)) for item in items])


def kto(ours, **settings):
    """TRL's baseline pairs a prompt with the response before it, ours with the one after it."""
    return ours.mean("kto", items=ours.items("ratings")[::-1], **settings)


def kto_above_its_baseline(ours):
    assert ours.losses("kto")[1].extras["mismatched_log_ratio"].mean() > 0.1
    return kto(ours, desirable_weight=2.0, undesirable_weight=0.5)


def wpo_without_clamp(ours):
    losses, logps = ours.losses("wpo")
    means = logps.chosen_mean + logps.rejected_mean
    exponents = means - logps.extras["chosen_collision"] - logps.extras["rejected_collision"]
    assert exponents.min() < 0 < exponents.max()  # Both kinds of pairs are there.
    return (losses * exponents.detach().exp().clamp(min=1.0)).mean()


def rpo_by_sums(ours):
    """eta beta of the sum is 0.2 of the mean, where all responses have one length."""
    length = ours.losses("dpo")[1].chosen_length[0].item()
    return ours.mean("rpo", eta=0.2 / (ours.beta * length))


# TRL's side.


def of_batch(trainer, rows):
    """The loss of all rows, with gradients."""
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    loss.backward()
    return loss


def of_answers(trainer, rows):
    """The same, as if the policy had just given these responses."""
    tokens = partial(trainer.processing_class, padding=True, return_tensors="pt")
    prompts = [row["prompt"] for row in rows]
    answers = [row[side] + END for side in ("chosen", "rejected") for row in rows]
    parts = tokens(prompts * 2, padding_side="left"), tokens(answers, padding_side="right")
    generated = [part[key] for part in parts for key in ("input_ids", "attention_mask")]
    trainer._generate = lambda *_: (*generated, None)
    return trainer.training_step(trainer.model, {"prompt": prompts})


def first_half_wins(prompts, **_):
    return [float(2 * i < len(prompts)) for i in range(len(prompts))]


def thumbs(row):
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for side in ("chosen", "rejected")
    ]


def shown(row):
    return [{"prompt": row["prompt"], "completion": row["chosen"]}]


def triple(row):
    """TPO's likelihood is of a third response, for which it gets the chosen one."""
    return [row | {"reference": row["chosen"]}]


@dataclass(frozen=True)
class Theirs:
    """How one of TRL's trainers is given rows and asked for its loss."""

    trainer: type
    config: type
    method: str
    """Where it tells loss types apart."""
    rows: Callable = lambda row: [row]
    loss: Callable = of_batch
    more: dict = field(default_factory=dict)


TRAINERS = {
    "DPO": Theirs(trl.DPOTrainer, trl.DPOConfig, "_compute_loss"),
    "KTO": Theirs(trl.KTOTrainer, trl.KTOConfig, "_compute_loss", thumbs),
    "SFT": Theirs(trl.SFTTrainer, trl.SFTConfig, "compute_loss", shown),
    "CPO": Theirs(cpo.CPOTrainer, cpo.CPOConfig, "cpo_loss"),
    "ORPO": Theirs(orpo.ORPOTrainer, orpo.ORPOConfig, "odds_ratio_loss"),
    "TPO": Theirs(tpo.TPOTrainer, tpo.TPOConfig, "_compute_loss", triple),
    "online DPO": Theirs(
        online_dpo.OnlineDPOTrainer,
        online_dpo.OnlineDPOConfig,
        "training_step",
        loss=of_answers,
        more={"reward_funcs": first_half_wins},
    ),
}


@dataclass(frozen=True)
class Case:
    """A loss of TRL, and what of ours it equals."""

    trainer: str
    loss_type: str | list[str] | None
    ours: Callable[[Ours], torch.Tensor]
    beta: float
    rows: str
    theirs: dict


def equal(trainer, loss_type, ours, *, beta=0.5, rows="mixed", **theirs):
    return Case(trainer, loss_type, ours, beta, rows, theirs)


AND_SFT = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}

CASES = {
    "dpo": equal("DPO", "sigmoid", mean("dpo")),
    "dpo, online": equal("online DPO", "sigmoid", mean("dpo")),
    "dpo, forward_kl": equal(
        "DPO", "sigmoid", mean("dpo", divergence="forward_kl"), f_divergence_type="forward_kl"
    ),
    "dpo, js": equal(
        "DPO", "sigmoid", mean("dpo", divergence="js"), f_divergence_type="js_divergence"
    ),
    # Our alpha is 1 - TRL's; the default of both is 0.5.
    "dpo, alpha": equal(
        "DPO",
        "sigmoid",
        mean("dpo", divergence="alpha", divergence_alpha=0.3),
        f_divergence_type="alpha_divergence",
        f_alpha_divergence_coef=0.7,
    ),
    # `sigmoid` smooths no labels. The two of optimal transport do; we lack them, but all they do
    # besides is to sort the batch, and one pair is sorted.
    "dpo, not smoothed": equal("DPO", "sigmoid", mean("dpo"), label_smoothing=0.1),
    "dpo, smoothed": equal(
        "DPO", "aot", mean("dpo", label_smoothing=0.1), rows="one", label_smoothing=0.1
    ),
    "dpo, smoothed, unpaired": equal(
        "DPO", "aot_unpaired", mean("dpo", label_smoothing=0.1), rows="one", label_smoothing=0.1
    ),
    "robust_dpo": equal(
        "DPO", "robust", mean("robust_dpo", label_smoothing=0.1), label_smoothing=0.1
    ),
    "ipo": equal("DPO", "ipo", mean("ipo")),
    "ipo of sums": equal("online DPO", "ipo", mean("ipo", length_normalised=False)),
    "hinge": equal("DPO", "hinge", mean("hinge"), beta=0.35),
    "length_normalised_dpo": equal("DPO", "sigmoid_norm", mean("length_normalised_dpo"), beta=5.0),
    "exo": equal("DPO", "exo_pair", mean("exo"), label_smoothing=1e-3),
    "nca": equal("DPO", "nca_pair", mean("nca")),
    "anchored_zero": equal("DPO", "apo_zero", mean("anchored_zero")),
    "anchored_zero, thumbs": equal(
        "KTO", "apo_zero_unpaired", lambda ours: ours.mean("anchored_zero") / 2
    ),
    "anchored_down": equal("DPO", "apo_down", mean("anchored_down")),
    "discopop": equal("DPO", "discopop", mean("discopop", tau=0.2), discopop_tau=0.2),
    "sppo": equal("DPO", "sppo_hard", lambda ours: 2 * ours.mean("sppo")),
    "wpo": equal("DPO", "sigmoid", wpo_without_clamp, rows="unlikely", use_weighting=True),
    # One loss for both responses of a pair there, one for each here; ours before its first step.
    "bco": equal("DPO", "bco_pair", lambda ours: 2 * ours.mean("bco")),
    # The baseline is 0 on these rows: what is not liked is less likely than under the base.
    "kto": equal("KTO", "kto", kto),
    "kto, baseline and weights": equal(
        "KTO",
        "kto",
        kto_above_its_baseline,
        rows="liked",
        desirable_weight=2.0,
        undesirable_weight=0.5,
    ),
    # A likelihood is the mean over a batch's tokens there and over each response's own here: the
    # same where chosen responses are alike in length.
    "sft": equal("SFT", "nll", nll_of_tokens),
    "sft, alike": equal("SFT", "nll", mean("sft"), rows="alike"),
    "sft of pairs": equal("DPO", "sft", nll_of_tokens),
    "dpo + sft": equal(
        "DPO", **AND_SFT, ours=lambda ours: ours.mean("dpo") + 0.2 * nll_of_tokens(ours)
    ),
    "dpo + sft, alike": equal("DPO", **AND_SFT, ours=mean("dpo + 0.2 * sft"), rows="alike"),
    "nll_weight, alike": equal("DPO", **AND_SFT, ours=mean("dpo", nll_weight=0.2), rows="alike"),
    "rpo of means, alike": equal(
        "DPO", **AND_SFT, ours=mean("rpo", anchor="mean", eta=0.2), rows="alike"
    ),
    "rpo of sums, alike": equal("DPO", **AND_SFT, ours=rpo_by_sums, rows="alike"),
    "dpo + bco + sft": equal(
        "DPO",
        ["sigmoid", "bco_pair", "sft"],
        lambda ours: 0.8 * ours.mean("dpo") + 0.4 * ours.mean("bco") + nll_of_tokens(ours),
        loss_weights=[0.8, 0.2, 1.0],
    ),
    "hinge + ipo": equal(
        "DPO", ["hinge", "ipo"], mean("hinge + 0.5 * ipo"), loss_weights=[1.0, 0.5]
    ),
    "cpo": equal("CPO", "sigmoid", lambda ours: ours.mean("cpo", nll=0.0) + nll_of_tokens(ours)),
    "cpo, alike": equal("CPO", "sigmoid", mean("cpo", nll=0.5), rows="alike", cpo_alpha=0.5),
    "reference_free": equal("CPO", "sigmoid", mean("reference_free"), cpo_alpha=0.0),
    "simpo": equal(
        "CPO",
        "simpo",
        mean("simpo", gamma_beta_ratio=0.25, label_smoothing=0.1),
        beta=2.0,
        cpo_alpha=0.0,
        simpo_gamma=0.5,
        label_smoothing=0.1,
    ),
    "simpo + sft, alike": equal(
        "CPO", "simpo", mean("simpo + sft"), beta=2.0, rows="alike", simpo_gamma=0.5
    ),
    # Ours have a reference, which is left out; TPO's likelihood is switched off or of the chosen.
    "dpo, smoothed, no reference": equal(
        "CPO",
        "sigmoid",
        mean("dpo", label_smoothing=0.1, reference=False),
        cpo_alpha=0.0,
        label_smoothing=0.1,
    ),
    "hinge, no reference": equal("CPO", "hinge", mean("hinge", reference=False), cpo_alpha=0.0),
    "ipo, no reference": equal("CPO", "ipo", mean("ipo", reference=False), cpo_alpha=0.0),
    "orpo": equal(
        "ORPO", None, lambda ours: ours.mean("orpo") - ours.mean("sft") + nll_with_prompt(ours)
    ),
    "orpo, alike": equal("ORPO", None, mean("orpo"), rows="alike"),
    "cpo by TPO, alike": equal("TPO", "sigmoid", mean("cpo"), rows="alike"),
    "hinge by TPO": equal("TPO", "hinge", mean("hinge", reference=False), tpo_alpha=0.0),
    "ipo by TPO": equal("TPO", "ipo", mean("ipo", reference=False), tpo_alpha=0.0),
    "simpo by TPO": equal("TPO", "tpo-l", mean("simpo"), beta=2.0, tpo_alpha=0.0, tpo_l_gamma=0.5),
}
NOT_HERE = {"SFT": {"dft"}}
"""Loss types of TRL that nothing of ours equals on any batch."""
WITHOUT_BETA = ("nll", "sft")


def make_trainer(world, case, folder):
    """TRL's trainer for a case, with our module's weights, and its parameters by our names."""
    theirs = TRAINERS[case.trainer]
    rows = [made for row in world.rows[case.rows] for made in theirs.rows(row)]
    rows.sort(key=lambda row: not row.get("label", True))
    settings = {"loss_type": case.loss_type, "beta": case.beta}
    known = {f.name for f in fields(theirs.config)}
    trainer = theirs.trainer(
        model=world.base(),
        args=theirs.config(
            output_dir=str(folder), use_cpu=True, bf16=False, gradient_checkpointing=False,
            report_to=[], per_device_train_batch_size=len(rows), **case.theirs,
            **{key: value for key, value in settings.items() if key in known},
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=world.tokenizer,
        peft_config=LoraConfig(
            r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        **theirs.more,
    )  # fmt: skip
    named = {
        key.replace(".default.", ".policy."): parameter
        for key, parameter in trainer.model.named_parameters()
    }
    for key, value in world.modules.tensors("policy").items():
        named[key].data.copy_(value)
    return trainer, named


@pytest.mark.parametrize("name", CASES)
def test_a_loss_and_its_gradients_equal_trls(world, tmp_path, name):
    case = CASES[name]
    rows = world.rows[case.rows]
    trainer, named = make_trainer(world, case, tmp_path)
    theirs = TRAINERS[case.trainer].loss(trainer, rows).item()

    loss = case.ours(Ours(world, rows, case.beta))
    own = world.modules.parameters("policy")
    gradients = torch.autograd.grad(loss, list(own.values()))
    assert loss.item() == pytest.approx(theirs, rel=TOLERANCE)
    for key, gradient in zip(own, gradients, strict=True):
        error = (gradient - named[key].grad).norm() / named[key].grad.norm()
        assert error < TOLERANCE, f"{key}: {error}"
    # The comparison is fine enough to see 1 % of beta.
    if case.loss_type not in WITHOUT_BETA:
        stronger = case.ours(Ours(world, rows, 1.01 * case.beta))
        assert stronger.item() != pytest.approx(theirs, rel=3 * TOLERANCE)


@pytest.mark.parametrize("name", TRAINERS)
def test_every_loss_type_of_a_trainer_is_compared(name):
    theirs = TRAINERS[name]
    source = inspect.getsource(getattr(theirs.trainer, theirs.method))
    compared = set()
    for case in CASES.values():
        if case.trainer == name and case.loss_type:
            compared |= {case.loss_type} if isinstance(case.loss_type, str) else {*case.loss_type}
    known = set(re.findall(r'loss_type == "([\w-]+)"', source))
    assert known == compared | NOT_HERE.get(name, set())


CONVERTED = (
    "dpo", "dpo, forward_kl", "dpo, js", "dpo, alpha", "dpo, not smoothed", "robust_dpo", "ipo",
    "hinge", "length_normalised_dpo", "exo", "nca", "anchored_zero", "anchored_down", "discopop",
    "sppo", "dpo + sft, alike", "hinge + ipo",
)  # fmt: skip
"""Losses whose recipe `fastslow convert` makes of TRL's settings, and which are equal."""


@pytest.mark.parametrize("name", CONVERTED)
def test_a_converted_recipe_has_the_loss_of_its_yaml(world, tmp_path, name):
    case, file = CASES[name], tmp_path / "trl.yaml"
    settings = {"loss_type": case.loss_type, "beta": case.beta, **case.theirs}
    base = {"model_name_or_path": "m", "dataset_name": "a/b", "use_peft": True}
    file.write_text(yaml.safe_dump(base | settings))
    objective = load_recipe(convert(file).recipe).objective
    own = {key: value for key, value in objective.settings.items() if key != "beta"}
    rows = world.rows[case.rows]
    loss = Ours(world, rows, objective.settings["beta"]).mean(objective.name, **own)
    trainer, _ = make_trainer(world, case, tmp_path)
    theirs = TRAINERS[case.trainer].loss(trainer, rows).item()
    assert loss.item() == pytest.approx(theirs, rel=TOLERANCE)
