"""A PostgreSQL server for the tests, in a directory and on a port of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

INSTALL = "apt-get install --yes --no-install-recommends postgresql"


def binaries() -> Path | None:
    """Where the newest server's programs are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


class Postgres:
    """A server that has been started. `url` is that of its first database."""

    def __init__(self, home: Path, programs: Path) -> None:
        self._home, self._programs, self._numbers = home, programs, count(1)
        # It refuses to run as root.
        self._as_owner = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "--pgdata", str(home / "data"), "--username=postgres", "--auth=trust", "--no-sync")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_owner, str(self._programs / program), *arguments]
        with (self._home / "output").open("ab") as output:  # not a pipe: the server inherits it, and would keep it open
            done = subprocess.run(command, stdout=output, stderr=output, cwd=self._home)
        assert done.returncode == 0, f"{program}: {(self._home / 'output').read_text()}"

    def start(self) -> None:
        """Returns once it answers."""
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = ["--log", str(self._home / "log")]
        self._run("pg_ctl", "start", "--wait", "--pgdata", str(self._home / "data"), *log, "-o", settings)

    def stop(self) -> None:
        """At once, as in a crash."""
        self._run("pg_ctl", "stop", "--mode=immediate", "--pgdata", str(self._home / "data"))

    def new_database(self) -> str:
        """The address of a new, empty one."""
        name = f"test_{next(self._numbers)}"
        self._run("createdb", "--host=127.0.0.1", f"--port={self.port}", "--username=postgres", name)
        return self.url.removesuffix("postgres") + name


@contextmanager
def server(programs: Path) -> Iterator[Postgres]:
    """A running server, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    if os.getuid() == 0:
        shutil.chown(home, "postgres", "postgres")
    running = Postgres(home, programs)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(home)
