"""Schemas brought up to date with the message classes: each save is a step, and each step has to be readable."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.adapters.avro.registry import MANIFEST, Registry, Written
from pipeline.adapters.avro.schemas.compatibility import DEFAULT, Break, breaks, explained, findings
from pipeline.adapters.avro.schemas.files import SchemaFile, schema_files, topics_that_fit
from pipeline.adapters.avro.wire.identity import same
from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.errors import SchemaError
from pipeline.topology import Topology

GIT_S = 10.0


class SchemasRefused(SchemaError):
    """Records of earlier versions could not be read with the schemas that the classes ask for. Nothing is written."""

    def __init__(self, found: Sequence[Break], *, committed: bool, published: bool = False) -> None:
        self.committed = committed  # whether one of these versions is
        self.published = published  # whether the broker alone has these versions, and no manifest
        super().__init__("\n".join(explained(found)))


@dataclass(frozen=True, slots=True)
class Update:
    """What was done. `left`: topics whose files the classes fit, but are not what `generate` makes of them.

    `questions`: to the author, about fields that may have another name now.
    """

    wrote: Sequence[str]
    registered: Sequence[str]
    left: Sequence[str]
    questions: Sequence[str]


def published_schemas(topology: Topology, bootstrap: str) -> list[Written]:
    """Return what records on that Kafka have been written with, as far as it was published there."""
    topology.schemas.mkdir(parents=True, exist_ok=True)
    topic = SchemasTopic(bootstrap, Registry(topology.schemas))
    topic.catch_up()
    return topic.versions()


def schema_texts(directory: Path) -> dict[str, str]:
    """Return a digest of each file of a schema directory, by its path."""
    found = {}
    for path in (*sorted(directory.glob("*.avsc")), directory / MANIFEST):
        with suppress(OSError):
            found[os.path.realpath(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def update_schemas(topology: Topology, left: Collection[str] | None, published: Iterable[Written] = ()) -> Update:
    """Write the .avsc files that the classes ask for otherwise, and register what has changed.

    `left`: topics whose files are written by hand, and stay. None: find them, as those that are registered and that the
    classes fit, although `generate` would write others. `published`: versions that the broker has. Those that the
    manifest lacks have to stay readable, too: files and manifest may have been deleted beside records that are kept.
    Raises SchemasRefused, and SchemaError.
    """
    directory, services = topology.schemas, list(topology.services.values())
    directory.mkdir(parents=True, exist_ok=True)
    files = schema_files(services, directory)
    different = [each for each in files if each.differs]
    registry = Registry(directory)
    registry.adopt()  # in this object alone: a file that is no schema is refused here, with its own path
    if left is None:
        fit = topics_that_fit(services, registry) if different else ()
        left = {_topic(each) for each in different if each.before and _topic(each) in fit and not _same(each)}
    different = [each for each in different if _topic(each) not in left]
    with _as_changed(directory, different) as changed:
        if found := [each for each in breaks(changed) if changed.is_changed(each.topic)]:
            versions = {(each.topic, each.id) for each in found}
            raise SchemasRefused(found, committed=not versions.isdisjoint(committed(directory)))
        if found := list(_breaks_of_published(changed, set(map(_topic, files)), published)):
            raise SchemasRefused(found, committed=False, published=True)
    for each in different:
        each.write()
    questions = [question for each in different for question in each.questions()]
    return Update([_topic(each) for each in different], Registry(directory).register(), sorted(left), questions)


def forget_uncommitted(topology: Topology) -> list[str]:
    """Take the versions of the topology's own schemas that Git has no commit of out of the manifest.

    Return the topics that have lost some. Records that were written with them cannot be read any more.
    """
    directory = topology.schemas
    if not directory.is_dir():
        return []
    own = {_topic(each) for each in schema_files(topology.services.values(), directory)}
    return Registry(directory).forget(own, committed(directory))


def committed(directory: Path) -> set[tuple[str, int]]:
    """Return topic and id of each version in the manifest that Git has; none where there is no Git, or no commit."""
    command = ["git", "-C", str(directory), "show", f"HEAD:./{MANIFEST}"]
    with suppress(OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError):
        shown = subprocess.run(command, capture_output=True, timeout=GIT_S, check=True, stdin=subprocess.DEVNULL)
        return {(entry["topic"], entry["id"]) for entry in json.loads(shown.stdout)["schemas"]}
    return set()


@contextmanager
def _as_changed(directory: Path, changed: Iterable[SchemaFile]) -> Iterator[Registry]:
    """Yield what the directory would be if these files were written: a copy of it."""
    with TemporaryDirectory(prefix="pipeline-schemas-") as place:
        for path in (*directory.glob("*.avsc"), directory / MANIFEST):
            with suppress(FileNotFoundError):
                shutil.copy(path, place)
        for each in changed:
            (Path(place) / each.path.name).write_text(each.text)
        yield Registry(Path(place))


def _breaks_of_published(registry: Registry, own: Collection[str], published: Iterable[Written]) -> Iterator[Break]:
    """Find what breaks of versions that the broker has and the manifest lacks; each is counted by its place there."""
    levels, known = registry.levels(), {(each.topic, each.id) for each in registry.versions(own)}
    versions: dict[str, list[Written]] = {}
    for each in published:
        versions.setdefault(each.topic, []).append(each)
    for topic in sorted(versions.keys() & own):
        level, present = levels.get(topic, DEFAULT), registry.read(topic)
        lacking = [pair for pair in enumerate(versions[topic], 1) if (topic, pair[1].id) not in known]
        compared = lacking if level.transitive else lacking[-1:]
        for number, each in compared if level.backward else ():
            for finding in findings(each.schema, present, topic):
                yield Break(topic, number, each.id, forward=False, finding=finding)


def _topic(file: SchemaFile) -> str:
    return file.path.name.removesuffix(".avsc")


def _same(file: SchemaFile) -> bool:
    """Return whether the file differs in docs alone."""
    return bool(file.before) and same(json.loads(file.before), json.loads(file.text))
