"""A topology on the tests' Kafka, each service with a worker of its own, which may be killed and started again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from pipeline.topology import Topology
from tests.helpers.support import Shop, Worker, until


class Apart:
    """Fresh topics, and no worker yet.

    `declared`: where the topology is, as `module:name`, for the workers' processes to import.
    """

    def __init__(self, bootstrap: str, home: Path, topology: Topology, declared: str, partitions: int = 2) -> None:
        self.shop, self.home = Shop(bootstrap, home, topology, partitions), home
        self.topology = topology
        self.workers: dict[str, Worker] = {}
        module, _, name = declared.partition(":")
        self.files = home / "topology"
        self.files.mkdir()
        for service in topology.services:
            text = f'from {module} import {name}\nservice = {name}.services["{service}"]\n'
            (self.files / f"{service}.py").write_text(text)
        (home / "schemas").symlink_to(topology.schemas)  # beside the topology

    def start(self, *services: str) -> None:
        """Starts their workers, or kills them and starts them again; returns once they serve."""
        self.kill(*services)
        for service in services:
            self.launch(service)
        for service in services:
            until(f"{service} serves", self.workers[service].addresses)

    def launch(self, service: str, slot: int | None = None, name: str = "") -> None:
        """Starts the worker of a service in its slot, and returns at once.

        `slot`: in that one instead, beside the other; it goes by `name` then.
        """
        slot = sorted(self.topology.services).index(service) if slot is None else slot
        where = ("--bootstrap", self.shop.bootstrap, "--slot", str(slot))
        self.workers[name or service] = Worker(self.home, str(self.files), "--service", service, *where)

    def kill(self, *services: str) -> None:
        """SIGKILL to those that run."""
        for service in services:
            if service in self.workers:
                self.workers[service].kill()

    def runs(self, name: str) -> bool:
        """Whether that worker holds partitions and has restored them."""
        addresses = self.workers[name].addresses()
        try:
            status = httpx.get(f"{addresses[0]}/v1/status", timeout=2).json() if addresses else {}
        except (httpx.HTTPError, ValueError):
            return False
        return bool(status) and all(each["assigned"] and not each["restoring"] for each in status.values())

    def rows(self, table: str) -> dict[str, Any]:
        with self.shop.query() as client:
            return {row["key"]: row["row"] for row in client.scan(table)}

    def row(self, table: str, key: str) -> dict[str, Any]:
        """Empty where there is none."""
        return self.rows(table).get(key, {})

    def call(self, *arguments: str) -> list[Any]:
        """The command line; what it answers, line by line."""
        command = [sys.executable, "-m", "pipeline", *arguments, "--topology", str(self.files)]
        command += ["--bootstrap", self.shop.bootstrap, "--json"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in shown.splitlines()]

    def close(self) -> None:
        for worker in self.workers.values():
            worker.end()
        self.shop.close()
