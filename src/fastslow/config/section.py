"""Base class of a recipe's sections: strict, frozen, documented field by field."""

from collections.abc import Iterator, Mapping
from os.path import expanduser
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

LARGEST = 2**53
"""Up to here, every whole number is exact as a float."""
Positive = Annotated[int, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[int, Field(ge=0, le=LARGEST)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
UserPath = Annotated[str, AfterValidator(expanduser)]
SECRET = "secret"
"""Error type for a value that no message may show."""


def _server_url(url: str) -> str:
    """A URL that may be written into run folders and messages."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # An invalid port, or address in brackets.
        whole = False
    if "@" in url:
        message = "must hold no user or password, as run folders keep it; use api_key_env"
        raise PydanticCustomError(SECRET, message)
    if not whole:
        raise PydanticCustomError("server_url", "must be a URL as http://127.0.0.1:8000/v1")
    return url


ServerUrl = Annotated[str, AfterValidator(_server_url)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, given: Any) -> Any:
        """In Python, True is 1; as the word `true` it is refused like any other word."""
        if not isinstance(given, Mapping):
            return given
        fields = cls.model_fields
        return {
            key: str(value).lower()
            if isinstance(value, bool) and key in fields and _is_number(fields[key].annotation)
            else value
            for key, value in given.items()
        }


def _is_number(annotation: Any) -> bool:
    kinds = [*_kinds(annotation)]
    return bool not in kinds and (int in kinds or float in kinds)


def _kinds(annotation: Any) -> Iterator[Any]:
    """All types inside an annotation."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def as_list(sources: str | list[str] | None) -> list[str]:
    """The sources of a key that takes one, several or none, as a list."""
    if sources is None:
        return []
    return [sources] if isinstance(sources, str) else list(sources)
