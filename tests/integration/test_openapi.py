"""The API against its own document, by generated requests: what is described, and nothing else, is what happens."""

import contextlib
import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS
from schemathesis.generation import GenerationMode

from preheat.http.bodies import NoQuery
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
def apis(tmp_path_factory):
    """The documents of two real servers: one that asks for a token is asked rightly, one that asks for none wrongly."""
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        found = {}
        for mode, token in ((GenerationMode.POSITIVE, TOKEN), (GenerationMode.NEGATIVE, None)):
            folder = tmp_path_factory.mktemp("state")
            giving = {"peers": ["http://127.0.0.1:9"], "application_version": "1"}
            made = server(folder, load=lambda key: key, settings=giving, token=token, gate="none")
            port = stack.enter_context(made)
            place = f"http://127.0.0.1:{port}/openapi.json"
            found[mode] = schemathesis.openapi.from_url(place, headers=HEADERS)
        yield found


ASKED = {(o.method, o.path) for o in OPERATIONS if o.body is not None or o.query is not NoQuery} | {
    ("POST", "/session")
}
CASES = [
    (*place, mode)
    for place in PLACES
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or place in ASKED  # where nothing is asked, nothing can be asked wrongly
]


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_answers_are_those_that_the_document_describes(apis, method, path, mode):
    operation = apis[mode][path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def holds(case):
        has_plan = isinstance(case.body, dict) and "plan" in case.body
        # a plan has to be more than a schema can say: its items have to be loadable in their order
        excluded = [CHECKS.get_one("positive_data_acceptance")] if has_plan else []
        case.call_and_validate(headers=HEADERS if mode is GenerationMode.POSITIVE else {}, excluded_checks=excluded)

    holds()


def test_the_document_has_every_operation(apis):
    paths = apis[GenerationMode.POSITIVE].raw_schema["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert {(o.method, o.path) for o in OPERATIONS} <= described
