"""Addresses of servers and what is sent to them, as a recipe may have them."""

import pytest

from fastslow import load_recipe
from fastslow.errors import ConfigError

SECTIONS = ("judge", "online.engine")


def recipe(section, **settings):
    """A recipe with the settings in a section that names a server."""
    server = {"url": "http://127.0.0.1:8000/v1", "model": "m"} | settings
    raw = {"model": "m", "online": {"prompts": "p.jsonl"}, "judge": {"kind": "world", "file": "w"}}
    if section == "judge":
        return load_recipe(raw | {"judge": {"kind": "llm", **server}})
    return load_recipe(raw | {"online": {"prompts": "p.jsonl", "engine": server}})


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http://host:99999", "http://[::1/v1"]
)
def test_an_address_is_a_url(section, url):
    with pytest.raises(ConfigError) as caught:
        recipe(section, url=url)
    assert str(caught.value) == (
        f"{section}.url: got {url!r}; must be a URL as http://127.0.0.1:8000/v1"
    )


@pytest.mark.parametrize("section", SECTIONS)
def test_a_password_in_an_address_is_refused_and_not_shown(section):
    with pytest.raises(
        ConfigError, match=f"{section}.url: must hold no user or password"
    ) as caught:
        recipe(section, url="https://me:secret@host:8000/v1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("url", ["https://api.host/v1", "http://[::1]:8000/v1", "HTTP://h/v1?a=b"])
def test_addresses_are_taken_as_they_are(section, url):
    made = recipe(section, url=url)
    assert (made.judge if section == "judge" else made.online.engine).url == url


@pytest.mark.parametrize("field", ["temperature", "n", "seed", "stream", "model"])
def test_extra_fields_are_none_that_a_request_sets_itself(field):
    assert recipe("online.engine", extra_body={"top_k": 5}).online.engine.extra_body == {"top_k": 5}
    with pytest.raises(ConfigError, match=f"extra_body: .* must not hold {field}"):
        recipe("online.engine", extra_body={field: 1, "top_k": 5})
