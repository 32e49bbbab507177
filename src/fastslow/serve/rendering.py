"""Markdown to inert HTML: no scripts, no styles, no forms, no external resources."""

import re
from collections import Counter
from collections.abc import Iterator
from html import escape, unescape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

LONGEST = 50_000
"""Longest text that is rendered, in characters; longer ones are shown as they are."""
BELOW = 2
"""Levels that an answer's headings are moved down, below the page's own."""
TAGS = {
    "a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(
    ["table", "strikethrough"]
)
# Loading an image would tell another server that somebody is looking.
_markdown.disable("image")
_LINK = re.compile(r'<a href="([^"]*)"[^>]*>(?!(?:\1)?</a>)')
"""Target of a visible link; one whose text is its target is not counted twice."""
_NUMBER = re.compile('<li value="([^"]*)">')


def _fence(self: RendererHTML, tokens: Any, place: int, options: Any, env: Any) -> str:
    """A code block below its info string, which names the language."""
    info = escape(tokens[place].info.strip())
    return (f"<p><em>{info}</em></p>" if info else "") + self.fence(tokens, place, options, env)


_markdown.add_render_rule("fence", _fence)


def as_html(text: str) -> str:
    """Markdown as HTML with TAGS only; links reveal nothing of the page. People vote on what they
    see, so a text of which Markdown would hide a letter or digit is shown unrendered.

    >>> as_html("*so* <b>")
    '<p><em>so</em> &lt;b&gt;</p>\\n'
    >>> as_html("[x](javascript:alert(1)) ![y](http://x/y.png)")
    '<p>[x](javascript:alert(1)) !<a href="http://x/y.png" rel="noopener noreferrer">y</a></p>\\n'
    >>> as_html("[x]: http://y")
    '<pre>[x]:&#32;http:&#47;&#47;y</pre>'
    """
    rendered = "" if len(text) > LONGEST else _rendered(text)
    if Counter(_signs(text)) <= Counter(_signs(_shown(rendered))):
        return rendered
    return f"<pre>{nh3.clean_text(text)}</pre>"


def _signs(text: str) -> Iterator[str]:
    """Letters and digits; other characters may be Markdown syntax."""
    return filter(str.isalnum, unescape(text))


def _shown(made: str) -> str:
    """What HTML shows: its text, the targets of its links and the numbers of its lists."""
    return " ".join([nh3.clean(made, tags=set()), *_LINK.findall(made), *_NUMBER.findall(made)])


def _rendered(text: str) -> str:
    tokens = _markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + BELOW)}"
        if token.type == "list_item_open" and token.info:
            token.attrSet("value", token.info)  # The number as written, not as counted.
    return nh3.clean(
        _markdown.renderer.render(tokens, _markdown.options, {}),
        tags=TAGS,
        attributes={"a": {"href"}, "li": {"value"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer",
    )
