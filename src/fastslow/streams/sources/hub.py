"""Datasets of the hub, streamed."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from fastslow.errors import DataError, shortened
from fastslow.streams.sources.arrow import brief
from fastslow.streams.sources.source import Row

HUB_FORM = "owner/name@revision:subset/split"
_HUB_ID = re.compile(
    r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?"
    r"(:((?P<subset>[^/:\[\]]+)/)?(?P<split>[^/:\[\]]+))?"
)


class HubDataset:
    """One split of a dataset of the hub.

    Args:
        repo: its id.
        split: which split.
        subset: which of its configurations; None where it has but one, or one by default.
        revision: a commit, tag or branch; None for the newest.
    """

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    def __init__(
        self, repo: str, split: str, *, subset: str | None = None, revision: str | None = None
    ) -> None:
        self.repo = repo
        self.split = split
        self.subset = subset
        self.revision = revision

    @classmethod
    def parse(cls, spec: str) -> "HubDataset | None":
        """The dataset that a text in HUB_FORM names, by default its split `train`."""
        found = _HUB_ID.fullmatch(spec)
        if found is None:
            return None
        named = found.groupdict()
        return cls(
            named["repo"],
            named["split"] or "train",
            subset=named["subset"],
            revision=named["revision"],
        )

    @property
    def name(self) -> str:
        """Its id, revision, subset and split, as a recipe names them."""
        revision = f"@{self.revision}" if self.revision else ""
        subset = f"{self.subset}/" if self.subset else ""
        return f"{self.repo}{revision}:{subset}{self.split}"

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """As every Source."""
        import datasets

        number = start
        try:
            data = datasets.load_dataset(
                self.repo, self.subset, split=self.split, revision=self.revision, streaming=True
            )
            remaining = iter(data.skip(start))
        except Exception as error:  # What the libraries below raise of networks is theirs to name.
            raise DataError(
                f"{self.name} is neither a path here nor a dataset that can be reached: "
                f"{_reason(error)}"
            ) from None
        while True:
            try:
                row = next(remaining, None)
            except Exception as error:
                raise DataError(f"{self.name} fails after row {number}: {brief(error)}") from None
            if row is None:
                return
            number += 1
            yield number, row

    def count(self) -> None:
        """Not known before the end."""
        return None

    def fingerprint(self) -> list[Any]:
        """Its id, split and subset, and its commit where the hub says it."""
        from huggingface_hub import HfApi

        try:
            commit = HfApi().dataset_info(self.repo, revision=self.revision, timeout=10).sha
        except Exception:  # Offline, or not there: reading tells.
            commit = self.revision
        return [self.repo, self.split, commit, *([self.subset] if self.subset else [])]


def _reason(error: Exception) -> str:
    """What an exception says; that a subset has to be named, with those that there are."""
    said = " ".join(str(error).split())
    if listed := re.search(r"available configs: (\[[^\]]*\])", said):
        return f"it has several subsets, so name one, as :SUBSET/SPLIT; {shortened(listed[1], 300)}"
    return brief(error)
