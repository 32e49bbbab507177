"""Every command that the documentation shows exists: its verb, its options, the keys it sets."""

import re

import pytest
from command_lines import fault, simple_commands
from pages import PAGES, ROOT, SHELL, blocks, of, spans

OURS = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:fastslow|python|pytest|make|pip) ")
LANGUAGES = {"bash", "console", "json", "python", "text", "yaml", ""}


@pytest.mark.parametrize("block", of(*SHELL), ids=str)
def test_every_command_of_a_block_parses(block):
    faults = [fault(words) for words in simple_commands(block.script)]
    assert list(filter(None, faults)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_a_sentence_parses(page):
    faults = [
        f"{page.name}:{line}: {command}: {wrong}"
        for line, text in spans(page)
        if OURS.match(text)
        for command in alternatives(text)
        for words in simple_commands(command)
        if (wrong := fault(words, whole=False))
    ]
    assert faults == [], "\n".join(faults)


def alternatives(text):
    """A span as commands: `[...]` may be left out but for options, `a|b` is each of them."""
    text = re.sub(r"\[(--[^\]\s]+)( [^\]]*)?\]", r"\1\2", re.sub(r"\[(?!--)[^\]]*\]", "", text))
    choice = re.search(r"\S+\|\S+", text)
    if choice is None:
        return [text]
    return [text.replace(choice[0], word) for word in choice[0].split("|")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_its_language(page):
    """Otherwise nobody would check or run its commands."""
    fences = re.findall(r"^```", page.read_text(encoding="utf-8"), re.M)
    assert len(fences) == 2 * len(blocks(page)), "a fence is not closed"
    for block in blocks(page):
        assert block.language in LANGUAGES, block
        if block.language not in (*SHELL, "yaml"):
            assert not re.search(r"^(?:\$ |fastslow |pip |curl )", block.text, re.M), block


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("fastslow trian x", "No such command"),
        ("fastslow train sentiment-ofs --jsn", "No such option"),
        ("fastslow train sentiment-ofs train.learning_rat=1", "there is no such key"),
        ("fastslow train model=m objective.name=dop", "dop"),
        ("fastslow train sentiment-osf", "no such recipe"),
        ("fastslow export run", "Missing option"),
        ("torchrun --processes 2 -m fastslow train model=m", "is refused"),
        ("torchrun --nproc_per_node 2 -m fastslow trian", "No such command"),
        (
            "accelerate launch --config_file launch/no.yaml -m fastslow train model=m",
            "no such file",
        ),
        ("python -m benchmarks.nothing", "no such module"),
        ("python -m benchmarks.votes out --hours 1", "does not know --hours"),
        ("pytest tests/nothing.py", "no such test"),
        ("make everything", "no target everything"),
        ("pip install 'fastslow[all]'", "no extra all"),
        ("fastsow train", "no such program"),
    ],
)
def test_faults_are_found(command, wrong):
    assert wrong.lower() in fault(next(simple_commands(command))).lower()


def test_a_line_is_cut_into_its_commands():
    line = "A=1 cat a >> b; curl -s 'x; y' | jq . > out && fastslow report runs/a  # a page"
    assert [" ".join(words) for words in simple_commands(line)] == [
        "cat a", "curl -s x; y", "jq .", "fastslow report runs/a",
    ]  # fmt: skip
