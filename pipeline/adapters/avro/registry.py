"""Schemas by topic and by id: the .avsc files, and the committed manifest that gives each its id.

`manifest.json` has every version of every schema that records may have been encoded with; the .avsc file is the present
version. An id follows from the content of a schema (see `wire.identity`), so no schema registry has to run; those that
are in a manifest stay. The engine's own schemas come with it. Beside the versions, `levels` may say for a topic how its
versions must fit each other.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from fastavro import parse_schema
from fastavro.schema import SchemaParseException

from pipeline.adapters.avro.wire.identity import BEYOND, FIRST, same, schema_id
from pipeline.errors import NotKnownYet, SchemaError, UndecodableRecord

MANIFEST = "manifest.json"
ENGINE = Path(__file__).parents[2] / "schemas"  # the engine's own
BROKEN = (ValueError, TypeError, LookupError, AttributeError, RecursionError, SchemaParseException)
MAKE = (
    "make the schemas with: pipeline schemas generate TOPOLOGY, then: pipeline schemas register (a project's make "
    "schemas does both, and so does pipeline dev)"
)
SALTS = 8  # more collisions of one hash will not come together
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


class Written(NamedTuple):
    """A version of a schema, as records on `topic` have been or may be written with it."""

    id: int
    topic: str
    schema: Schema


class Registry:
    """The schemas of one directory, and what was learned from others.

    Raises SchemaError if a file is missing, broken or not registered.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        if not directory.is_dir():
            raise SchemaError(f"no schema directory at {directory}; {MAKE}, or give the right one with --schemas")
        self._learned: dict[tuple[int, str], Schema] = {}  # grows while other threads read
        self._read: dict[str, Schema] = {}
        manifest = _manifest(directory)
        self._entries: list[dict[str, Any]] = manifest["schemas"]
        self._levels = manifest.get("levels", {})
        self._index()

    def _index(self) -> None:
        self._by_id: dict[int, dict[str, Schema]] = {}  # and by topic: those that have the same schema share its id
        self._versions: dict[str, list[Version]] = {}
        for entry in (*self._entries, *_manifest(ENGINE)["schemas"]):
            self._add(entry)

    def _add(self, entry: dict[str, Any]) -> None:
        self._by_id.setdefault(entry["id"], {})[entry["topic"]] = entry["schema"]
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
        """Return whether the .avsc is new, or differs in more than docs from its newest version in the manifest."""
        versions = self._versions.get(topic)
        return not versions or not same(versions[-1].schema, self.read(topic))

    def current(self, topic: str, *, written: bool = False) -> tuple[int, Schema]:
        """Return id and schema of the present version for `topic`. `written`: records of it are to be written."""
        schema = self.read(topic)
        if self.is_changed(topic):
            raise SchemaError(
                f"{self.directory / topic}.avsc differs from its newest version in {MANIFEST}; "
                "register it with: pipeline schemas register"
            )
        return self._versions[topic][-1].id, schema

    def written_with(self, schema_id: int, topic: str) -> Schema:
        """Return the schema of that id, of a record on `topic`.

        Raises UndecodableRecord if it is that of other topics, and NotKnownYet if it is known of none.
        """
        known = self._by_id.get(schema_id, {})
        found = known[topic] if topic in known else self._learned.get((schema_id, topic))
        if found is not None:
            return found
        if known:
            raise UndecodableRecord(f"schema id {schema_id} is that of {', '.join(sorted(known))}, not of {topic}")
        raise NotKnownYet(
            f"unknown schema id {schema_id}: neither in the manifest nor published for {topic}; have its writer "
            "publish it with: pipeline schemas publish TOPOLOGY",
            published=False,
        )

    def is_released(self, schema_id: int, topic: str) -> bool:
        """Return whether the code that is here knows what is written on `topic` with that id: the manifest has it."""
        return schema_id in self._by_id

    def versions(self, topics: Iterable[str]) -> list[Written]:
        """Return all versions of these topics that the manifest has."""
        return [Written(v.id, topic, v.schema) for topic in sorted(topics) for v in self._versions.get(topic, ())]

    def learn(self, number: int, topic: str, schema: Schema) -> None:
        """Take in a version that others write with. What the manifest has, or was learned before, stays.

        Raises SchemaError if it is none, or the id is not that of its content. Safe from any thread.
        """
        try:
            parse_schema(schema)
            fits = not FIRST <= number < BEYOND or any(schema_id(schema, salt) == number for salt in range(SALTS))
        except BROKEN as error:
            raise SchemaError(f"id {number} of {topic} is no Avro schema: {error}") from error
        if not fits:
            raise SchemaError(f"id {number} of {topic} does not follow from the schema it is published with")
        self._learned.setdefault((number, topic), schema)

    def has(self, topic: str) -> bool:
        """Return whether there is a file for the topic."""
        return _path(self.directory, topic).exists()

    def read(self, topic: str) -> Schema:
        """Return the present schema of `topic`, registered or not. A file is read once."""
        if topic not in self._read:
            self._read[topic] = self._from_file(topic)
        return self._read[topic]

    def _from_file(self, topic: str) -> Schema:
        path = _path(self.directory, topic)
        try:
            schema: Schema = json.loads(path.read_text())
            parse_schema(schema)
        except FileNotFoundError:
            raise SchemaError(f"no schema {path}; each topic needs one, named like the topic: {MAKE}") from None
        except BROKEN as error:
            raise SchemaError(f"{path} is not an Avro schema: {error}; correct it") from error
        return schema

    def adopt(self, forced: Collection[str] = ()) -> list[str]:
        """Give each new or changed .avsc its id, in this object alone. Return the topics that changed.

        `forced`: topics whose earlier versions are given up.
        """
        changed = [topic for topic in self.topics() if self.is_changed(topic)]
        for topic in changed:
            entry = {"id": self._id_of(topic), "topic": topic, "schema": self.read(topic)}
            self._entries.append(entry | ({"forced": True} if topic in forced else {}))
            self._add(self._entries[-1])
        return changed

    def _id_of(self, topic: str) -> int:
        """Return the id that the topic has had for its schema before, else the one that follows from the content."""
        schema, salt = self.read(topic), 0
        for version in self._versions.get(topic, ()):
            if same(version.schema, schema):
                return version.id
        while any(not same(schema, other) for other in self._by_id.get(schema_id(schema, salt), {}).values()):
            salt += 1
        return schema_id(schema, salt)

    def register(self, forced: Collection[str] = ()) -> list[str]:
        """Adopt what is new or changed, and write the manifest, docs too. Return the topics that changed."""
        changed = self.adopt(forced)
        newest = {entry["topic"]: entry for entry in self._entries}
        other_docs = [topic for topic in self.topics() if newest[topic]["schema"] != self.read(topic)]
        for topic in other_docs:
            newest[topic]["schema"] = self.read(topic)
        if changed or other_docs:
            self._write()
        return [topic for topic in self.topics() if topic in changed or topic in other_docs]

    def forget(self, topics: Collection[str], kept: Collection[tuple[str, int]]) -> list[str]:
        """Take the versions of these topics out of the manifest, except for those in `kept`, pairs of topic and id.

        Records that were written with them cannot be read any more. Return the topics that have lost some.
        """
        gone = [e for e in self._entries if e["topic"] in topics and (e["topic"], e["id"]) not in kept]
        if gone:
            self._entries = [entry for entry in self._entries if entry not in gone]
            self._index()
            self._write()
        return sorted({entry["topic"] for entry in gone})

    def _write(self) -> None:
        """Write the manifest: a line for each version, the topics apart, so that branches with other topics merge."""
        of_topics = itertools.groupby(sorted(self._entries, key=_topic), _topic)
        lines = ",\n\n".join(
            ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in entries) for _, entries in of_topics
        )
        levels = f'"levels": {json.dumps(self._levels, indent=2)},\n' if self._levels else ""
        write_whole(self.directory / MANIFEST, f'{{{levels}"schemas": [\n{lines}\n]}}\n')


def _topic(entry: dict[str, Any]) -> str:
    return str(entry["topic"])


def write_whole(path: Path, text: str) -> None:
    """Write a file of which no reader finds a part, nor the next start, whatever ends this process."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def _path(directory: Path, topic: str) -> Path:
    """Return the file of a topic; the engine's own come first."""
    name = f"{topic}.avsc"
    return ENGINE / name if (ENGINE / name).exists() else directory / name


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.exists():
        return {"schemas": []}
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        first: dict[int, Schema] = {}
        for number, schema, topic in [(entry["id"], entry["schema"], entry["topic"]) for entry in manifest["schemas"]]:
            if not same(first.setdefault(number, schema), schema):
                why = f"{path} gives id {number} to two schemas, one of {topic}"
                raise SchemaError(f"{why}; ids are permanent: restore it from version control")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SchemaError(f"{path} is not a manifest: {error!r}; restore it from version control") from error
    return manifest
