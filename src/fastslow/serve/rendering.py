"""Markdown as HTML that can do nothing: no scripts, no styles, no forms, nothing loaded."""

import re
from collections import Counter
from collections.abc import Iterator
from html import escape, unescape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

LONGEST = 50_000
"""Characters; a longer text is shown as it is."""
BELOW = 2
"""Levels by which an answer's headings go down, as the page has its own above them."""
TAGS = {
    "a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(
    ["table", "strikethrough"]
)
# An image would tell a server elsewhere that somebody is looking.
_markdown.disable("image")
_LINK = re.compile(r'<a href="([^"]*)"[^>]*>(?!(?:\1)?</a>)')
"""Of a link that is to be seen; one that says where it leads to counts once."""
_NUMBER = re.compile('<li value="([^"]*)">')


def _fence(self: RendererHTML, tokens: Any, place: int, options: Any, env: Any) -> str:
    """A block of code under what was written beside its fence, as its language."""
    told = escape(tokens[place].info.strip())
    return (f"<p><em>{told}</em></p>" if told else "") + self.fence(tokens, place, options, env)


_markdown.add_render_rule("fence", _fence)


def as_html(text: str) -> str:
    """A text in Markdown, as HTML of TAGS only; links open elsewhere and tell nothing. People vote
    on what they see: a text of which Markdown would hide a letter is shown as it is.

    >>> as_html("*so* <b>")
    '<p><em>so</em> &lt;b&gt;</p>\\n'
    >>> as_html("[x](javascript:alert(1)) ![y](http://x/y.png)")
    '<p>[x](javascript:alert(1)) !<a href="http://x/y.png" rel="noopener noreferrer">y</a></p>\\n'
    >>> as_html("[x]: http://y")
    '<pre>[x]:&#32;http:&#47;&#47;y</pre>'
    """
    made = "" if len(text) > LONGEST else _rendered(text)
    if Counter(_signs(text)) <= Counter(_signs(_shown(made))):
        return made
    return f"<pre>{nh3.clean_text(text)}</pre>"


def _signs(text: str) -> Iterator[str]:
    """Letters and digits: the rest may be Markdown's own."""
    return filter(str.isalnum, unescape(text))


def _shown(made: str) -> str:
    """What is to be seen of HTML: its text, where its links lead to, and the numbers of lists."""
    return " ".join([nh3.clean(made, tags=set()), *_LINK.findall(made), *_NUMBER.findall(made)])


def _rendered(text: str) -> str:
    tokens = _markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + BELOW)}"
        if token.type == "list_item_open" and token.info:
            token.attrSet("value", token.info)  # As written, and not as counted.
    return nh3.clean(
        _markdown.renderer.render(tokens, _markdown.options, {}),
        tags=TAGS,
        attributes={"a": {"href"}, "li": {"value"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer",
    )
