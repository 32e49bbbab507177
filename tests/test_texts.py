"""Words of texts in any script, and phrases that are in several of them."""

import random

import pytest

from fastslow.feedback.clusters import band_keys
from fastslow.live.frequent import Frequent
from fastslow.words import phrases_of, together, words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Inn's FINE, no?", ["the", "inn", "s", "fine", "no"]),
        ("snake_case x2", ["snake", "case", "x2"]),
        ("答案是北京。", ["答", "案", "是", "北", "京"]),
        ("これはカレー、です", ["こ", "れ", "は", "カ", "レ", "ー", "で", "す"]),
        ("한국어 문장입니다.", ["한국어", "문장입니다"]),
        ("สวัสดี", ["ส", "ว", "ั", "ส", "ด", "ี"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Größe, naïve e\u0301tude", ["grösse", "naïve", "e\u0301tude"]),
        ("iPhone手机2台", ["iphone", "手", "机", "2", "台"]),
        ("... !! 。，", []),
    ],
)
def test_words(text, expected):
    assert words_of(text) == expected


def test_phrases_are_written_as_their_script_is():
    assert together(["acme", "金", "色", "shop", "now"]) == "acme 金色 shop now"
    assert "金色店" in phrases_of(words_of("去金色店吧"), 3)
    assert phrases_of([], 3) == set()


def test_chinese_prompts_that_differ_in_a_sign_are_of_one_cluster():
    text = "请帮我写一封给房东的信，说明厨房的水龙头坏了，需要尽快修理，并且问一下费用由谁来承担"
    shared = set(band_keys(text)) & set(band_keys(text.replace("谁", "我")))
    assert shared and not set(band_keys(text)) & set(band_keys("今天北京的天气怎么样？适合出门吗"))


def test_frequent_phrases_are_all_found_and_hardly_any_others():
    draw = random.Random(0)
    rare = [{f"r{draw.random()}" for _ in range(1000)} for _ in range(200)]
    sets = [
        own | {"often"} | ({"seldom"} if place < 5 else set()) for place, own in enumerate(rare)
    ]
    found = Frequent(sets, 5)
    assert found.of(["often", "seldom"]) == {"often", "seldom"}
    assert sum(len(found.of(own)) for own in rare) < 20
    assert Frequent(sets[:4], 5).of(["often"]) == set()
