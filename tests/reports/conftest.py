import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import folders  # noqa: E402

CAREFUL = [[0.5, 0.5, 0.5], [0.8, 0.55, 0.5], [0.75, 0.8, 0.6], [0.7, 0.75, 0.8]]
CARELESS = [[0.5, 0.5, 0.5], [0.8, 0.5, 0.5], [0.6, 0.85, 0.5], [0.55, 0.6, 0.9]]


@pytest.fixture
def pair_of_continual_runs(tmp_path) -> list[Path]:
    """Two finished continual runs of three domains."""
    return [
        folders.continual(tmp_path / "careful", CAREFUL, seed=1),
        folders.continual(tmp_path / "careless", CARELESS, seed=2),
    ]
