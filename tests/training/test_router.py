"""The router: an exact regression, labels from the losses, and one module for each prompt."""

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from fastslow.adapters import BASE, Factors, Modules, combine
from fastslow.errors import StateError
from fastslow.objectives import make_objective
from fastslow.records import Pair
from fastslow.sampling import generate
from fastslow.scoring import Encoder, Tree
from fastslow.training.continual.fit_router import fit_router
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.routed import DECAY, ROUTED, RoutedPolicies, Router

ENCODER = Encoder(tiny.tokenizer(), max_length=96)
SETTINGS = {"bfloat16": False, "max_length": 96, "pad_id": 0}


def encoded(domain, count, seed=1):
    return [
        ENCODER.encode(Pair(row["prompt"], row["chosen"], row["rejected"]))
        for row in tiny.domain_rows(domain, count, seed=seed)
    ]


def clusters(per=30, *, width=6, spread=0.3):
    """Points around three corners, and which corner each is from."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(per)
    points = torch.eye(3, width)[labels] * 4
    return points + spread * torch.randn(points.shape, generator=generator), labels


def test_separable_features_are_separated():
    features, labels = clusters()
    router = Router.fit(("a", "b", "c"), features, labels)
    assert router.choose(features) == [("a", "b", "c")[i] for i in labels]
    probabilities = router.probabilities(features)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(90))
    assert probabilities.gather(1, labels[:, None]).min() > 0.5


def test_the_optimum_is_stationary_and_constant_features_do_no_harm():
    features, labels = clusters(spread=3.0)  # Not separable: the optimum is in the midst.
    features = torch.cat([features, torch.full((90, 1), 7.0)], 1)
    router = Router.fit(("a", "b", "c", "never"), features, labels)
    t = {key: value.double() for key, value in router._tensors.items()}
    x = features.double()
    torch.testing.assert_close(t["mean"], x.mean(0), atol=1e-6, rtol=0)
    spread = (x - x.mean(0)).square().mean(0).sqrt()
    torch.testing.assert_close(t["scale"][:-1], spread[:-1], atol=1e-6, rtol=1e-6)
    x = (x - x.mean(0)) / spread.clamp_min(1e-6)
    excess = (x @ t["weight"].T + t["bias"]).softmax(-1) - torch.eye(4).double()[labels]
    gradient = excess.T @ x / 90 + 2 * DECAY * t["weight"]
    bias_gradient = excess.mean(0) + 2 * DECAY * t["bias"]
    assert gradient.abs().max() < 1e-5 and bias_gradient.abs().max() < 1e-5
    assert t["weight"].abs().max() > 0.1


def test_fitting_takes_no_chance():
    features, labels = clusters()
    first, second = (Router.fit(("a", "b", "c"), features, labels) for _ in range(2))
    assert torch.equal(first.probabilities(features), second.probabilities(features))


@pytest.fixture
def saved(tmp_path):
    features, labels = clusters()
    router = Router.fit(("01-a", "02-b", BASE), features, labels)
    router.save(tmp_path)
    return router, features, tmp_path


def test_a_saved_router_chooses_as_before(saved):
    router, features, folder = saved
    again = Router.load(folder)
    assert again.choices == ("01-a", "02-b", BASE)
    assert torch.equal(again.probabilities(features), router.probabilities(features))


def test_damaged_router_files_are_refused(saved):
    _, _, folder = saved
    table, tensors = folder / "router.json", folder / "router.safetensors"
    before = {path: path.read_bytes() for path in (table, tensors)}
    whole = load_file(tensors)
    for path, content, message in [
        (table, None, "router.json is missing"),
        (table, b"{", "router.json cannot be read"),
        (table, b"[]", "router.json is damaged"),
        (table, b'{"choices": 3}', "router.json is damaged"),
        (table, b'{"choices": ["a", "b"]}', "do not fit each other"),
        (tensors, None, "no router that can be read"),
        (tensors, before[tensors][:100], "no router that can be read"),
        (tensors, b"", "no router that can be read"),
        (tensors, {k: v for k, v in whole.items() if k != "weight"}, "no router"),
        (tensors, {k: v for k, v in whole.items() if k != "mean"}, "do not fit each other"),
        (tensors, whole | {"mean": whole["mean"][:2].clone()}, "do not fit each other"),
    ]:
        path.unlink()
        if isinstance(content, dict):
            save_file(content, path)
        elif content is not None:
            path.write_bytes(content)
        with pytest.raises(StateError, match=message) as caught:
            Router.load(folder)
        assert str(folder) in str(caught.value)
        path.write_bytes(before[path])
    assert Router.load(folder).choices[2] == BASE


@pytest.fixture(scope="module")
def folders(continual_run, tmp_path_factory):
    """The module that learned what is good, and its opposite."""
    folder, _ = continual_run
    opposite = tmp_path_factory.mktemp("opposite") / "adapter"
    combine([Factors.read(folder / "bank" / "01-warm")], [-1.0]).write(opposite)
    return {"01-good": folder / "bank" / "01-warm", "02-bad": opposite}


def policies_of(folders, router=None):
    modules = Modules.load(tiny.model(), folders, trainable=())
    if router is None:
        return Policies(modules, **SETTINGS)
    return RoutedPolicies(modules, router, **SETTINGS)


def test_each_domain_goes_to_its_best_module_or_to_none_at_all(folders):
    warm, cold = encoded("warm", 10), encoded("cold", 10)
    objective = make_objective("dpo")
    policies = policies_of(folders)
    router = fit_router(policies, ("01-good", "02-bad"), [warm, cold], objective)
    assert router.choices == ("01-good", "02-bad", BASE)
    chosen = {
        name: set(router.choose(policies.embed([p.tree.prompt for p in encoded(name, 20, 9)])))
        for name in ("warm", "cold")
    }
    assert chosen == {"warm": {"01-good"}, "cold": {"02-bad"}}
    # Where every module is worse than none, none answers.
    router = fit_router(policies, ("02-bad",), [warm, cold], objective)
    assert set(router.choose(policies.embed([p.tree.prompt for p in warm]))) == {BASE}
    assert set(router.choose(policies.embed([p.tree.prompt for p in cold]))) == {"02-bad"}


@pytest.fixture(scope="module")
def routed(folders):
    """Policies that send three kinds of prompts to three places."""
    policies = policies_of(folders)
    features = [
        policies.embed([p.tree.prompt for p in encoded(name, 12)])
        for name in ("warm", "cold", "late")
    ]
    labels = torch.arange(3).repeat_interleave(12)
    router = Router.fit(("01-good", "02-bad", BASE), torch.cat(features), labels)
    return policies_of(folders, router)


def mixed_trees():
    """Prompts of all kinds in turn, with one to three responses each."""
    items = zip(*(encoded(name, 3, seed=5) for name in ("late", "warm", "cold")), strict=True)
    trees = []
    for number, item in enumerate(pair for triple in items for pair in triple):
        first, second = item.tree.responses
        responses = ((first,), (first, second), (second, first, first[:2]))[number % 3]
        trees.append(Tree(item.tree.prompt, responses))
    return [trees[i] for i in (0, 4, 1, 8, 3, 2, 7, 5, 6)]


EXPECTED = {"late": BASE, "warm": "01-good", "cold": "02-bad"}


def test_a_routed_score_is_that_of_each_tree_under_its_own_module(routed):
    trees = mixed_trees()
    routes = routed.routes([tree.prompt for tree in trees])
    assert set(routes) == set(EXPECTED.values())
    scores = routed.score(ROUTED, routed.batch(trees))
    alone = [
        routed.score(route, routed.batch([tree])) for route, tree in zip(routes, trees, strict=True)
    ]
    torch.testing.assert_close(scores, torch.cat(alone), atol=1e-4, rtol=0)
    for name in ("01-good", BASE):
        assert not torch.allclose(scores, routed.score(name, routed.batch(trees)), atol=1e-2)
        plain = Policies.score(routed, name, routed.batch(trees))
        assert torch.equal(routed.score(name, routed.batch(trees)), plain)


def test_routed_answers_are_those_of_each_prompts_module(routed):
    prompts = [tree.prompt for tree in mixed_trees()]
    settings = {"end_ids": [2], "max_new_tokens": 8, "seed": 3, "num_generations": 2}
    answers = routed.generate(ROUTED, prompts, **settings)
    routes = routed.routes(prompts)
    assert [len(samples) for samples in answers] == [2] * 9
    for route in set(routes):
        rows = [i for i, chosen in enumerate(routes) if chosen == route]
        with routed.modules.using(route):
            own = generate(
                routed.modules.causal_lm, [prompts[i] for i in rows], pad_id=0, **settings
            )
        assert [answers[i] for i in rows] == own
    plain = Policies.generate(routed, BASE, prompts, **settings)
    assert routed.generate(BASE, prompts, **settings) == plain != answers
