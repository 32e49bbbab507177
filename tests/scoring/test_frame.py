"""Conversations put together from a template's frame are what the template itself writes."""

import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastslow.errors import EncodingError
from fastslow.records import Message
from fastslow.scoring.text.chat_template import ChatTemplate
from fastslow.scoring.text.copied_words import copies_words

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start|>' + message['role'] + '<|stop|>\n\n' + message['content'] | trim + '<|eot|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ ' [INST] ' + message.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}"
)
TYPED = (
    "{% for m in messages %}{% if m.content is string %}<|{{ m.role }}|>\n{{ m.content }}"
    "<|end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
COPYING = [tiny.TEMPLATE, CHATML, LLAMA, MISTRAL, TYPED]
LOOKING = [
    "{% for m in messages %}{% if m.content %}{{ m.content }}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}",
    "{% for m in messages %}{% set c = m.content %}{{ c[:5] }}{% endfor %}",
    "{% for m in messages %}{% set c = m.content + 'x' %}{% if 'a' in c %}{{ c }}{% endif %}"
    "{% endfor %}",
    "{% for m in messages %}{{ m[key] }}{% endfor %}",
    "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "{% for m in messages %}{{ m.content | length }}{% endfor %}",
    "{% for m in messages %}{% if m == messages[-1] %}{{ m.content }}{% endif %}{% endfor %}",
    "{% for m in messages %}{% for c in m.content %}{{ c }}{% endfor %}{% endfor %}",
    "{% macro w(t) %}{{ t }}{% endmacro %}{% for m in messages %}{{ w(m.content) }}{% endfor %}",
    "{% for m in messages %}{{ m.get('content') }}{% endfor %}",
    "{% for m in messages %}{{ m.values() | join }}{% endfor %}",
    "{% for m in messages %}{% if m.content == last %}{% endif %}{% set last = m.content %}"
    "{{ m.content }}{% endfor %}",
    "{% for m in messages %}{{ (m.content + '\n') | trim }}{% endfor %}",
    "{% set ns = namespace(a='') %}{% for m in messages %}{% set ns.a = m.content %}"
    "{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
]
WORDS = st.text(st.sampled_from("ab \n\t\"'\\<>|{}é"), max_size=12).map(lambda text: text + "w ")


@pytest.mark.parametrize("source", COPYING)
def test_templates_that_only_copy_words_are_recognised(source):
    assert copies_words(source)


@pytest.mark.parametrize("source", LOOKING)
def test_templates_that_may_look_at_words_are_not(source):
    assert not copies_words(source)


def templates(source: str) -> tuple[ChatTemplate, ChatTemplate]:
    """One that may use frames, and one that renders everything."""
    found = ChatTemplate(tiny.tokenizer(source)), ChatTemplate(tiny.tokenizer(source))
    for template in found:
        template._to_check = 0
    found[1]._frames = None
    return found


@pytest.mark.parametrize("source", COPYING)
@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS, min_size=3, max_size=5), st.booleans())
@example(["Hi", " a ", "b\n"], False)
def test_frames_give_what_rendering_gives(source, words, system):
    with_frames, rendered = templates(source)
    turns = [Message("system", "Be brief. ")] if system else []
    roles = ("user", "assistant")
    *asked, chosen, rejected = words
    asked = asked[: len(asked) - (len(asked) + 1) % 2]
    turns += [Message(roles[place % 2], text) for place, text in enumerate(asked)]
    given = turns, [[Message("assistant", text)] for text in (chosen, rejected)], {}
    results = []
    for template in (with_frames, rendered):
        try:
            results.append(template.conversations(*given))
        except EncodingError as error:
            results.append(str(error))
    assert results[0] == results[1]


def test_a_thousand_conversations_are_rendered_a_few_times(monkeypatch):
    tokenizer = tiny.tokenizer(CHATML)
    template, calls = ChatTemplate(tokenizer), []
    render = type(tokenizer).apply_chat_template
    monkeypatch.setattr(
        type(tokenizer), "apply_chat_template",
        lambda *args, **options: calls.append(1) or render(*args, **options),
    )  # fmt: skip
    for number in range(1000):
        answers = [[Message("assistant", f"{side} {number}")] for side in ("yes", "no")]
        template.conversations([Message("user", f"Is it {number}?")], answers, {})
    assert len(calls) < 20


def test_texts_that_hold_the_templates_tokens_are_refused_as_before():
    with_frames, _ = templates(tiny.TEMPLATE)
    with pytest.raises(EncodingError, match="holds"):
        with_frames.conversations([Message("user", "<|end|>")], [[Message("assistant", "a")]], {})


def test_thoughts_and_further_fields_are_left_to_the_template():
    with_frames, rendered = templates(tiny.TEMPLATE)
    for answer in (Message("assistant", "</think>a"), Message("assistant", "a", {"name": "b"})):
        given = [Message("user", "Hi")], [[answer]], {}
        assert with_frames._framed(*given[:2]) is None
        assert with_frames.conversations(*given) == rendered.conversations(*given)
