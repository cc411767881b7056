"""The .avsc files of services, as their message classes ask for them, beside those that are there."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import ENGINE, Registry, Schema, write_whole
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.avro.schemas.renames import perhaps_renamed
from pipeline.engine.plan import ServicePlan
from pipeline.engine.state.table import Strict
from pipeline.errors import SchemaError
from pipeline.model import Service
from pipeline.model.changes.upcasts import NONE, Upcasts, with_old

SECRET = b"\0" * 32  # plans of services with unique values ask for one, and reserve nothing here


class SchemaFile(NamedTuple):
    """A schema as the classes ask for it. `before`: the file's text; empty if there is none."""

    path: Path
    text: str
    before: str

    @property
    def differs(self) -> bool:
        """Whether the file has another schema; how it is laid out does not count."""
        return not self.before or json.loads(self.before) != json.loads(self.text)

    def difference(self) -> str:
        """Return what would change, as lines of a unified diff."""
        before = _laid_out(json.loads(self.before)) if self.before else ""
        lines = difflib.unified_diff(
            before.splitlines(), self.text.splitlines(), self.path.name, "as the classes have it", lineterm="", n=2
        )
        return "\n".join(lines)

    def questions(self) -> list[str]:
        """Return what to ask the author: whether a field that is gone is one that is new."""
        found = perhaps_renamed(json.loads(self.before), json.loads(self.text)) if self.before else ()
        return [
            f"{self.path.name}: {record} has lost {gone} and has {new} now. If that is the same field, say so, or what "
            f'was stored is read as the default: {new}: Annotated[…, Renamed("{gone}")]'
            for record, gone, new in found
        ]

    def write(self) -> None:
        """Write the file as the classes ask for it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, self.text)


def schema_files(services: Iterable[Service], directory: Path) -> list[SchemaFile]:
    """Return the files of all topics that the services own, by name. Raises SchemaError."""
    found = []
    for request in sorted(_requests(services), key=lambda request: request.topic):
        path = directory / f"{request.topic}.avsc"
        before = path.read_text() if path.exists() else ""
        try:
            earlier = json.loads(before) if before else None
        except ValueError as error:
            raise SchemaError(f"{path} is not JSON: {error}; correct it, or delete it to make it anew") from None
        found.append(SchemaFile(path, _laid_out(generate(request, earlier)), before))
    return found


class _NoCodec:
    """Stands for the codec of a topic in a plan that handles no records."""

    id, fit = 0, None

    def decode(self, data: bytes | None) -> Any:
        raise AssertionError("a plan without codecs has no records")

    def encode(self, value: Any) -> bytes:
        raise AssertionError("a plan without codecs has no records")


def plan_without_codecs(service: Service) -> ServicePlan:
    """Return the plan of a service that handles no records; classes need not fit their schemas."""
    return ServicePlan(service, lambda *_, **__: _NoCodec(), secret=SECRET)


def topics_that_fit(services: Iterable[Service], registry: Registry) -> set[str]:
    """Return the topics whose registered schemas the message classes fit as they are."""
    fit: set[str] = set()

    def attempt(topic: str, *args: Any, **options: Any) -> _NoCodec:
        with suppress(SchemaError):
            Codec(registry, topic, *args, **options)
            fit.add(topic)
        return _NoCodec()

    for service in services:
        ServicePlan(service, attempt, secret=SECRET)
    return fit


def _requests(services: Iterable[Service]) -> Iterable[Request]:
    """Return what the plan of each service asks the schemas of its own topics for."""
    found: dict[str, Request] = {}
    for service in services:
        ServicePlan(service, partial(_note, found, service.part_of or service.name), secret=SECRET)
    return found.values()


def _note(
    found: dict[str, Request],
    namespace: str,
    topic: str,
    root: Any,
    body: Any = None,
    *,
    strict: Strict = True,
    upcasts: Upcasts = NONE,
) -> _NoCodec:
    if strict in (True, "read") and not (ENGINE / f"{topic}.avsc").exists():
        found[topic] = Request(topic, root, with_old(body, upcasts), strict == "read", namespace)
    return _NoCodec()


def _laid_out(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
