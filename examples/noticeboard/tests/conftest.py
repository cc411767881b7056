"""A worker and the site's server, in two processes, behind a proxy that takes a prefix away: for tests with Kafka."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

PROJECT = Path(__file__).parent.parent
PREFIX = "/wall"
PATIENCE_S = 120
T = TypeVar("T")


class Proxy(httpx.HTTPTransport):
    """Takes the prefix from each request, as a reverse proxy does, and opens a connection for each."""

    def __init__(self) -> None:
        super().__init__(limits=httpx.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_with(raw_path=request.url.raw_path.removeprefix(PREFIX.encode()))
        passed = httpx.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        return super().handle_request(passed)


class Site:
    """The site's processes, with their logs in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Without PIPELINE_BOOTSTRAP, all of them use the local broker of this home.
        self._env = {**os.environ, "PIPELINE_HOME": str(folder / "home"), "PIPELINE_TOPOLOGY": "noticeboard"}
        self._own_broker = not os.environ.get("PIPELINE_BOOTSTRAP")
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = ""

    def start(self) -> None:
        if self._own_broker:
            self._call("broker", "up")
        self._call("topics", "create")
        self._begin("worker", "pipeline", "worker")
        server = ("uvicorn", "web.app:app", "--port", "0", "--workers", "2", "--root-path", PREFIX)
        self.server = self._begin("server", *server, "--timeout-graceful-shutdown", "1")
        running = self._until(lambda: re.search(r"running on (http://\S+)", self.log()))
        assert running is not None
        self.url = running[1] + PREFIX
        self._until(self._replies)

    def _replies(self) -> bool:
        try:
            with self.browser() as browser:
                return browser.get("/boards/hall/notices").status_code == 200
        except httpx.TransportError:  # the port is bound before a process of the server listens there
            return False

    def browser(self) -> httpx.Client:
        """Return a browser of its own: it keeps cookies."""
        return httpx.Client(base_url=self.url, transport=Proxy(), timeout=30)

    def log(self) -> str:
        return (self._folder / "server.log").read_text()

    def _begin(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=PROJECT, env=self._env, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    def _call(self, *command: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "pipeline", *command], cwd=PROJECT, env=self._env, check=True, timeout=300
        )

    def _until(self, check: Callable[[], T]) -> T:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := check()):
            assert time.monotonic() < deadline, f"not in time; the logs are in {self._folder}"
            assert all(process.poll() is None for process in self._processes), self.log()
            time.sleep(0.1)
        return found

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._own_broker:
            self._call("broker", "down")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def browser(site: Site) -> Iterator[httpx.Client]:
    with site.browser() as made:
        yield made
