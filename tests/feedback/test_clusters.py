"""Prompts that are nearly the same, long ones too."""

import random

import pytest

from fastslow.feedback import clusters
from fastslow.feedback.clusters import MOST, band_keys


def signs(seed, count):
    draw = random.Random(seed)
    return "".join(chr(0x4E00 + draw.randrange(3000)) for _ in range(count))


def shared(*texts):
    first, second = map(band_keys, texts)
    return len({*first} & {*second})


@pytest.mark.parametrize("count", [200, 20 * MOST])
def test_texts_that_differ_in_little_share_keys_and_others_none(count):
    text = signs(0, count)
    assert shared(text, text[: count // 2] + signs(1, count // 50) + text[count // 2 :]) > 0
    assert shared(text, signs(2, count)) == 0


def test_a_long_text_takes_no_more_work_than_one_hash_of_each_trigram(monkeypatch):
    asked, plain = [], clusters._hash

    def counted(text):
        asked.append(text)
        return plain(text)

    monkeypatch.setattr(clusters, "_hash", counted)
    band_keys(signs(0, 10 * MOST))
    assert len(asked) < 10 * MOST + 31 * MOST
