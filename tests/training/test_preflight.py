"""Data of a part that cannot be used is found before any part is trained."""

import pytest
import tiny

from fastslow import training
from fastslow.errors import DataError
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.preflight import LOOKED_AT, check_parts


@pytest.fixture
def ties(tmp_path):
    """A file of so many ties, and after them so many pairs."""

    def make(count, *, pairs=0):
        rows = [row | {"verdict": "tie"} for row in tiny.domain_rows("cold", count)]
        rows += tiny.domain_rows("cold", pairs)
        return str(tiny.write_rows(tmp_path / "ties.jsonl", rows))

    return make


@pytest.mark.parametrize("key", ["train", "eval"])
def test_a_later_domain_of_ties_alone_is_refused_before_the_first_is_trained(
    continual, domain_files, ties, tmp_path, key
):
    files = {"train": domain_files["cold"]["train"], "eval": domain_files["cold"]["eval"]}
    domains = [{"name": "warm", **domain_files["warm"]}, {"name": "cold", **files, key: ties(40)}]
    made = continual(domains=domains, weights="uniform")
    with pytest.raises(DataError) as error:
        training.train(made)
    assert f"domain 2, cold: data.{key}: all 40 examples are ties" in str(error.value)
    assert not list(tmp_path.glob("run/domains/*"))


def test_ties_before_pairs_are_no_fault_and_an_objective_for_ties_takes_them(
    continual, domain_files, ties
):
    def domains(train):
        cold = {"name": "cold", "train": train, "eval": domain_files["cold"]["eval"]}
        return [{"name": "warm", **domain_files["warm"]}, cold]

    late = continual(domains=domains(ties(LOOKED_AT + 5, pairs=3)), weights="uniform")
    assert check_parts(late, ProcessGroup()) == []
    only = continual("objective.name=davidson", domains=domains(ties(40)), weights="uniform")
    assert check_parts(only, ProcessGroup()) == []


def test_a_domain_whose_pairs_are_all_skipped_is_refused(continual):
    with pytest.raises(DataError, match="data.train: no usable examples"):
        check_parts(continual("data.skip=1000", weights="uniform"), ProcessGroup())
