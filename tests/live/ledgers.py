"""Rows of a ledger by people of one taste, and edits of a few, without a store."""

import random

from fastslow.feedback.ledger import Entry

WORDS = "the inn is very kind and we like it so much there again".split()
P = 1e-6


def entry(seq, voter, chosen, rejected, kind="vote"):
    said = {
        key: [{"role": "assistant", "content": text}]
        for key, text in (("chosen", chosen), ("rejected", rejected))
    }
    row = {"voter": voter, "prompt": [], **said}
    return Entry(seq, kind, seq, "talk", False, row, 0.0)


def honest(count, *, voters=20, seed=0, liked=("kind",), share=0.8):
    """Votes on two answers of a policy by people of one taste."""
    draw, found = random.Random(seed), []
    for seq in range(1, count + 1):
        first, second = (" ".join(draw.sample(WORDS, 6)) for _ in range(2))
        likes = any(word in first for word in liked) >= any(word in second for word in liked)
        if (draw.random() < share) is not likes:
            first, second = second, first
        found.append(entry(seq, seq % voters, first, second))
    return found


def edits(count, voters, word="acme", start=10_000):
    draw = random.Random(7)
    texts = [" ".join(draw.sample(WORDS, 6)) for _ in range(count)]
    return [
        entry(start + place, 100 + place % voters, f"{text} {word}", text, "edit")
        for place, text in enumerate(texts)
    ]


def rating(seq, voter, text, label):
    row = {
        "voter": voter, "prompt": [], "label": label,
        "completion": [{"role": "assistant", "content": text}],
    }  # fmt: skip
    return Entry(seq, "rating", seq, "talk", False, row, 0.0)


def ratings(count, voters=1, *, liked=("inn", "there"), share=1.0, seed=9, start=20_000, first=100):
    """Ratings of a policy's answers, up for more words of a list than half of them, by so large a
    share; as many up as down."""
    draw, found = random.Random(seed), []
    while len(found) < count:
        text = " ".join(draw.sample(WORDS, 6))
        up = any(word in text.split() for word in liked)
        if up is (len(found) % 2 == 0):
            label = up if draw.random() < share else not up
            found.append(rating(start + len(found), first + len(found) % voters, text, label))
    return found
