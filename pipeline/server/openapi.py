"""The OpenAPI document of a worker, made from the declared endpoints and their subjects in the topology."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from pipeline.model.records.keys import KEY_BYTES_MAX
from pipeline.server.endpoint import Described, Endpoint, Json, Param
from pipeline.server.endpoints import aggregates, operators, probes, tables
from pipeline.server.schemas.components import Components, Named, Names
from pipeline.server.schemas.parts import PROBLEM
from pipeline.server.schemas.subjects import Subject
from pipeline.server.schemas.tables import KEY
from pipeline.topology import Topology

WHOSE = f"id of the aggregate, or key of the row; at most {KEY_BYTES_MAX} bytes of UTF-8"
DECLARED = [
    *vars(tables).values(),
    *vars(aggregates).values(),
    *vars(operators).values(),
    *vars(probes).values(),
    *operators.INTERVENE.values(),
]
PARTS: dict[str, tuple[Param, Json]] = {
    "key": (Param("key", description=WHOSE), KEY),
    "id": (Param("id"), {"type": "string", "minLength": 1}),
}
SCHEMES = {"access_token": {"type": "http", "scheme": "bearer"}}
PROBLEMS = {"content": {"application/problem+json": {"schema": Named("Problem", PROBLEM)}}}


def document(topology: Topology, *, asks_for_token: bool = False) -> Json:
    """Return the document as JSON. `asks_for_token`: whether requests need an access token, or may have one."""
    paths: Json = {}
    components = Components(Names(topology))
    for endpoint in DECLARED:
        if not isinstance(endpoint, Endpoint) or endpoint.described is None:
            continue
        for subject in endpoint.described.of(topology):
            path = endpoint.template
            for name, part in subject.parts.items():
                path = path.replace(f"{{{name}}}", part)
            operation = _operation(endpoint, endpoint.described, subject)
            paths.setdefault(path, {})[endpoint.method.lower()] = components.placed(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": topology.name, "version": version("kafka-pipeline")},
        "paths": paths,
        "components": {"schemas": dict(sorted(components.schemas.items())), "securitySchemes": SCHEMES},
        "security": [{name: [] for name in SCHEMES}, *([] if asks_for_token else [{}])],
    }


def _operation(endpoint: Endpoint, told: Described, subject: Subject) -> Json:
    operation: Json = {
        "summary": told.summary.format(subject.name),
        "operationId": f"{told.operation}_{subject.name}" if subject.parts else told.operation,
        "parameters": list(_parameters(endpoint, subject)),
        "responses": told.answers(subject.it) | _problems(told.errors),
    }
    if endpoint in probes.OPEN:
        operation["security"] = []
    if told.body is not None:
        body = {"required": True, "content": {"application/json": {"schema": told.body(subject.it)}}}
        operation["requestBody"] = body
    return operation


def _parameters(endpoint: Endpoint, subject: Subject) -> Iterator[Json]:
    declared = {param.name for param in endpoint.params}
    for name in endpoint.names:
        if name not in subject.parts and name not in declared:
            yield _parameter(*PARTS[name], "path")
    for param in endpoint.params:
        schema = param.schema(subject.it) if callable(param.schema) else param.schema
        if schema is not None and not param.is_hidden:
            yield _parameter(param, schema, param.place)


def _parameter(param: Param, schema: Json, place: str) -> Json:
    told: Json = {"name": param.name, "in": place, "schema": schema}
    told |= {"description": param.description} if param.description else {}
    return told | ({"required": True} if place == "path" else {})


def _problems(errors: Mapping[int, str]) -> dict[str, Any]:
    return {str(status): {"description": why, **PROBLEMS} for status, why in errors.items()}
