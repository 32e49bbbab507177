"""Datasets of the hub, streamed."""

from collections.abc import Iterator
from typing import Any, ClassVar

from fastslow.errors import DataError
from fastslow.streams.sources.arrow import brief
from fastslow.streams.sources.source import Row


class HubDataset:
    """One split of a dataset of the hub."""

    live: ClassVar[bool] = False
    rereadable: ClassVar[bool] = True

    def __init__(self, repo: str, split: str) -> None:
        self.repo = repo
        self.split = split

    @property
    def name(self) -> str:
        """Its id and split."""
        return f"{self.repo}:{self.split}"

    def rows(self, start: int = 0) -> Iterator[tuple[int, Row]]:
        """As every Source."""
        import datasets

        number = start
        try:
            data = datasets.load_dataset(self.repo, split=self.split, streaming=True)
            remaining = iter(data.skip(start))
        except Exception as error:  # What the libraries below raise of networks is theirs to name.
            raise DataError(
                f"{self.repo} is neither a path here nor a dataset with a split {self.split!r} "
                f"that can be reached: {brief(error)}"
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
        """Its id and split, and its revision where the hub says it."""
        from huggingface_hub import HfApi

        try:
            revision = HfApi().dataset_info(self.repo, timeout=10).sha
        except Exception:  # Offline, or not there: reading tells.
            revision = None
        return [self.repo, self.split, revision]
