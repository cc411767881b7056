"""Schemas by topic and by id: the .avsc files, and the committed manifest that gives each its id.

`manifest.json` has every version of every schema that records may have been encoded with; the .avsc file is the present
version. No schema registry has to run. The engine's own schemas come with it, and have ids of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastavro import parse_schema
from fastavro.schema import SchemaParseException

from pipeline.errors import SchemaError

MANIFEST = "manifest.json"
ENGINE = Path(__file__).parents[2] / "schemas"  # the engine's own; ids from 2,000,000,001 on
Schema = Any  # JSON of an Avro schema: a name, a list (union) or a dict


class Registry:
    """The schemas of one directory. Raises SchemaError if a file is missing, broken or not registered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not directory.is_dir():
            raise SchemaError(f"no schema directory at {directory}; give the right one with --schemas")
        self._by_id: dict[int, tuple[str, Schema]] = {}
        self._newest: dict[str, int] = {}
        for entry in (*self._entries(self.directory), *self._entries(ENGINE)):
            self._by_id[entry["id"]] = (entry["topic"], entry["schema"])
            self._newest[entry["topic"]] = entry["id"]

    def _entries(self, directory: Path) -> list[dict[str, Any]]:
        path = directory / MANIFEST
        if not path.exists():
            return []
        try:
            entries: list[dict[str, Any]] = json.loads(path.read_text())["schemas"]
            ids = [entry["id"] for entry in entries]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SchemaError(f"{path} is not a manifest: {error!r}; restore it from version control") from error
        if len(set(ids)) != len(ids):
            raise SchemaError(f"{path} gives an id twice, but ids are permanent; restore it from version control")
        return entries

    def topics(self) -> list[str]:
        """Return the names of all topics (and replica tables) that have an .avsc file."""
        return sorted(path.name.removesuffix(".avsc") for path in self.directory.glob("*.avsc"))

    def current(self, topic: str) -> tuple[int, Schema]:
        """Return id and schema of the present version for `topic`."""
        schema = self._read(topic)
        schema_id = self._newest.get(topic)
        if schema_id is None or self._by_id[schema_id][1] != schema:
            raise SchemaError(
                f"{self.directory / topic}.avsc differs from its newest version in {MANIFEST}; "
                "register it with: pipeline schemas register"
            )
        return schema_id, schema

    def written_with(self, schema_id: int) -> tuple[str, Schema] | None:
        """Return topic and schema of that id; None if the manifest does not have it."""
        return self._by_id.get(schema_id)

    def _read(self, topic: str) -> Schema:
        path = (ENGINE if (ENGINE / f"{topic}.avsc").exists() else self.directory) / f"{topic}.avsc"
        try:
            schema: Schema = json.loads(path.read_text())
            parse_schema(schema)
        except FileNotFoundError:
            raise SchemaError(f"no schema {path}; each topic needs one, named like the topic") from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, SchemaParseException) as error:
            raise SchemaError(f"{path} is not an Avro schema: {error}; correct it") from error
        return schema

    def register(self) -> list[str]:
        """Give each new or changed .avsc the next id and write the manifest. Return the topics that changed."""
        entries = self._entries(self.directory)
        last = max((entry["id"] for entry in entries), default=0)
        changed = []
        for topic in self.topics():
            schema = self._read(topic)
            known = self._newest.get(topic)
            if known is not None and self._by_id[known][1] == schema:
                continue
            last += 1
            self._by_id[last], self._newest[topic] = (topic, schema), last
            entries.append({"id": last, "topic": topic, "schema": schema})
            changed.append(topic)
        if changed:
            lines = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in entries)
            (self.directory / MANIFEST).write_text(f'{{"schemas": [\n{lines}\n]}}\n')
        return changed
