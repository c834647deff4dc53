"""The OpenAPI document, made from the table of operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from preheat import __version__
from preheat.http.bodies import FORM, JSON
from preheat.http.operations import EVENT_STREAM, Operation
from preheat.http.shapes import Fault, Live

REFUSALS = {
    400: "What was asked for can't be used.",
    401: "The token is missing or wrong.",
    403: "A page of another origin may change nothing.",
    413: "The body is too large.",
    421: "The host is none of ours.",
}
BODY_REFUSALS = {408: "The body took too long.", 415: "The body has to be of another type."}
OPEN_REFUSALS = (400, 413)

_REFERENCE = "#/components/schemas/{name}"


def openapi_document(operations: Sequence[Operation], strategies: Sequence[str], *, has_token: bool) -> dict[str, Any]:
    """The document that describes `operations`, for a service that knows `strategies`."""
    schemas, components = _schemas(operations)
    _name_strategies(components, strategies)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schemas, components, has_token=has_token)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "preheat", "version": __version__, "description": "A cache warm-up, watched and steered."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _shapes(operations: Iterable[Operation]) -> list[type]:
    found: dict[type, None] = {Fault: None, Live: None}
    for operation in operations:
        shapes = (operation.query, operation.body, *operation.answers.values())
        found |= dict.fromkeys(shape for shape in shapes if isinstance(shape, type))
    return list(found)


def _schemas(operations: Iterable[Operation]) -> tuple[dict[type, dict[str, Any]], dict[str, Any]]:
    shapes = _shapes(operations)
    schemas, components = msgspec.json.schema_components(shapes, ref_template=_REFERENCE)
    return dict(zip(shapes, schemas, strict=True)), dict(components)


def _name_strategies(components: Mapping[str, Any], strategies: Sequence[str]) -> None:
    """Only the names of strategies that there are will do, and none beside a plan."""
    for name in ("PlanQuery", "RunBody"):
        field = components[name]["properties"]["strategy"] if name in components else {}
        for choice in field.get("anyOf", ()):
            if choice.get("type") == "string":
                choice["enum"] = list(strategies)
    if "RunBody" in components:  # the strategy of a plan stands in the plan
        components["RunBody"]["not"] = {"required": ["strategy", "plan"]}


def _operation(
    operation: Operation,
    schemas: Mapping[type, dict[str, Any]],
    components: Mapping[str, Any],
    *,
    has_token: bool,
) -> dict[str, Any]:
    answers = {status: _content(shape, schemas) for status, shape in operation.answers.items()}
    told: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            str(status): answer for status, answer in sorted((_refusals(operation, schemas) | answers).items())
        },
        "security": [{"token": []}] if has_token and not operation.is_open else [],
    }
    parameters = _parameters(components[operation.query.__name__])
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        media = FORM if operation.body.__name__ == "SignIn" else JSON
        told["requestBody"] = {"required": True, "content": {media: {"schema": schemas[operation.body]}}}
    return told


def _refusals(operation: Operation, schemas: Mapping[type, dict[str, Any]]) -> dict[int, Any]:
    refusals = {n: text for n, text in REFUSALS.items() if not operation.is_open or n in OPEN_REFUSALS}
    if operation.body is not None:
        refusals |= BODY_REFUSALS
    return {n: _content(Fault, schemas) | {"description": text} for n, text in refusals.items()}


def _content(shape: Any, schemas: Mapping[type, dict[str, Any]]) -> dict[str, Any]:
    if shape is None:
        return {"description": "Nothing but the head."}
    if isinstance(shape, str):
        schema = {"type": "string"}
        if shape == EVENT_STREAM:
            schema["description"] = "Events `live`, the data of each a `Live` as JSON."
        return {"description": "As said above.", "content": {shape: {"schema": schema}}}
    described = (shape.__doc__ or "").partition("\n")[0]
    return {"description": described, "content": {JSON: {"schema": schemas[shape]}}}


def _parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": _plain(field)}
        for name, field in schema.get("properties", {}).items()
    ]


def _plain(field: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a parameter: what is absent is not null, so only what it is otherwise is said."""
    choices = [choice for choice in field.get("anyOf", ()) if choice.get("type") != "null"]
    rest = {name: value for name, value in field.items() if name not in {"anyOf", "default"} or value is not None}
    rest.pop("anyOf", None)
    return rest | choices[0] if choices else dict(field)
