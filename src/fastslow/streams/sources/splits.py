"""Which split of a dataset the files of a folder belong to, told from their names and folders.

`train-00000-of-00002.parquet`, `test.jsonl`, `valid/0001.jsonl` and `reviews_dev.csv` are of a
split; `a.jsonl` is of none.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fastslow.errors import DataError, did_you_mean

_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_SHARD = re.compile(r"[-_.]\d+([-_.]of[-_.]\d+)?([-_.][0-9a-f]{16})?$")


def files_of_split(folder: Path, files: Sequence[Path], split: str | None) -> list[Path]:
    """The files of one split; all of them where no split is named and no two can be seen.

    Raises DataError where the split is not there, or where one has to be named.
    """
    named = {file: _split_names(file.relative_to(folder)) for file in files}
    there = Counter(names[0] for names in named.values() if names)
    several = len({names[-1] for names in named.values() if names}) > 1
    whole = _globs(folder, files) if several else str(folder)
    if split is None:
        if not several:
            return list(files)
        raise DataError(
            f"{folder} holds several splits ({_listed(there)}); name one, as {folder}:"
            f"{min(there, key=lambda name: ('train' not in name, name))}, or all files, as {whole}"
        )
    exact = [file for file, names in named.items() if split in names]
    found = exact or [file for file, names in named.items() if _WORDS.get(split.lower()) in names]
    if not found:
        have = f"it has {_listed(there)}" if there else "the names of its files tell of none"
        near = did_you_mean(split, sorted(there))
        raise DataError(
            f"{folder} has no split {split!r}{near}; {have}: write {whole} for all of it"
        )
    return found


def _split_names(path: Path) -> tuple[str, ...]:
    """The names of the split that a file belongs to, the most exact first and the common one last;
    none if it belongs to none. Its own name counts before its folders'."""
    for part in (_stem(path.name), *reversed(path.parts[:-1])):
        words = re.split(r"[-_. ]+", part.lower())
        common = _WORDS.get(words[0]) or _WORDS.get(words[-1])
        if common:
            starts = words[0] in _WORDS and len(words) > 1
            return (part, common) if starts else (common,)
    return ()


def _globs(folder: Path, files: Sequence[Path]) -> str:
    """What to write for all files: a pattern, or a list of one for each of their suffixes."""
    endings = {
        "".join(file.suffixes[-2:] if file.suffix == ".gz" else [file.suffix]) for file in files
    }
    globs = [f"'{folder}/**/*{ending}'" for ending in sorted(endings)]
    return globs[0] if len(globs) == 1 else f"[{', '.join(globs)}]"


def _stem(name: str) -> str:
    """A file's name without its suffixes and the number of its shard."""
    return _SHARD.sub("", re.sub(r"\.(jsonl|json|csv|parquet)(\.gz)?$", "", name, flags=re.I))


def _listed(there: Counter[str]) -> str:
    shown = [f"{name}: {n} {'file' if n == 1 else 'files'}" for name, n in sorted(there.items())]
    return ", ".join(shown[:10]) + (", ..." if len(shown) > 10 else "")
