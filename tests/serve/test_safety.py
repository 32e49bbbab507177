"""Hosts, headers, sizes, rates, logs, and texts that would like to be code."""

import logging
import re

import pytest
from test_routes import BODIES, routes

from fastslow.serve.rendering import TAGS, as_html

SECRET = "a prompt that nobody else should read"
ATTACKS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>",
    "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>1</script>)",
    "![x](javascript:alert(1))", "![x](http://e.vil/x.png)", "<a href='javascript:1'>x</a>",
    "<iframe src=//e.vil></iframe>", "<object data=//e.vil>", "<embed src=//e.vil>",
    "<form action=//e.vil><input name=x>", "<style>*{background:url(//e.vil)}</style>",
    "<link rel=stylesheet href=//e.vil>", "<base href=//e.vil>", "<meta http-equiv=refresh>",
    "<math><mi xlink:href='javascript:1'>", "<details ontoggle=alert(1) open>",
    "<b onclick=x>y</b>",
    "<div style='position:fixed'>x</div>", "<video><source onerror=alert(1)></video>",
    "`<script>alert(1)</script>`", "```html\n<script>alert(1)</script>\n```",
    "<scr<script>ipt>alert(1)</scr</script>ipt>", "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<javascript:alert(1)>", "<https://e.vil/' onclick='x>", "[a]: javascript:alert(1)\n\n[a]",
    "| <script>x</script> |\n|---|\n| <img src=x onerror=y> |",
]  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS)
def test_answers_that_are_code_are_shown_and_not_run(text):
    from html.parser import HTMLParser

    found = []

    class Elements(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    Elements().feed(as_html(text))
    for tag, attributes in found:
        assert tag in TAGS and set(attributes) <= {"href", "rel", "value"}
        assert attributes.get("href", "http:").startswith(("http:", "https:", "mailto:"))


@pytest.mark.parametrize(
    "text",
    [
        "[note]: http://x/y 'hidden'", 'See [x](http://x "hidden")', "[](http://x/hidden)",
        ">" * 30 + " hidden", "- " * 30 + "hidden", "| a |\n|---|\n| b | hidden |",
        "a\n\n[a]: <hidden>", "~~~ `hidden` 7\nx\n~~~", "[x](ftp://hidden)",
        "<http://hid/den> [x](http://y 'hidden')",
    ],
)  # fmt: skip
def test_no_answer_hides_what_people_vote_on(text):
    seen = re.sub("<[^>]*>", "", as_html(text))
    assert "hidden" in seen


def test_what_is_to_be_seen_is_shown_as_markdown():
    assert as_html("~~no~~ yes") == "<p><s>no</s> yes</p>\n"
    text = "# Über\n\n7. a\n9. *b* &amp; c\n\n```python title=x\nd = '&copy;'\n```\n[e](http://f/g)"
    html = as_html(text)
    for part in ("<h3>Über", '<li value="7">', '<li value="9"><em>b</em> &amp; c', ">e</a>"):
        assert part in html
    assert "<p><em>python title=x</em></p><pre><code>d = '&amp;copy;'" in html


def test_a_very_long_answer_is_shown_as_it_is():
    html = as_html("<b>" + "x" * 60_000)
    assert html.startswith("<pre>&lt;b&gt;xxx")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", ""])
def test_a_foreign_host_is_refused(server, host):
    reply = server.client.get("/healthz", headers={"Host": host})
    assert reply.status_code == 400 and "--host-name" in reply.text


def test_every_route_refuses_a_foreign_host_whoever_asks(server):
    paths = [(method, path) for method, path in routes(server.app)] + [("GET", "/web/main.js")]
    for method, path in paths:
        reply = server.client.request(
            method, path.replace("{", "").replace("}", ""), json=BODIES.get(path),
            headers={"Host": "evil.example", "Authorization": f"Bearer {server.tokens['admin']}"},
        )  # fmt: skip
        assert reply.status_code == 400, (method, path, reply.text)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_ones_own_host_is_served(server, host):
    assert server.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_every_reply_is_shielded(server):
    for reply in (
        server.client.get("/healthz"), server.client.get("/nothing"), server.ask("GET", "/v1/me"),
        server.client.get("/healthz", headers={"Host": "x"}),
    ):  # fmt: skip
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in reply.headers


def test_a_large_body_is_refused(make_server):
    server = make_server(largest_body=2000)
    body = {"answer_id": 1, "text": "x" * 3000}
    assert server.ask("POST", "/v1/edits", body).status_code == 413

    def chunks():
        for _ in range(10):
            yield b"x" * 1000

    headers = {"Authorization": f"Bearer {server.tokens['annotator']}"}
    assert server.client.post("/v1/edits", content=chunks(), headers=headers).status_code == 413


def test_somebody_who_asks_too_often_waits(make_server):
    server = make_server(requests="3/minute")
    found = [server.ask("GET", "/v1/me").status_code for _ in range(4)]
    assert found == [200, 200, 200, 429]
    assert server.ask("GET", "/v1/me", role="viewer").status_code == 200


def test_guessing_tokens_is_slow(make_server, monkeypatch):
    server = make_server(failures="3/minute")
    found = []
    for n in range(5):  # Round the end of a minute on the clock, where nothing begins anew.
        monkeypatch.setattr("time.time", lambda n=n: 1_800_000_057.0 + n)
        found.append(server.ask("GET", "/v1/me", token=f"guess {n}").status_code)
    assert found == [401, 401, 401, 429, 429]
    assert server.ask("GET", "/v1/me").status_code == 200, "who has a token is not held up"


def test_no_prompt_and_no_token_is_logged(server, caplog):
    caplog.set_level(logging.DEBUG)
    pair = server.pair(SECRET, SECRET, "bad")
    server.next()
    server.vote(pair, "a")
    server.ask("POST", "/v1/votes", {"pair_id": SECRET})
    server.ask("POST", "/v1/edits", {"answer_id": 1, "text": SECRET, "no": 1})
    server.store.close()
    broken = server.vote(pair, "b")
    assert broken.status_code == 503 and SECRET not in broken.text
    ours = [one for one in caplog.records if not one.name.startswith(("httpx", "asyncio"))]
    for text in (SECRET, *server.tokens.values()):
        assert not any(text in one.getMessage() for one in ours)


def test_malformed_json_is_one_error(server):
    headers = {"Authorization": f"Bearer {server.tokens['annotator']}", "Idempotency-Key": "k"}
    for content in (b"{", b"\xff", b"[]", b"", b"[" * 5000):
        reply = server.client.post("/v1/votes", content=content, headers=headers)
        assert reply.status_code == 422 and "error" in reply.json(), content
    reply = server.client.post(
        "/v1/votes", content=b"{", headers=headers | {"Content-Type": "application/json"}
    )
    assert reply.json()["error"]["message"] == "the body is not valid JSON (character 1)"
