"""The image and what docker-compose.yml starts of it: not root, extensions built, probes, options that a worker has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from pipeline.cli import main

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OBSERVED = ("topics", "worker", "prometheus", "grafana")


def parse(words: list[str]) -> None:
    """Have the command line read a command, to the end; an unknown option raises."""
    group, name = main, words[0]
    command = group.get_command(group.make_context("pipeline", ["config"]), name)
    assert command is not None, name
    while hasattr(command, "get_command"):
        words = words[1:]
        command = command.get_command(command.make_context(name, list(words), resilient_parsing=True), words[0])
        assert command is not None, words[0]
    command.make_parser(command.context_class(command)).parse_args(list(words[1:]))


def test_the_image_is_slim_and_not_root() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert stages == ["python:3.13-slim"] * 2
    (user,) = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user == ("10001", "10001")
    assert "apt-get" not in DOCKERFILE.split("FROM")[2]


def test_the_image_is_not_built_without_its_extensions() -> None:
    build = DOCKERFILE.split("FROM python")[1]
    assert "from pipeline.adapters.avro import _native" in build
    assert "from pipeline.model.records import _murmur2" in build


def test_the_image_gets_what_it_copies() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert names == allowed
    assert all((ROOT / name).exists() for name in names)


def test_the_image_says_whether_its_worker_lives() -> None:
    (check,) = re.findall(r"^HEALTHCHECK.*\\\n\s+CMD (.*)$", DOCKERFILE, re.MULTILINE)
    command = json.loads(check)
    compile(command[2], "HEALTHCHECK", "exec")
    assert "http://127.0.0.1:6066/livez" in command[2]
    (started,) = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    assert "--port=6066" in json.loads(started)
    parse(json.loads(started))


def test_a_profile_has_a_worker_that_is_observed() -> None:
    assert all(SERVICES[name]["profiles"] == ["observe"] for name in OBSERVED)
    parse(SERVICES["topics"]["command"])
    parse(SERVICES["worker"]["command"])
    brokers = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert "INSIDE://kafka:29092" in brokers
    for name in ("topics", "worker"):
        assert "--bootstrap=kafka:29092" in SERVICES[name]["command"]
    (scrape,) = yaml.safe_load((ROOT / "deploy/observe/prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": ["worker:6066"]}]


def test_what_is_published_and_mounted_is_there_and_of_this_machine_alone() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        sources = [volume.split(":")[0] for volume in service.get("volumes", ())]
        assert all((ROOT / source).exists() for source in sources if source.startswith("./")), name
