"""Worlds: what is said, preferred and paid there agrees with the numbers the world is made of."""

import itertools
import json
import math
import random
from collections import Counter
from statistics import fmean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastslow.errors import ConfigError
from fastslow.streams.worlds import World
from fastslow.streams.worlds.language import (
    DETAILS,
    FORMS,
    LONGEST,
    MANNERS,
    REQUESTS,
    SLOTS,
    THINGS,
    TRAITS,
    Reading,
    read,
)
from fastslow.streams.worlds.world import MALFORMED

THING, OTHER = THINGS[0], THINGS[1]
UP, DOWN, NEUTRAL = range(3)
PULL = {UP: 1.0, DOWN: -1.0, NEUTRAL: 0.0}
ALL = len(REQUESTS)


def sentence(moods, *, form=0, thing=THING, word=0):
    """A sentence whose slots pull as given: a mood for every slot, or one for each."""
    moods = dict.fromkeys(SLOTS, moods) if isinstance(moods, int) else moods
    words = {name: slot.poles[moods[name]][word] for name, slot in SLOTS.items()}
    return FORMS[form].format(thing=thing, detail=DETAILS[0], **words)


def slots_of(form):
    return [name for name in SLOTS if f"{{{name}}}" in FORMS[form]]


def rows(world, domain, count, **options):
    return list(itertools.islice(world.pairs(domain, **({"seed": 1} | options)), count))


@pytest.fixture(scope="module")
def world():
    return World(seed=3)


# Reading


@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.parametrize("mood", [UP, DOWN, NEUTRAL])
def test_every_word_of_every_slot_pulls_its_trait_as_listed(form, mood):
    for word in range(min(len(slot.poles[mood]) for slot in SLOTS.values())):
        got = read(sentence(mood, form=form, word=word), THING)
        carried = {SLOTS[name].trait for name in slots_of(form)}
        expected = [PULL[mood] if trait in carried else 0.0 for trait in TRAITS[:-1]]
        assert got == Reading((*expected, 1.0), relevance=1.0, malformed=0.0)


def test_traits_are_means_over_the_slots_that_carry_them():
    got = read(f"{sentence(UP)} {sentence(NEUTRAL)}", THING)
    assert got.traits == (*[0.5] * (len(TRAITS) - 1), 0.0)
    got = read(f"{sentence(UP)} {sentence(UP)} {sentence(DOWN)}", THING)
    assert got.traits[:-1] == pytest.approx([1 / 3] * (len(TRAITS) - 1))
    assert got.traits[-1] == -1.0


def test_a_form_without_a_slot_says_nothing_of_its_trait():
    lacking = [(f, n) for f in range(len(FORMS)) for n in SLOTS if n not in slots_of(f)]
    whole = next(f for f in range(len(FORMS)) if len(slots_of(f)) == len(SLOTS))
    for form, name in lacking:
        text = f"{sentence(UP, form=whole)} {sentence(DOWN, form=form)}"
        traits = dict(zip(TRAITS, read(text, THING).traits, strict=True))
        assert traits[SLOTS[name].trait] == 1.0


@st.composite
def answers(draw):
    """An answer and what it must be read as."""
    pulls, about, said = {trait: [] for trait in TRAITS}, 0, []
    for _ in range(draw(st.integers(1, LONGEST + 2))):
        form = draw(st.integers(0, len(FORMS) - 1))
        moods = {name: draw(st.sampled_from([UP, DOWN, NEUTRAL])) for name in SLOTS}
        thing = draw(st.sampled_from([THING, OTHER]))
        said.append(sentence(moods, form=form, thing=thing))
        about += thing == THING
        for name in slots_of(form):
            pulls[SLOTS[name].trait].append(PULL[moods[name]])
    traits = [fmean(pulls[trait] or [0.0]) for trait in TRAITS[:-1]]
    return said, traits, about


@given(answers(), st.randoms())
def test_reading_counts_sentences_in_any_order(drawn, shuffle):
    said, traits, about = drawn
    shuffle.shuffle(said)
    got = read(" ".join(said), THING)
    assert got.traits[:-1] == pytest.approx(traits, abs=1e-12)
    assert got.traits[-1] == max(-1, 2 - len(said))
    assert got.relevance == pytest.approx(about / len(said))
    assert got.malformed == 0
    assert read(f"  {'  '.join(said)}\n", THING) == got


@pytest.mark.parametrize("text", ["", " ", ".", "...", "Hello.", "Hello", "\n.\n"])
def test_an_answer_that_says_nothing_is_malformed_and_neutral(text):
    assert read(text, THING) == Reading((0.0,) * len(TRAITS), relevance=0.0, malformed=1.0)


@pytest.mark.parametrize(
    ("spoil", "malformed"),
    [
        (lambda s: s.removesuffix("."), 1.0),
        (lambda s: s.lower(), 1.0),
        (lambda s: s.replace(" the ", " the the "), 1.0),
        (lambda s: s.replace(THING, "xyzzy"), 1.0),
        (lambda s: s.removesuffix(".") + "!", 1.0),
        (lambda s: f"{s} And", 0.5),
        (lambda s: f"{s}.", 0.5),
        (lambda s: f"{s}..", 2 / 3),
        (lambda s: f".{s}", 0.5),
        (lambda s: f"Hello. {s} {s}", 1 / 3),
    ],
)
def test_what_fits_no_form_is_malformed(spoil, malformed):
    got = read(spoil(sentence(UP)), THING)
    assert got.malformed == pytest.approx(malformed)
    assert got.relevance == pytest.approx(1 - malformed)


def test_words_of_a_language_mean_one_thing():
    words = [word for slot in SLOTS.values() for pole in slot.poles for word in pole]
    words += [*THINGS, *DETAILS]
    assert len(words) == len(set(words)) and not [word for word in words if " " in word]
    requests = [form for forms in REQUESTS.values() for form in forms]
    assert len(requests) == len(set(requests)) and all(form.count("{}") == 1 for form in requests)
    assert set(MANNERS) == set(TRAITS)


# Speech


@pytest.mark.parametrize("seed", range(4))
def test_everything_people_say_is_well_formed(seed):
    world, draw = World(seed=seed, num_domains=ALL), random.Random(seed)
    for domain in world.domains:
        for prompt in draw.sample(world.prompts(domain), 30):
            assert read(world.answer(prompt, draw), THING).malformed == 0
    for request, answer in world.corpus(200):
        assert read(answer, THING).malformed == 0
        assert any(request.startswith(prompt) for prompt in world._asked)


def test_a_word_on_the_manner_is_heeded(world):
    heard = {(trait, way): [] for trait in MANNERS for way in (0, 1)}
    for request, answer in world.corpus(1500):
        traits = dict(zip(TRAITS, read(answer, THING).traits, strict=True))
        for (trait, way), values in heard.items():
            if f"Be {MANNERS[trait][way]}." in request:
                values.append(traits[trait])
    for trait in MANNERS:
        assert fmean(heard[trait, 0]) > 0.5 and fmean(heard[trait, 1]) < -0.5


def test_the_same_seed_gives_the_same_everything():
    one, two = World(seed=7, num_domains=4), World(seed=7, num_domains=4)
    assert one == two and one.fingerprint() == two.fingerprint()
    assert (one.tastes, one.speaker) == (two.tastes, two.speaker)
    assert list(one.corpus(50)) == list(two.corpus(50))
    for domain in one.domains:
        assert one.prompts(domain) == two.prompts(domain)
        assert rows(one, domain, 20) == rows(two, domain, 20)
        assert rows(one, domain, 20) != rows(one, domain, 20, seed=2)
    prompt = one.prompts("guests")[0]
    said = [w.answer(prompt, random.Random(1)) for w in (one, two)]
    assert said[0] == said[1] and one.reward(prompt, said[0]) == two.reward(prompt, said[0])


def test_nothing_leans_on_the_global_generator(world):
    random.seed(1)
    state = random.getstate()
    fresh = World(seed=3)
    rows(fresh, "notes", 3)
    fresh.fingerprint()
    assert random.getstate() == state


def test_ten_seeds_are_ten_worlds():
    worlds = [World(seed=seed) for seed in range(10)]
    assert len({world.fingerprint() for world in worlds}) == 10
    assert len({str(world.tastes) for world in worlds}) == 10
    assert len({str(world.speaker) for world in worlds}) == 10
    assert len({str(world.prompts("notes", held_out=True)) for world in worlds}) == 10


# Tastes


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("conflict", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("count", range(2, ALL + 1))
def test_any_two_tastes_oppose_each_other_as_much_as_asked(count, conflict):
    for seed in range(3):
        tastes = World(seed=seed, num_domains=count, conflict=conflict).tastes
        assert len(tastes) == count
        for taste in tastes.values():
            assert dot(taste, taste) == pytest.approx(1, abs=1e-12)
        for a, b in itertools.combinations(tastes.values(), 2):
            expected = (1 - conflict) - conflict / (count - 1)
            assert dot(a, b) == pytest.approx(expected, abs=1e-12)


def test_a_world_of_one_domain_has_one_taste_of_length_1():
    (taste,) = World(num_domains=1).tastes.values()
    assert dot(taste, taste) == pytest.approx(1, abs=1e-12)


def test_phases_change_tastes_and_not_speech():
    before, after = World(seed=5), World(seed=5, phase=1)
    assert before.tastes != after.tastes and before.fingerprint() != after.fingerprint()
    assert before.speaker == after.speaker and list(before.corpus(50)) == list(after.corpus(50))
    for domain in before.domains:
        for held_out in (False, True):
            given = [w.prompts(domain, held_out=held_out) for w in (before, after)]
            assert given[0] == given[1]


def test_conflict_and_sharpness_leave_speech_alone():
    speech = {
        str((world.speaker, list(world.corpus(30)), world.prompts("notes")))
        for world in (World(), World(conflict=0.9), World(sharpness=5.0))
    }
    assert len(speech) == 1


# Requests


@pytest.mark.parametrize("seed", range(3))
def test_held_out_requests_are_other_requests_about_other_things(seed):
    world = World(seed=seed, num_domains=ALL)
    things = {True: set(), False: set()}
    for domain in world.domains:
        seen, held = world.prompts(domain), world.prompts(domain, held_out=True)
        assert not set(seen) & set(held)
        assert len(set(seen + held)) == len(THINGS) * len(REQUESTS[domain])
        for prompts, held_out in ((seen, False), (held, True)):
            things[held_out] |= {t for p in prompts for t in THINGS if f" {t}" in p}
    assert not things[True] & things[False]
    assert things[True] | things[False] == set(THINGS) and things[True]


def test_a_request_belongs_to_one_domain():
    world = World(num_domains=ALL)
    owners = Counter()
    for domain in world.domains:
        for prompt in world.prompts(domain) + world.prompts(domain, held_out=True):
            assert world.domain_of(prompt) == domain
            owners[prompt] += 1
    assert set(owners.values()) == {1}


def test_a_stranger_request_is_refused(world):
    missing = next(d for d in REQUESTS if d not in world.domains)
    stranger = REQUESTS[missing][0].format(THING)
    for ask in (
        world.domain_of,
        lambda prompt: world.reward(prompt, sentence(UP)),
        lambda prompt: world.answer(prompt, random.Random(0)),
    ):
        with pytest.raises(ConfigError, match="is not a prompt of this world"):
            ask(stranger)


# Rewards


@pytest.mark.parametrize("seed", range(3))
def test_what_people_say_is_paid_0_on_average_with_a_spread_of_1(seed):
    world, draw = World(seed=seed), random.Random(seed + 100)
    for domain in world.domains:
        prompts = world.prompts(domain)
        paid = [world.reward(p, world.answer(p, draw)) for p in draw.choices(prompts, k=2000)]
        # Two standard errors of a mean are 0.045, as many of the estimated centre again.
        assert fmean(paid) == pytest.approx(0, abs=0.12)
        assert pstdev(paid) == pytest.approx(1, abs=0.08)


def prompt_about(world, domain, thing):
    return next(p for p, asked in world._asked.items() if asked == (domain, thing))


@pytest.mark.parametrize("seed", range(3))
def test_the_best_paid_answer_has_the_traits_that_the_domain_values(seed):
    world = World(seed=seed)
    for domain in world.domains:
        prompt = prompt_about(world, domain, THING)
        paid = {}
        for *moods, length in itertools.product(*[(UP, DOWN)] * len(SLOTS), range(1, LONGEST + 1)):
            said = sentence(dict(zip(SLOTS, moods, strict=True)))
            paid[(*moods, length)] = world.reward(prompt, " ".join([said] * length))
        *moods, length = max(paid, key=paid.get)
        wanted = [value > 0 for value in world.tastes[domain]]
        assert [mood == UP for mood in moods] == wanted[:-1]
        assert length == (1 if wanted[-1] else LONGEST)
        *moods, length = min(paid, key=paid.get)
        assert [mood == DOWN for mood in moods] == wanted[:-1]
        assert length == (LONGEST if wanted[-1] else 1)


def test_what_one_domain_pays_for_follows_its_own_taste(world):
    # The same change of the same sentence is worth what each domain's taste says of it.
    for name, slot in SLOTS.items():
        plain = dict.fromkeys(SLOTS, NEUTRAL)
        gains = []
        for domain in world.domains:
            prompt = prompt_about(world, domain, THING)
            up, down = (world.reward(prompt, sentence(plain | {name: m})) for m in (UP, DOWN))
            taste = world.tastes[domain][TRAITS.index(slot.trait)]
            gains.append((up - down) / taste)
        assert gains[0] > 0 and gains == pytest.approx([gains[0]] * len(gains))


def test_standing_to_the_point_is_paid_everywhere(world):
    for domain in world.domains:
        prompt = prompt_about(world, domain, THING)
        for mood in (UP, DOWN, NEUTRAL):
            assert world.reward(prompt, sentence(mood)) > world.reward(
                prompt, sentence(mood, thing=OTHER)
            )


def test_malformed_answers_lose(world):
    draw = random.Random(2)
    for domain in world.domains:
        prompts = world.prompts(domain)
        for broken in ("", "...", "Hello", sentence(UP).removesuffix(".")):
            paid = world.reward(prompts[0], broken)
            assert paid == world.reward(prompts[0], "")
            beaten = [p for p in draw.choices(prompts, k=200)
                      if world.reward(p, world.answer(p, draw)) > paid]  # fmt: skip
            assert len(beaten) >= 196


@pytest.mark.parametrize("mood", [UP, DOWN, NEUTRAL])
def test_breaking_a_sentence_costs_at_least_its_share(world, mood):
    prompt = world.prompts("notes")[0]
    thing = world._asked[prompt][1]
    whole = [sentence(mood, thing=thing)] * LONGEST
    for broken in range(1, LONGEST):
        spoiled = [said.lower() for said in whole[:broken]] + whole[broken:]
        lost = world.reward(prompt, " ".join(whole)) - world.reward(prompt, " ".join(spoiled))
        assert lost > MALFORMED * broken / LONGEST


# Preferences


@given(st.floats(-50, 50), st.floats(-50, 50))
@settings(max_examples=50)
def test_probabilities_of_an_answer_and_of_the_other_sum_to_1(one, two):
    world = World(sharpness=1.5)
    likely = world.probability(one, two)
    assert likely + world.probability(two, one) == pytest.approx(1)
    assert likely == pytest.approx(1 / (1 + math.exp(-1.5 * (one - two))))
    assert (likely >= 0.5) == (one >= two) or math.isclose(one, two, abs_tol=1e-12)


def test_probabilities_of_far_apart_answers_do_not_overflow(world):
    assert world.probability(1e6, -1e6) == 1 and world.probability(-1e6, 1e6) == 0


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
@pytest.mark.parametrize("held_out", [False, True])
def test_rows_are_two_answers_of_the_domain_with_their_true_probability(sharpness, held_out):
    world = World(seed=2, sharpness=sharpness)
    for domain in world.domains:
        for row in rows(world, domain, 40, held_out=held_out):
            assert row["domain"] == domain
            assert row["prompt"] in world.prompts(domain, held_out=held_out)
            assert row["chosen"] != row["rejected"]
            gap = world.reward(row["prompt"], row["chosen"])
            gap -= world.reward(row["prompt"], row["rejected"])
            assert row["probability"] == pytest.approx(1 / (1 + math.exp(-sharpness * gap)))


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_the_better_answer_is_chosen_as_often_as_the_probabilities_say(sharpness):
    world = World(seed=4, sharpness=sharpness)
    drawn = rows(world, "guests", 2500)
    better = fmean(row["probability"] > 0.5 for row in drawn)
    likely = [max(row["probability"], 1 - row["probability"]) for row in drawn]
    error = math.sqrt(fmean(p * (1 - p) for p in likely) / len(drawn))
    assert better == pytest.approx(fmean(likely), abs=4 * error)
    assert better < 0.999


def test_a_sharper_world_is_surer():
    surer = [
        fmean(row["probability"] > 0.5 for row in rows(World(sharpness=s), "notes", 400))
        for s in (0.1, 1.0, 100.0)
    ]
    assert surer == sorted(surer) and surer[0] < 0.6 and surer[2] > 0.98


def test_lists_are_different_answers_whose_scores_are_rewards_with_gumbel_noise(world):
    rows = list(itertools.islice(world.lists("notes", seed=3, size=4), 300))
    noise = []
    for row in rows:
        assert len(row["completions"]) == len(set(row["completions"])) == len(row["scores"]) == 4
        rewards = [world.reward(row["prompt"], answer) for answer in row["completions"]]
        noise += [s - r for s, r in zip(row["scores"], rewards, strict=True)]
    # A Gumbel variable has the mean 0.5772 and the variance pi^2 / 6.
    assert fmean(noise) * world.sharpness == pytest.approx(0.5772, abs=0.12)
    assert pstdev(noise) * world.sharpness == pytest.approx(math.pi / math.sqrt(6), abs=0.12)
    assert rows == list(itertools.islice(world.lists("notes", seed=3, size=4), 300))
    assert rows != list(itertools.islice(world.lists("notes", seed=4, size=4), 300))


def test_of_two_answers_in_a_list_the_better_one_wins_as_often_as_its_probability(world):
    likely, won = [], []
    for row in itertools.islice(world.lists("notes", seed=0, size=2), 1500):
        rewards = [world.reward(row["prompt"], answer) for answer in row["completions"]]
        likely.append(world.probability(max(rewards), min(rewards)))
        won.append((row["scores"][0] > row["scores"][1]) == (rewards[0] > rewards[1]))
    assert fmean(won) == pytest.approx(fmean(likely), abs=0.03)


@pytest.mark.parametrize("noise", [0.0, 0.25, 1.0])
def test_noise_flips_the_share_asked_for_and_nothing_else(world, noise):
    count = 1200
    clean, noisy = rows(world, "notes", count), rows(world, "notes", count, noise=noise)
    flipped = 0
    for a, b in zip(clean, noisy, strict=True):
        flip = a["chosen"] != b["chosen"]
        flipped += flip
        turned = {"chosen": a["rejected"], "rejected": a["chosen"]}
        assert {k: v for k, v in b.items() if k != "probability"} == {
            k: v for k, v in (a | (turned if flip else {})).items() if k != "probability"
        }
        # The probability is that of the row's own order, so noise shows as unlikely rows.
        expected = 1 - a["probability"] if flip else a["probability"]
        assert b["probability"] == pytest.approx(expected)
    error = math.sqrt(noise * (1 - noise) / count)
    assert flipped / count == pytest.approx(noise, abs=4 * error)


# Files


def test_a_saved_world_is_the_same_world(tmp_path):
    world = World(seed=9, num_domains=4, conflict=0.75, sharpness=1.25, phase=2)
    world.save(tmp_path / "world.json")
    loaded = World.load(tmp_path / "world.json")
    assert loaded == world and loaded.fingerprint() == world.fingerprint()
    assert rows(loaded, "letters", 5) == rows(world, "letters", 5)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"num_domains": 2}, {"conflict": 0.6}, {"sharpness": 3.0}, {"phase": 1},
        {"fingerprint": "0" * 64}, {"fingerprint": None},
    ],
)  # fmt: skip
def test_a_tampered_file_is_refused(tmp_path, change):
    path = tmp_path / "world.json"
    World().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match="created by another version"):
        World.load(path)


@pytest.mark.parametrize(
    "change", [{"name": "x"}, {"num_domains": 3.0}, {"num_domains": "3"}, {"sharpness": None}]
)
def test_numbers_that_are_none_are_refused(tmp_path, change):
    path = tmp_path / "world.json"
    World().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match="is not a world"):
        World.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1, 2]", b"3", b'{"seed": 1}', b"\xff\xfe", b"a: b"]
)
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "world.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a world; create one"):
        World.load(path)


def test_a_missing_file_and_a_later_format_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a world"):
        World.load(tmp_path / "none.json")
    path = tmp_path / "world.json"
    World().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(ConfigError, match="got format 99"):
        World.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_domains": 0}, f"num_domains: got 0; must be from 1 to {ALL}"),
        ({"num_domains": ALL + 1}, f"num_domains: got {ALL + 1}"),
        ({"conflict": -0.01}, "conflict: got -0.01; must be from 0 to 1"),
        ({"conflict": 1.01}, "conflict: got 1.01"),
        ({"conflict": math.nan}, "conflict: got nan"),
        ({"sharpness": 0.0}, "sharpness: got 0.0; must be above 0"),
        ({"sharpness": -1.0}, "sharpness: got -1.0"),
        ({"sharpness": math.inf}, "sharpness: got inf"),
        ({"sharpness": math.nan}, "sharpness: got nan"),
        ({"format": 0}, "got format 0"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        World(**change)
