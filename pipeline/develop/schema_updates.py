"""Schemas brought up to date with the message classes: each save is a step, and each step has to be readable."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.adapters.avro.registry import MANIFEST, Registry
from pipeline.adapters.avro.schemas.compatibility import Break, breaks, explained
from pipeline.adapters.avro.schemas.files import SchemaFile, schema_files, topics_that_fit
from pipeline.adapters.avro.wire.identity import same
from pipeline.errors import SchemaError
from pipeline.topology import Topology

GIT_S = 10.0


class SchemasRefused(SchemaError):
    """Records of earlier versions could not be read with the schemas that the classes ask for. Nothing is written."""

    def __init__(self, found: Sequence[Break], *, committed: bool) -> None:
        self.committed = committed  # whether one of these versions is
        super().__init__("\n".join(explained(found)))


@dataclass(frozen=True, slots=True)
class Update:
    """What was done. `left`: topics whose files the classes fit, but are not what `generate` makes of them."""

    wrote: Sequence[str]
    registered: Sequence[str]
    left: Sequence[str]


def update_schemas(topology: Topology, left: Collection[str] | None) -> Update:
    """Write the .avsc files that the classes ask for otherwise, and register what has changed.

    `left`: topics whose files are written by hand, and stay. None: find them, as those that are registered and that the
    classes fit, although `generate` would write others. Raises SchemasRefused, and SchemaError.
    """
    directory, services = topology.schemas, list(topology.services.values())
    directory.mkdir(parents=True, exist_ok=True)
    different = [each for each in schema_files(services, directory) if each.differs]
    registry = Registry(directory)
    registry.adopt()  # in this object alone: a file that is no schema is refused here, with its own path
    if left is None:
        fit = topics_that_fit(services, registry) if different else ()
        left = {_topic(each) for each in different if each.before and _topic(each) in fit and not _same(each)}
    different = [each for each in different if _topic(each) not in left]
    if found := _breaks(directory, different):
        versions = {(each.topic, each.id) for each in found}
        raise SchemasRefused(found, committed=not versions.isdisjoint(committed(directory)))
    for each in different:
        each.write()
    return Update([_topic(each) for each in different], Registry(directory).register(), sorted(left))


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


def _breaks(directory: Path, changed: Iterable[SchemaFile]) -> list[Break]:
    """Find what would break if these files were written, in a copy of the directory."""
    with TemporaryDirectory(prefix="pipeline-schemas-") as place:
        for path in (*directory.glob("*.avsc"), directory / MANIFEST):
            with suppress(FileNotFoundError):
                shutil.copy(path, place)
        for each in changed:
            (Path(place) / each.path.name).write_text(each.text)
        registry = Registry(Path(place))
        return [each for each in breaks(registry) if registry.is_changed(each.topic)]


def _topic(file: SchemaFile) -> str:
    return file.path.name.removesuffix(".avsc")


def _same(file: SchemaFile) -> bool:
    """Return whether the file differs in docs alone."""
    return bool(file.before) and same(json.loads(file.before), json.loads(file.text))
