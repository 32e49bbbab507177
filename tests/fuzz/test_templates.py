"""Chat templates and tokenizers in 40 combinations: a conversation is learned as it was given, or
skipped with a reason, or a note says what the template does with it."""

import re
from itertools import product

import pytest
import tiny
from tokenizers.processors import TemplateProcessing

from fastslow.errors import EncodingError
from fastslow.records import Message, Pair
from fastslow.scoring import Dropped, Encoder

TURN = "<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n"
OPEN = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"


def loop(body: str, after: str = OPEN) -> str:
    return "{% for m in messages %}" + body + "{% endfor %}" + after


TEMPLATES = {
    "usual": loop(TURN),
    "no generation prompt": loop(TURN, ""),
    "other end": loop(TURN.replace("<|end|>", "<|system|>")),
    "no end": loop(TURN.replace("<|end|>", "")),
    "trimmed": loop(TURN.replace("m['content']", "m['content'] | trim")),
    "two roles": loop("{% if m['role'] in ['user', 'assistant'] %}" + TURN + "{% endif %}"),
    "system last": (
        "{% for m in messages %}{% if m['role'] != 'system' %}<|{{ m['role'] }}|>"
        "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
        "{% endif %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}" + OPEN
    ),
    "no thoughts": loop(TURN.replace("m['content']", "m['content'].split('</think>')[-1]")),
    "no earlier thoughts": loop(
        "<|{{ m['role'] }}|>\n{% if loop.last %}{{ m['content'] }}{% else %}"
        "{{ m['content'].split('</think>')[-1] }}{% endif %}<|end|>\n"
    ),
    "strict": loop(
        "{% if m['role'] == 'system' or (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('turns must alternate') }}{% endif %}" + TURN
    ),
}


def opening(tokens):
    tokens.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", tokens.bos_token_id)]
    )


def other_eos(tokens):
    tokens.eos_token = "<|bos|>"


def no_pad(tokens):
    tokens.pad_token = None


TOKENIZERS = {"usual": lambda tokens: None, "opens": opening, "eos": other_eos, "no pad": no_pad}
SYSTEM, USER = Message("system", "p1z"), Message("user", "p2z")
EARLIER = (USER, Message("assistant", "<think>p3z</think>p4z"), Message("user", "p5z"))
SEVERAL = (Message("assistant", "a5z"), Message("user", "p6z"), Message("assistant", "a6z"))
PAIRS = [
    Pair("p1z", "a1z", "a2z"),
    Pair((SYSTEM, USER), "a1z", "a2z"),
    Pair(EARLIER, "a1z", "a2z"),
    Pair((USER,), "<think>a3z</think>a1z", "a2z"),
    Pair((USER,), SEVERAL, "a2z"),
    Pair((USER, Message("assistant", "p3z"), Message("tool", "p4z")), "a1z", "a2z"),
    Pair("user p1z\n", " a1z ", "assistant a2z"),
    Pair("Human: p1z\n\nAssistant:", " a1z", " a2z"),
    Pair("p1z<|end|>", "a1z", "a2z"),
]


def words(text: str, kind: str) -> list[str]:
    return re.findall(rf"{kind}\dz", text)


def texts(pair: Pair) -> list[str]:
    every = (pair.prompt, *pair.responses)
    return [
        one if isinstance(one, str) else " ".join(turn.content for turn in one) for one in every
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("template", "tokenizer"), list(product(TEMPLATES, TOKENIZERS)))
def test_a_conversation_is_learned_as_it_was_given_or_something_is_said(template, tokenizer):
    tokens = tiny.tokenizer(TEMPLATES[template])
    TOKENIZERS[tokenizer](tokens)
    encoder = Encoder(tokens, max_length=400)
    learned = 0
    for pair in PAIRS:
        encoded = encoder.encode(pair)
        if isinstance(encoded, Dropped):
            assert 0 < len(encoded.reason) < 1000
            continue
        learned += 1
        tree = encoded.tree
        shown = tokens.decode(tree.prompt)
        for given, ids, places in zip(
            texts(pair)[1:], tree.responses, tree.scored_places(), strict=True
        ):
            said = tokens.decode([ids[place] for place in places])
            assert words(said, "a") == words(given, "a") and not words(said, "p")
            assert ids[-1] in encoder.end_ids and sum(id in encoder.end_ids for id in ids) == (
                1 if len(places) == len(ids) else 3 if template != "no end" else 1
            )
            shown += tokens.decode(ids)
        lost = {word for text in texts(pair) for word in words(text, "p")} - {*words(shown, "p")}
        assert not lost or any("thoughts" in note for note in encoder.notes), lost
        asked = encoder.prompt_ids(pair.prompt, room=8)
        assert asked == tree.prompt or encoder.notes
    assert learned >= 3
    with pytest.raises(EncodingError):
        encoder.prompt_ids("p1z<|end|>" if template == "usual" else "p1z<|user|>", room=8)
