"""Texts cut at special tokens have the tokens that the tokenizer gives the whole texts."""

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fastslow.records import Pair
from fastslow.scoring import Encoder
from fastslow.scoring.text.pieces import Pieces, plain_ids

TEXTS = st.lists(
    st.lists(
        st.sampled_from([*"aR. \n1é", "The river", "<|end|>", "<|user|>", "<|", "<|end", "|>"]),
        max_size=8,
    ).map("".join),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_tokens_are_those_of_whole_texts(texts):
    tokenizer = tiny.tokenizer()
    pieces = Pieces(tokenizer)
    assert pieces.usable and pieces.ids(texts) == plain_ids(tokenizer, texts)


def test_what_other_calls_left_on_does_not_matter():
    tokenizer = tiny.tokenizer()
    pieces, text = Pieces(tokenizer), "The river is calm.<|end|>Describe it."
    expected = plain_ids(tokenizer, [text, "a"])
    tokenizer([text, "a"], padding="max_length", truncation=True, max_length=3)
    assert pieces.ids([text, "a"]) == expected


def with_tokens(*added, metaspace=False, lower=False):
    core = Tokenizer(models.BPE(byte_fallback=False))
    core.pre_tokenizer = (
        pre_tokenizers.Metaspace(prepend_scheme="first")
        if metaspace
        else pre_tokenizers.ByteLevel(add_prefix_space=True)
    )
    if lower:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("x"), normalizers.Lowercase()])
    core.decoder = decoders.ByteLevel()
    alphabet = {letter: id for id, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    core.model = models.BPE(vocab=alphabet, merges=[])
    core.add_special_tokens([AddedToken("<s>", normalized=False), *added])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<s>")


@pytest.mark.parametrize(
    "tokenizer",
    [
        with_tokens(AddedToken("<e>", lstrip=True, normalized=False)),
        with_tokens(AddedToken("<e>", rstrip=True, normalized=False)),
        with_tokens(metaspace=True),
    ],
)
def test_texts_stay_whole_where_parts_depend_on_each_other(tokenizer):
    assert not Pieces(tokenizer).usable


def test_what_a_tokenizer_does_to_every_part_it_does_to_a_part_alone():
    tokenizer = with_tokens(AddedToken("<E>", normalized=True), lower=True)
    pieces, texts = Pieces(tokenizer), ["A<s> b", "a<E>b<s>", "<s><s>C"]
    assert pieces.usable and pieces.ids(texts) == plain_ids(tokenizer, texts)


def test_a_batch_gives_each_part_to_the_tokenizer_once(monkeypatch):
    encoder, given = Encoder(tiny.tokenizer(), max_length=200), []
    encode = type(encoder._pieces._backend).encode_batch_fast

    class Spied:
        def __getattr__(self, name):
            return getattr(encoder.tokenizer.backend_tokenizer, name)

        def encode_batch_fast(self, texts, **options):
            given.extend(texts)
            return encode(encoder.tokenizer.backend_tokenizer, texts, **options)

    monkeypatch.setattr(encoder._pieces, "_backend", Spied())
    prompt = "Describe the river. " * 5
    encoder.encode_all([Pair(prompt, f"calm {n}", f"grim {n}") for n in range(8)])
    assert len(given) == len(set(given))
    assert sum(prompt.strip() in text for text in given) == 1
