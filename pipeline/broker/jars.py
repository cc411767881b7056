"""Kafka's jars, fetched from Maven Central the first time. A partial download is never used."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from pipeline.errors import LocalBrokerError
from pipeline.process.locks import Busy, locked

KAFKA_VERSION = "4.4.0"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
FETCH_S = 600.0
Say = Callable[[str], None]


def cache() -> Path:
    """Return the directory of what is fetched."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kafka-pipeline"


def kafka_jars(say: Say) -> list[str]:
    """Return the paths of Kafka's jars; fetch them if they are missing. Raises LocalBrokerError."""
    kept = cache()
    listing = kept / f"kafka-{KAFKA_VERSION}.txt"
    if jars := _listed(listing):
        return jars
    try:
        with locked(
            kept / "lock", FETCH_S, lambda: say(f"another process fetches Apache Kafka into {kept}; waiting …")
        ):
            return _listed(listing) or _fetch(kept, listing, say)
    except Busy:
        raise LocalBrokerError(
            f"another process has been fetching Apache Kafka into {kept} for {FETCH_S / 60:.0f} minutes; "
            "try again once it is done, or end it"
        ) from None
    except OSError as error:
        raise LocalBrokerError(f"cannot keep Apache Kafka in {kept}: {error}") from error


def _listed(listing: Path) -> list[str]:
    """Return the jars in the list; nothing if any of them is missing."""
    jars = listing.read_text().split("\n") if listing.exists() else []
    return jars if all(Path(jar).exists() for jar in jars) else []


def _fetch(kept: Path, listing: Path, say: Say) -> list[str]:
    say(f"fetching Apache Kafka {KAFKA_VERSION} from Maven Central into {kept}, about 130 MB, once …")
    try:
        jars = _build(kept)
        if damaged := [jar for jar in jars if not zipfile.is_zipfile(jar)]:
            _forget(damaged)
            jars = _build(kept)
    except Exception as error:  # jgo raises whatever its downloads raise
        raise LocalBrokerError(
            f"cannot fetch Apache Kafka {KAFKA_VERSION} from Maven Central: {error}; check the network and "
            "try again, or use another Kafka with --bootstrap (docker-compose.yml starts one)"
        ) from error
    part = listing.with_suffix(".part")
    part.write_text("\n".join(map(str, jars)))
    part.replace(listing)
    return [str(jar) for jar in jars]


def _build(kept: Path) -> list[Path]:
    """Let jgo download what is missing in the local Maven repository, and link all of it into one directory."""
    import jgo
    from jgo.maven import PythonResolver

    class Resolver(PythonResolver):
        """Downloads to another file and renames it once complete: jgo takes any existing file for complete."""

        def download(self, artifact: Any) -> Path | None:
            part = _Beside(artifact)
            try:
                super().download(cast(Any, part))
                os.replace(part.cached_path, artifact.cached_path)
            finally:
                part.cached_path.unlink(missing_ok=True)
            return Path(artifact.cached_path)

    # update: otherwise jgo would use a directory in which an earlier run was stopped half-way.
    # all_jars, not classpath: the latter leaves out jars that jgo files under modules/.
    return list(jgo.build(COORDINATES, cache_dir=kept / "jgo", update=True, resolver=Resolver()).all_jars)


class _Beside:
    """An artifact of jgo with another path for its file."""

    def __init__(self, artifact: Any) -> None:
        self._artifact = artifact
        self.cached_path = artifact.cached_path.with_name(f"{artifact.cached_path.name}.{os.getpid()}.part")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._artifact, name)

    def __str__(self) -> str:
        return str(self._artifact)


def _forget(jars: list[Path]) -> None:
    """Delete jars whose download is incomplete from the local Maven repository."""
    from jgo.config import GlobalSettings

    for jar in jars:
        for whole in GlobalSettings.load().repo_cache.rglob(jar.name):
            whole.unlink()
