"""A text classifier, fitted when the run starts: bag of words and logistic regression.

Nothing is unpickled: only the data is kept, and the same data gives the same classifier.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastslow.errors import ConfigError, DataError
from fastslow.judges.base import Judge, Judgement, JudgeRequest, scored
from fastslow.streams import Unreadable, open_sources
from fastslow.words import UNSPACED

TOKEN = rf"[{UNSPACED}]|[^\W{UNSPACED}]{{2,}}"
"""Words of two or more letters; in scripts without spaces, every character."""


class ClassifierJudge(Judge):
    """Scores an answer by the log-odds that a text is of the positive class.

    Args:
        sources: rows with `text` and `label`; positive are those whose label is `positive`.
        positive: the label of the positive class.
    """

    def __init__(self, sources: list[str], *, positive: Any) -> None:
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
        except ImportError:
            raise ConfigError(
                "judge: kind classifier needs scikit-learn; pip install 'fastslow[judge]'"
            ) from None
        texts, labels = _read(sources, positive)
        names = ", ".join(Path(source).name for source in sources)
        self._name = f"classifier on {names} ({len(texts)} texts)"
        self._pipeline = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=TOKEN),
            LogisticRegression(C=10.0, max_iter=1000),
        )
        self._pipeline.fit(texts, labels)

    @property
    def name(self) -> str:
        return self._name

    def judge(self, asked: Sequence[JudgeRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        texts = [answer for request in asked for answer in request.answers]
        scores = iter(self._pipeline.decision_function(texts).tolist())
        return [scored([next(scores) for _ in request.answers]) for request in asked]


def _read(sources: list[str], positive: Any) -> tuple[list[str], list[bool]]:
    texts, labels = [], []
    for source in open_sources(sources):
        for number, row in source.rows():
            if isinstance(row, Unreadable) or not isinstance(row.get("text"), str):
                raise DataError(f"{source.name}:{number}: a row of a classifier needs a text")
            texts.append(row["text"])
            labels.append(row.get("label") == positive)
    if len(set(labels)) < 2:
        raise ConfigError(
            f"judge.positive: {sum(labels)} of {len(labels)} texts have the label {positive!r}; a "
            "classifier needs some of both kinds"
        )
    return texts, labels
