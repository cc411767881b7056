"""Schemas by topic and by id: the .avsc files, and the committed manifest that gives each its id.

`manifest.json` has every version of every schema that records may have been encoded with; the .avsc file is the present
version. No schema registry has to run. The engine's own schemas come with it, and have ids of their own. Beside the
versions, `levels` may say for a topic how its versions must fit each other.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from fastavro import parse_schema
from fastavro.schema import SchemaParseException

from pipeline.errors import SchemaError

MANIFEST = "manifest.json"
ENGINE = Path(__file__).parents[2] / "schemas"  # the engine's own; ids from 2,000,000,001 on
Schema = Any  # JSON of an Avro schema: a name, a list (union) or a dict


class Level(Enum):
    """What is asked of a changed schema.

    Backward: it reads records of the version before it. Forward: that version reads records of it. Full: both.
    Transitive: not only the version before, but all.
    """

    NONE = (False, False, False)
    BACKWARD = (True, False, False)
    BACKWARD_TRANSITIVE = (True, False, True)
    FORWARD = (False, True, False)
    FORWARD_TRANSITIVE = (False, True, True)
    FULL = (True, True, False)
    FULL_TRANSITIVE = (True, True, True)

    def __init__(self, backward: bool, forward: bool, transitive: bool) -> None:
        self.backward, self.forward, self.transitive = backward, forward, transitive


class Version(NamedTuple):
    """One version of a topic's schema. `forced`: registered although records of the earlier ones may not be read."""

    id: int
    schema: Schema
    forced: bool


class Registry:
    """The schemas of one directory. Raises SchemaError if a file is missing, broken or not registered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not directory.is_dir():
            raise SchemaError(f"no schema directory at {directory}; give the right one with --schemas")
        self._by_id: dict[int, tuple[str, Schema]] = {}
        self._versions: dict[str, list[Version]] = {}
        manifest = _manifest(directory)
        self._entries: list[dict[str, Any]] = manifest["schemas"]
        self._levels = manifest.get("levels", {})
        for entry in (*self._entries, *_manifest(ENGINE)["schemas"]):
            self._add(entry)

    def _add(self, entry: dict[str, Any]) -> None:
        self._by_id[entry["id"]] = (entry["topic"], entry["schema"])
        version = Version(entry["id"], entry["schema"], entry.get("forced", False))
        self._versions.setdefault(entry["topic"], []).append(version)

    def topics(self) -> list[str]:
        """Return the names of all topics (and replica tables) that have an .avsc file."""
        return sorted(path.name.removesuffix(".avsc") for path in self.directory.glob("*.avsc"))

    def levels(self) -> dict[str, Level]:
        """Return what the manifest says of how versions must fit each other, by topic."""
        path = self.directory / MANIFEST
        if not isinstance(self._levels, dict):
            raise SchemaError(f'{path}: "levels" must be an object, from topic to level')
        known = {*self.topics(), *self._versions}
        for topic, level in self._levels.items():
            if topic not in known:
                raise SchemaError(f'{path}: "levels" names {topic}, which has no schema; correct the name')
            if not isinstance(level, str) or level not in Level.__members__:
                raise SchemaError(f"{path}: {level!r} of {topic} is no level; there are {', '.join(Level.__members__)}")
        return {topic: Level[level] for topic, level in self._levels.items()}

    def given_up(self, topic: str) -> int:
        """Return how many versions of the topic were given up when a later one was forced: the first ones."""
        return max((place for place, version in enumerate(self._versions.get(topic, ())) if version.forced), default=0)

    def compared(self, topic: str) -> list[tuple[int, Version]]:
        """Return the earlier versions that the present schema must fit, each with its number within the topic."""
        older = list(enumerate(self._versions.get(topic, ()), 1))[self.given_up(topic) :]
        return older if self.is_changed(topic) else older[:-1]

    def is_changed(self, topic: str) -> bool:
        """Return whether the .avsc is new, or differs from its newest version in the manifest."""
        versions = self._versions.get(topic)
        return not versions or versions[-1].schema != self.read(topic)

    def current(self, topic: str) -> tuple[int, Schema]:
        """Return id and schema of the present version for `topic`."""
        schema, versions = self.read(topic), self._versions.get(topic)
        if not versions or versions[-1].schema != schema:
            raise SchemaError(
                f"{self.directory / topic}.avsc differs from its newest version in {MANIFEST}; "
                "register it with: pipeline schemas register"
            )
        return versions[-1].id, schema

    def written_with(self, schema_id: int) -> tuple[str, Schema] | None:
        """Return topic and schema of that id; None if the manifest does not have it."""
        return self._by_id.get(schema_id)

    def read(self, topic: str) -> Schema:
        """Return the present schema of `topic`, registered or not."""
        path = (ENGINE if (ENGINE / f"{topic}.avsc").exists() else self.directory) / f"{topic}.avsc"
        try:
            schema: Schema = json.loads(path.read_text())
            parse_schema(schema)
        except FileNotFoundError:
            raise SchemaError(f"no schema {path}; each topic needs one, named like the topic") from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, SchemaParseException) as error:
            raise SchemaError(f"{path} is not an Avro schema: {error}; correct it") from error
        return schema

    def adopt(self, forced: Collection[str] = ()) -> list[str]:
        """Give each new or changed .avsc the next id, in this object alone. Return the topics that changed.

        `forced`: topics whose earlier versions are given up.
        """
        last = max((entry["id"] for entry in self._entries), default=0)
        changed = [topic for topic in self.topics() if self.is_changed(topic)]
        for number, topic in enumerate(changed, last + 1):
            entry = {"id": number, "topic": topic, "schema": self.read(topic)}
            self._entries.append(entry | ({"forced": True} if topic in forced else {}))
            self._add(self._entries[-1])
        return changed

    def register(self, forced: Collection[str] = ()) -> list[str]:
        """Adopt what is new or changed, and write the manifest. Return the topics that changed."""
        changed = self.adopt(forced)
        if changed:
            lines = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in self._entries)
            levels = f'"levels": {json.dumps(self._levels, indent=2)},\n' if self._levels else ""
            (self.directory / MANIFEST).write_text(f'{{{levels}"schemas": [\n{lines}\n]}}\n')
        return changed


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.exists():
        return {"schemas": []}
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        ids = [(entry["id"], entry["topic"], entry["schema"])[0] for entry in manifest["schemas"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SchemaError(f"{path} is not a manifest: {error!r}; restore it from version control") from error
    if len(set(ids)) != len(ids):
        raise SchemaError(f"{path} gives an id twice, but ids are permanent; restore it from version control")
    return manifest
