"""Markdown as HTML that can do nothing: no scripts, no styles, no forms, nothing loaded."""

import nh3
from markdown_it import MarkdownIt

LONGEST = 50_000
"""Characters; a longer text is shown as it is."""
BELOW = 2
"""Levels by which an answer's headings go down, as the page has its own above them."""
TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(
    ["table", "strikethrough"]
)
# An image would tell a server elsewhere that somebody is looking.
_markdown.disable("image")


def as_html(text: str) -> str:
    """A text in Markdown, as HTML of TAGS only; links open elsewhere and tell nothing.

    >>> as_html("*so* <b>")
    '<p><em>so</em> &lt;b&gt;</p>\\n'
    >>> as_html("[x](javascript:alert(1)) ![](http://x/y.png)")
    '<p>[x](javascript:alert(1)) !<a href="http://x/y.png" rel="noopener noreferrer"></a></p>\\n'
    """
    if len(text) > LONGEST:
        return f"<pre>{nh3.clean_text(text)}</pre>"
    tokens = _markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + BELOW)}"
    return nh3.clean(
        _markdown.renderer.render(tokens, _markdown.options, {}),
        tags=TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer",
    )
