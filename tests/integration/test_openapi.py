"""The API against its own document, by generated requests: what is described, and nothing else, is what happens."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from preheat.http.guarding import OPEN_PATHS
from preheat.http.operations import OPERATIONS
from served import TOKEN, server

EXAMPLES = int(os.environ.get("PREHEAT_API_EXAMPLES", "15"))
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PLACES = [
    ("GET", "/"),
    ("GET", "/openapi.json"),
    ("POST", "/session"),
    *((o.method, o.path) for o in OPERATIONS if o.path != "/events"),  # which never ends
]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The document of a real server that asks for a token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        with server(tmp_path_factory.mktemp("state"), load=lambda key: key, token=TOKEN, gate="none") as port:
            yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json", headers=HEADERS)


CASES = [
    (method, path, mode)
    for method, path in PLACES
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or path not in OPEN_PATHS  # of which nothing can be asked wrongly
]


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_answers_are_those_that_the_document_describes(api, method, path, mode):
    operation = api[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def holds(case):
        has_plan = isinstance(case.body, dict) and "plan" in case.body
        # a plan has to be more than a schema can say: its items have to be loadable in their order
        excluded = [CHECKS.get_one("positive_data_acceptance")] if has_plan else []
        case.call_and_validate(headers=HEADERS, excluded_checks=excluded)

    holds()


def test_the_document_has_every_operation(api):
    assert {(o.method, o.path) for o in OPERATIONS} <= {
        (method.upper(), path) for path, methods in api.raw_schema["paths"].items() for method in methods
    }
