"""Boundary, end of turn and truncation, on tokenizers with and without a template."""

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from fastslow.errors import ConfigError, EncodingError
from fastslow.records import Message, Pair, Ranking
from fastslow.scoring import Dropped, Encoder, Tree, truncate

CHAT = tiny.tokenizer()
PLAIN = tiny.tokenizer(template=None)
END = CHAT.eos_token_id


def encoder(tokenizer=CHAT, max_length=200, **options):
    return Encoder(tokenizer, max_length=max_length, **options)


def decode(ids):
    return CHAT.decode(ids)


def test_chat_template_writes_the_prompt_and_one_end_of_turn():
    tree = encoder().tree("Describe the river.", ("It is calm.", "It is grim."))
    assert decode(tree.prompt) == "<|user|>\nDescribe the river.<|end|>\n<|assistant|>\n"
    assert [decode(r) for r in tree.responses] == ["It is calm.<|end|>", "It is grim.<|end|>"]


def test_end_of_turn_is_counted_once_whatever_the_template_adds():
    for ending in ("<|end|>", "<|end|>\n", "<|end|>\n\n", ""):
        template = tiny.TEMPLATE.replace("<|end|>\n{% endfor %}", ending + "{% endfor %}")
        tree = encoder(tiny.tokenizer(template)).tree("Hi", ("calm", "grim"))
        for response in tree.responses:
            assert response[-1] == END and response.count(END) == 1


def test_a_further_end_token_of_the_model_ends_a_turn_too():
    other = CHAT.convert_tokens_to_ids("<|system|>")
    template = tiny.TEMPLATE.replace("<|end|>\n{% endfor %}", "<|system|>\n{% endfor %}")
    chat = tiny.tokenizer(template)
    assert encoder(chat, end_ids=[other]).tree("Hi", ("a", "b")).responses[0][-1] == other
    # The template's own end of turn needs no naming.
    assert encoder(chat).tree("Hi", ("a", "b")).responses[0] == (*CHAT("a")["input_ids"], other)
    assert other in encoder(chat).end_ids


@pytest.mark.parametrize("template", [tiny.TEMPLATE, None])
def test_a_response_that_was_cut_off_gets_no_end(template):
    encoder = Encoder(tiny.tokenizer(template), max_length=64)
    whole = encoder.tree("Describe the sea.", ["The sea is", "It is calm."])
    cut = encoder.tree("Describe the sea.", ["The sea is", "It is calm."], [True, False])
    assert whole.responses[0] == (*cut.responses[0], encoder.tokenizer.eos_token_id)
    assert whole.responses[1] == cut.responses[1] and whole.prompt == cut.prompt
    pair = Pair(prompt="p", chosen="The sea is", rejected="It is", truncated=(False, True))
    ends = [response[-1] in encoder.end_ids for response in encoder.encode(pair).tree.responses]
    assert ends == [True, False]


def test_plain_text_is_joined_as_it_stands_and_closed():
    tree = encoder(PLAIN).tree("The river is", (" calm", " grim"))
    assert decode(tree.prompt) == "The river is"
    assert decode(tree.responses[0]) == " calm<|end|>"


def test_a_merge_across_the_boundary_belongs_to_the_response():
    # The prompt alone ends in "c", "a", with the response in "c", "al": "a" moves to the response.
    tree = encoder(PLAIN).tree("The river is ca", ("lm and kind", "ve"))
    whole = PLAIN("The river is calm and kind", add_special_tokens=False)["input_ids"]
    assert list(tree.prompt + tree.responses[0]) == [*whole, END]
    assert decode(tree.prompt) == "The river is c"
    assert decode(tree.responses[0]) == "alm and kind<|end|>"


def test_plain_template_option_ignores_the_chat_template():
    tree = encoder(template="plain").tree("The river is", (" calm", " grim"))
    assert decode(tree.prompt) == "The river is"


def test_several_turns_and_text_answers():
    prompt = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Go on"))
    tree = encoder().tree(prompt, ((Message("assistant", "calm"),), "grim"))
    assert decode(tree.prompt).count("<|user|>") == 2
    assert decode(tree.responses[0]) == "calm<|end|>"


def test_a_tokenizer_that_opens_texts_opens_them_once():
    opening = tiny.tokenizer(template=None)
    from tokenizers.processors import TemplateProcessing

    opening.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", opening.bos_token_id)]
    )
    for prompt in ("The river is", "<|bos|>The river is"):
        tree = encoder(opening).tree(prompt, (" calm", " grim"))
        assert tree.prompt.count(opening.bos_token_id) == 1


def test_a_tokenizer_that_closes_texts_does_not_close_the_prompt():
    closing = tiny.tokenizer(template=None)
    from tokenizers.processors import TemplateProcessing

    closing.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", END)]
    )
    tree = encoder(closing).tree("The river is", (" calm", " grim"))
    assert decode(tree.prompt) == "The river is" and decode(tree.responses[1]) == " grim<|end|>"


def test_conversations_without_a_template_are_refused():
    with pytest.raises(ConfigError, match="no chat template"):
        encoder(PLAIN).tree((Message("user", "Hi"),), ("a", "b"))


def test_a_tokenizer_without_end_of_turn_is_refused():
    silent = tiny.tokenizer()
    silent.eos_token = None
    with pytest.raises(ConfigError, match="no end-of-turn token"):
        encoder(silent)


def test_pairs_that_become_identical_are_dropped_with_a_reason():
    same = Pair(prompt="Hi", chosen="calm and kind", rejected="calm and grim")
    tight = encoder(max_length=5).encode(same)
    assert isinstance(tight, Dropped) and "identical after truncation" in tight.reason
    kept = encoder().encode(same)
    assert not isinstance(kept, Dropped) and not kept.truncated


def test_truncation_by_hand():
    tree = Tree(tuple(range(10)), ((90, 91, 92), (80, 81)))
    assert truncate(tree, 13) is tree
    assert truncate(tree, 8) == Tree((5, 6, 7, 8, 9), tree.responses)
    assert truncate(tree, 8, bos_id=0) == Tree((0, 6, 7, 8, 9), tree.responses)
    # The prompt keeps half of the room: both answers are cut at the same length.
    assert truncate(tree, 4) == Tree((8, 9), ((90, 91), (80, 81)))
    assert truncate(tree, 4, bos_id=0) == Tree((0, 9), ((90, 91), (80, 81)))
    assert truncate(tree, 3) == Tree((9,), ((90, 91), (80, 81)))
    assert truncate(tree, 2) == Tree((9,), ((90,), (80,)))
    # A prompt shorter than that stays whole, and what is scored goes with the tokens.
    partly = Tree((1, 2), ((90, 91, 92, 93), (80,)), ((True, False, False, True), (True,)))
    assert truncate(partly, 5) == Tree(
        (1, 2), ((90, 91, 92), (80,)), ((True, False, False), (True,))
    )


@given(
    prompt=st.integers(1, 30),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    limit=st.integers(2, 40),
)
def test_truncation_fits_keeps_the_end_of_the_prompt_and_no_answer_empty(prompt, lengths, limit):
    tree = Tree(tuple(range(prompt)), tuple(tuple(range(100, 100 + n)) for n in lengths))
    cut = truncate(tree, limit)
    assert len(cut.prompt) + max(map(len, cut.responses)) <= limit
    assert cut.prompt == tree.prompt[len(tree.prompt) - len(cut.prompt) :] and cut.prompt
    assert all(cut.responses)
    kept = max(map(len, cut.responses))
    for before, after in zip(tree.responses, cut.responses, strict=True):
        assert after == before[:kept]


def test_prompt_ids_leave_room_to_answer():
    ids = encoder(max_length=12).prompt_ids("Describe the river and the garden.", room=4)
    assert len(ids) == 8 and decode(ids).endswith("<|assistant|>\n")
    with pytest.raises(ConfigError, match="leave no room"):
        encoder(max_length=12).prompt_ids("Hi", room=12)


def test_a_conversation_the_template_refuses_is_dropped_with_its_words():
    strict = tiny.tokenizer("{{ raise_exception('no system turns') }}")
    pair = Pair(prompt=(Message("system", "x"), Message("user", "y")), chosen="a", rejected="b")
    dropped = encoder(strict).encode(pair)
    assert isinstance(dropped, Dropped) and "no system turns" in dropped.reason


@pytest.mark.parametrize("closes", [True, False])
def test_examples_together_are_what_each_is_alone(closes):
    tokens = tiny.tokenizer()
    if closes:  # Adds a token before and one behind, as T5's does.
        tokens._tokenizer.post_processor = TemplateProcessing(
            single="<|bos|> $A <|end|>", special_tokens=[("<|bos|>", 1), ("<|end|>", END)]
        )
    encoder = Encoder(tokens, max_length=24, template="plain")
    turns = (Message("user", "Describe the river."),)
    examples = [
        Pair("The river is", " calm", " grim"),
        Pair("<|bos|>The road is", " warm", " cold"),  # Has its special token.
        Pair(turns, "calm", "grim"),  # Gets the chat template's.
        Pair("Same", " x", " x"),
        Ranking("The song is", (" kind", " clear", " dull"), (0, 1, 2)),
        Pair("Long " * 20, " calm", " grim"),
    ]
    together = encoder.encode_all(examples)
    assert together == [encoder.encode(example) for example in examples]
    assert [type(one).__name__ for one in together] == ["Encoded"] * 3 + ["Dropped"] + [
        "Encoded"
    ] * 2
    assert encoder.encode_all([]) == []


def test_rows_with_tokens_that_the_model_has_no_embedding_for_are_dropped():
    tokenizer = tiny.tokenizer()
    rows = len(tokenizer)
    tokenizer.add_tokens(["<|tool|>"])
    reading = encoder(tokenizer, num_embeddings=rows)
    good = Pair("Hi", "calm", "grim", domain="", source="a:1")
    bad = Pair("Hi", "calm <|tool|>", "grim", domain="", source="a:2")
    kept, dropped, again = reading.encode_all([good, bad, good])
    assert kept == again == encoder(tokenizer).encode(good)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == (
        f"token '<|tool|>' has id {rows}, and the model's embedding has {rows} rows"
    )
    for ask in (
        lambda: reading.prompt_ids("<|tool|>", room=8),
        lambda: reading.tree("Hi", ("<|tool|>",)),
        lambda: reading.conversations("Hi", ("<|tool|>",)),
    ):
        with pytest.raises(EncodingError, match="embedding has"):
            ask()
    assert encoder(tokenizer, num_embeddings=rows + 1).encode(bad) == encoder(tokenizer).encode(bad)


def test_a_model_without_the_tokens_around_every_answer_is_refused():
    tokenizer = tiny.tokenizer()
    rows = len(tokenizer)
    template = tiny.TEMPLATE.replace("<|{{ m['role'] }}|>", "<|turn|>{{ m['role'] }}")
    tokenizer.chat_template = template.replace("<|assistant|>", "<|turn|>assistant")
    tokenizer.add_tokens(["<|turn|>"], special_tokens=True)
    with pytest.raises(ConfigError, match=r"model: token '<\|turn\|>' has id .*resize"):
        encoder(tokenizer, num_embeddings=rows)
    encoder(tokenizer, num_embeddings=rows, template="plain")
    tokenizer.add_special_tokens({"eos_token": "<|stop|>"})
    with pytest.raises(ConfigError, match=r"token '<\|stop\|>' has id"):
        encoder(tokenizer, num_embeddings=rows, template="plain")
