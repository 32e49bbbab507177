"""What a chat template made is compared with what went in: texts on known templates, by hand."""

import pytest
import tiny
import torch

from fastslow.errors import ConfigError, EncodingError
from fastslow.records import Message, Pair
from fastslow.scoring import Dropped, Encoded, Encoder, Scorer, tree_batch

TURN = "<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n"
OPEN = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
EACH = "{% for m in messages %}"
SYSTEM, USER = Message("system", "Be brief."), Message("user", "Describe the river.")


def loop(body: str, after: str = OPEN) -> str:
    return EACH + body + "{% endfor %}" + after


def encoder(source: str | dict | None = tiny.TEMPLATE, **options) -> Encoder:
    return Encoder(tiny.tokenizer(source), **{"max_length": 200} | options)


def pair(prompt=(USER,), chosen="It is calm.", rejected="It is grim.", **fields) -> Pair:
    return Pair(prompt, chosen, rejected, **fields)


def reason(template: str, example: Pair) -> str:
    found = encoder(template).encode(example)
    assert isinstance(found, Dropped)
    return found.reason


def decoded(found: Encoder, example: Pair) -> list[str]:
    encoded = found.encode(example)
    assert isinstance(encoded, Encoded), encoded.reason
    return [found.tokenizer.decode(ids) for ids in (encoded.tree.prompt, *encoded.tree.responses)]


ROLES_PASSED_OVER = loop("{% if m['role'] != 'system' %}" + TURN + "{% endif %}")
SYSTEM_WITH_LAST_USER = (
    "{% set s = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% for m in messages %}{% if m['role'] != 'system' %}<|{{ m['role'] }}|>"
    "{% if loop.last and m['role'] == 'user' and s %}{{ s }} {% endif %}{{ m['content'] }}<|end|>"
    "{% endif %}{% endfor %}" + OPEN
)
THOUGHTS_REMOVED = loop(TURN.replace("m['content']", "m['content'].split('</think>')[-1]"))
UPPER = loop(TURN.replace("m['content']", "m['content'] | upper"))
FIELD = loop(
    "<|{{ m['role'] }}|>\n{% if m['reasoning_content'] %}<think>{{ m['reasoning_content'] }}"
    "</think>{% endif %}{{ m['content'] }}<|end|>\n"
)


@pytest.mark.parametrize(
    ("template", "example", "words"),
    [
        (ROLES_PASSED_OVER, pair((SYSTEM, USER)), "the system turn: 'Be brief.'"),
        (SYSTEM_WITH_LAST_USER, pair((SYSTEM, USER)), "the system turn"),
        (UPPER, pair(), "the user turn"),
        (THOUGHTS_REMOVED, pair(chosen="<think>hm</think>Calm."), "the thought of the answer"),
        (
            tiny.TEMPLATE,
            pair(chosen=(Message("assistant", "Calm.", {"reasoning_content": "hm"}),)),
            "thought of the answer (its field reasoning_content)",
        ),
        (
            tiny.TEMPLATE,
            pair(chosen=(Message("assistant", "", {"tool_calls": [{"name": "look"}]}), )),
            "tool_calls",
        ),
        ("{{ raise_exception('no system turns') }}", pair(), "no system turns"),
        (loop("{{ m['nothing']['deep'] }}"), pair(), "the chat template refuses it"),
        (loop("{{ m['content'] + 1 }}"), pair(), "the chat template refuses it"),
    ],
)  # fmt: skip
def test_what_the_template_does_not_keep_is_said(template, example, words):
    assert words in reason(template, example)


def test_a_thought_in_content_or_in_a_field_is_scored_where_the_template_writes_it():
    thought = (Message("assistant", "Calm.", {"reasoning_content": "hm"}),)
    _, chosen, rejected = decoded(encoder(FIELD), pair(chosen=thought))
    assert chosen == "<think>hm</think>Calm.<|end|>" and rejected == "It is grim.<|end|>"
    _, chosen, _ = decoded(encoder(), pair(chosen="<think>hm</think>\n\nCalm."))
    assert chosen == "<think>hm</think>\n\nCalm.<|end|>"


def test_thoughts_of_earlier_turns_may_go_and_are_counted():
    found = encoder(THOUGHTS_REMOVED)
    earlier = (USER, Message("assistant", "<think>hm</think>Calm."), Message("user", "More."))
    prompt, *_ = decoded(found, pair(earlier))
    assert "hm" not in prompt and "Calm." in prompt
    assert any("thoughts of earlier turns" in note for note in found.notes)


@pytest.mark.parametrize("answer", ["yes", "assistant", "a"])
def test_answers_that_stand_elsewhere_in_the_text_are_found_in_their_place(answer):
    same = (USER, Message("assistant", answer), Message("user", answer), USER)
    prompt, chosen, _ = decoded(encoder(), pair(same, chosen=answer))
    assert prompt.count(f"\n{answer}<|end|>") == 2 and chosen == f"{answer}<|end|>"


def test_a_template_without_generation_prompt_gets_the_one_that_it_writes():
    without = encoder(loop(TURN, after=""))
    prompt, chosen, _ = decoded(without, pair())
    assert prompt == "<|user|>\nDescribe the river.<|end|>\n<|assistant|>\n"
    assert chosen == "It is calm.<|end|>"
    assert without.prompt_ids((USER,), room=8) == encoder().prompt_ids((USER,), room=8)
    assert any("no generation prompt" in note for note in without.notes)
    # Where an answer is opened by a space alone there is nothing to add.
    answer = " {{ m['content'] }}<|end|>"
    bare = loop(
        "{% if m['role'] == 'user' %}[{{ m['content'] }}]{% else %}" + answer + "{% endif %}", ""
    )
    assert decoded(encoder(bare), pair())[:2] == ["[Describe the river.]", " It is calm.<|end|>"]
    assert not encoder(bare).notes


def test_an_opening_that_given_answers_do_not_have_is_said():
    opens = loop(TURN, "{% if add_generation_prompt %}<|assistant|>\n<think>\n{% endif %}")
    (note,) = encoder(opens).notes
    assert "opens a new answer with '<|assistant|>\\n<think>\\n'" in note
    # What a template writes before an answer beyond its generation prompt is learned as answer.
    empty = TURN.replace("{{", "{% if m['role'] == 'assistant' %}<think></think>{% endif %}{{", 2)
    thinks = encoder(loop(empty.replace("<think>", "", 1).replace("</think>", "", 1)))
    assert thinks.notes == []


def test_dates_are_the_same_in_every_run():
    dated = loop("{% if loop.first %}{{ strftime_now('%d %b %Y') }}{% endif %}" + TURN)
    found = encoder(dated)
    prompt, *_ = decoded(found, pair())
    assert prompt.startswith("26 Jul 2024<|user|>")
    assert any("writes the date" in note for note in found.notes)
    own = encoder("{{ date_string }}" + tiny.TEMPLATE, template_settings={"date_string": "1 May"})
    assert decoded(own, pair())[0].startswith("1 May<|user|>")


def test_a_template_that_never_says_the_same_twice_is_refused():
    with pytest.raises(ConfigError, match="another text each time"):
        encoder("{{ range(90000) | random }}" + tiny.TEMPLATE)


@pytest.mark.parametrize("text", ["<|user|>\nHi<|end|>\n<|assistant|>\n", "Hi<|end|>"])
def test_texts_that_hold_the_templates_tokens_are_not_templated_again(text):
    for example in (pair(text), pair(chosen=text)):
        found = encoder().encode(example)
        assert isinstance(found, Dropped) and "data.template: plain" in found.reason
    with pytest.raises(EncodingError, match="rendered already"):
        encoder().prompt_ids(text, room=8)
    assert isinstance(encoder(template="plain").encode(pair(text)), Encoded)


def test_named_templates_are_chosen_by_name():
    named = {"rag": tiny.TEMPLATE, "tool_use": "{{ tools }}" + tiny.TEMPLATE}
    with pytest.raises(ConfigError, match="choose one of rag, tool_use, or plain"):
        encoder(named)
    with pytest.raises(ConfigError, match="got 'rga'.*rag, tool_use"):
        encoder(named, template="rga")
    assert decoded(encoder(named, template="rag"), pair()) == decoded(encoder(), pair())
    assert isinstance(encoder(named, template="plain").encode(pair("The river is")), Encoded)
    named["default"] = tiny.TEMPLATE
    assert decoded(encoder(named), pair()) == decoded(encoder(), pair())
    with pytest.raises(ConfigError, match="allowed are chat and plain"):
        encoder(template="rag")


def test_tools_and_template_settings_of_a_row_reach_the_template():
    template = "{% if tools %}{{ tools[0]['name'] }}{% endif %}{{ mood }}" + tiny.TEMPLATE
    kwargs = {"tools": [{"name": "look"}], "mood": "calm"}
    found = encoder(template)
    prompt, *_ = decoded(found, pair(template_kwargs=kwargs))
    assert prompt.startswith("lookcalm<|user|>")
    ids = found.prompt_ids((USER,), room=8, template_kwargs=kwargs)
    assert found.tokenizer.decode(ids) == prompt


def test_what_the_template_does_not_use_is_named():
    turns = (Message("user", "Hi", {"name": "Ann"}),)
    found = encoder()
    assert found.unused_fields([pair(turns, template_kwargs={"tools": [1]})]) == ["name", "tools"]
    assert encoder(tiny.TEMPLATE + "{{ tools }}{# name #}").unused_fields([pair(turns)]) == []


MANY = (
    Message("assistant", "Calm."),
    Message("user", "And the road?"),
    Message("tool", "dusty"),
    Message("assistant", "It is grim."),
)


def test_only_the_assistants_turns_of_an_answer_are_scored():
    found = encoder()
    encoded = found.encode(pair(chosen=MANY))
    tokens, places = encoded.tree.responses[0], next(encoded.tree.scored_places())
    assert found.tokenizer.decode(tokens).count("<|user|>") == 1
    scored = found.tokenizer.decode([tokens[place] for place in places])
    assert scored == "Calm.<|end|>It is grim.<|end|>"
    assert encoded.tree.num_scored[1] == len(encoded.tree.responses[1])


def test_scores_of_several_turns_are_the_sum_of_what_the_assistant_says():
    found, model = encoder(), tiny.model()
    (tree,) = [found.encode(pair(chosen=MANY)).tree]
    batch = tree_batch([tree], pad_id=0)
    scores = Scorer(model).measure(batch, ["entropy"])
    ids = torch.tensor([[*tree.prompt, *tree.responses[0]]])
    logps = model(ids).logits[0].log_softmax(-1)
    places = [len(tree.prompt) + place for place in next(tree.scored_places())]
    by_hand = sum(logps[place - 1, ids[0, place]] for place in places)
    assert torch.allclose(scores.sums[0], by_hand, atol=1e-4)
    assert batch.lengths.tolist() == tree.num_scored and len(scores.tokens) == sum(tree.num_scored)
    from fastslow.scoring import Layout

    alone = Scorer(model, Layout(False)).measure(batch, ["entropy"])
    assert torch.allclose(alone.sums, scores.sums, atol=1e-4)
    assert torch.allclose(alone.statistics["entropy"], scores.statistics["entropy"], atol=1e-5)
    states = [Scorer(model, Layout(trees)).states(batch, "predictors") for trees in (True, False)]
    assert torch.allclose(*states, atol=1e-4)


def test_transcripts_as_text_become_turns():
    found = encoder()
    prompt = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Describe the river.\n\nAssistant:"
    turns = (Message("user", "Hi"), Message("assistant", "Yes?"), USER)
    assert decoded(found, pair(prompt, chosen=" It is calm.")) == decoded(found, pair(turns))
    later = " Calm.\n\nHuman: And the road?\n\nAssistant: It is grim."
    for by in (found, encoder(template="plain")):
        tree = by.encode(pair(prompt, chosen=later)).tree
        tokens = [tree.responses[0][place] for place in next(tree.scored_places())]
        said = by.tokenizer.decode(tokens)
        assert "Calm." in said and "grim.<|end|>" in said and "road" not in said
    # A text that speaks of humans is no transcript.
    assert "Human: who?" in decoded(found, pair("Say Human: who?"))[0]


def test_a_tokenizer_that_fails_drops_that_example_alone(monkeypatch):
    found = encoder()
    found._pieces.usable = False  # So that it is called itself, as one without special tokens is.
    plain = type(found.tokenizer).__call__

    def moody(self, texts, **options):
        if any("grumpy" in text for text in texts):
            raise Exception("TextEncodeInput must be Union[...]")
        return plain(self, texts, **options)

    monkeypatch.setattr(type(found.tokenizer), "__call__", moody)
    first, second = found.encode_all([pair("grumpy"), pair()])
    assert isinstance(first, Dropped) and "the tokenizer refuses it" in first.reason
    assert isinstance(second, Encoded)
