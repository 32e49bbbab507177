"""What every section of a recipe is made of: strict, frozen, documented field by field."""

from os.path import expanduser
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
UserPath = Annotated[str, AfterValidator(expanduser)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


def as_list(sources: str | list[str] | None) -> list[str]:
    """The sources of a key that takes one, several or none."""
    if sources is None:
        return []
    return [sources] if isinstance(sources, str) else list(sources)
