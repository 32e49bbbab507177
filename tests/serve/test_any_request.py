"""Requests made up from the API's own description: none is a fault of the server's."""

import postgres
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from fastslow.feedback import Store, people
from fastslow.serve import Live, Settings, make_app

UNLIMITED = "1000000/second"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(request, tmp_path_factory):
    """The API's description, and a token of each role."""
    if request.param == "sqlite":
        yield from _served(tmp_path_factory.mktemp("any"))
        return
    with postgres.running() as url:
        yield from _served(url)


def _served(where):
    with Store(where) as store:
        live = Live(store, Settings(requests=UNLIMITED, failures=UNLIMITED))
        live.changes.close()  # Or the stream of them would not end.
        tokens = [
            store.write(people.add_principal, name=role, role=role, now=0.0)[1]
            for role in ("admin", "annotator", "viewer")
        ]
        app = make_app(live)
        # Its own address is closed, as nothing of it is for others.
        schema = schemathesis.openapi.from_dict(app.openapi())
        schema.app = app
        yield schema, tokens


@pytest.mark.parametrize("examples", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_any_request_is_answered_or_refused_with_the_reason(served, examples):
    schema, tokens = served
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:
        _ask_anything(operation, tokens, examples)


def _ask_anything(operation, tokens, examples):
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def ask(case):
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}"}
            reply = case.call(base_url="http://localhost", headers=headers)
            assert reply.status_code < 500, (case, reply.text)
            if reply.status_code >= 400:
                assert reply.json()["error"]["message"]

    ask()
