"""Where a new project gets this package from: the registry, or the checkout, wheel or repository that runs here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pipeline
from pipeline.errors import ScaffoldError

NAME, EXTRAS = "kafka-pipeline", "broker,testing,develop"
VARIABLE = "PIPELINE_FROM"
PUBLISHED = "published"  # as an origin: the package as it is published, whatever runs here
URL = re.compile(r"(https?|file|git\+[a-z]+)://\S+")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a project's dependency on this package says. `folder`: the checkout, or the wheel's folder, if it is one."""

    requirement: str
    folder: Path | None = None
    wheel: str = ""
    url: str = ""

    @property
    def says(self) -> str:
        """Where the package comes from, for people."""
        if self.folder is None:
            return self.url or f"{NAME} as it is published"
        return str(self.folder / self.wheel)


def origin(given: str | None) -> Origin:
    """Return what `given` names, a path or a URL; None: what runs here. Raises ScaffoldError."""
    if given == PUBLISHED:
        return _published()
    if given is None:
        return _of_what_runs()
    if URL.fullmatch(given) and not given.startswith("file://"):
        return Origin(f"{NAME}[{EXTRAS}] @ {given}", url=given)
    return _at(Path(_path_of(given)))


def _path_of(given: str) -> str:
    return unquote(urlsplit(given).path) if given.startswith("file://") else given


def _published() -> Origin:
    try:
        return Origin(f"{NAME}[{EXTRAS}]>={version(NAME)}")
    except PackageNotFoundError:
        return Origin(f"{NAME}[{EXTRAS}]")


def _of_what_runs() -> Origin:
    checkout = Path(pipeline.__file__).resolve().parents[1]
    if _is_checkout(checkout):
        return _at(checkout)
    try:
        url = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        url = {}
    address = url.get("url", "")
    if vcs := url.get("vcs_info"):
        address = f"{vcs['vcs']}+{address}@{vcs['commit_id']}"
    if address.startswith("file://") and not Path(_path_of(address)).exists():
        return _published()  # what it was installed from is gone
    return origin(address) if address else _published()


def _is_checkout(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    return project.is_file() and f'name = "{NAME}"' in project.read_text("utf-8", errors="replace")


def _at(path: Path) -> Origin:
    path = path.expanduser().resolve()
    if not path.exists():
        raise ScaffoldError(f"there is no {path}; give a checkout of {NAME}, a wheel of it, a URL or {PUBLISHED}")
    if path.is_dir() and not _is_checkout(path):
        raise ScaffoldError(f"{path} is no checkout of {NAME}: its pyproject.toml is not that of {NAME}; give another")
    if path.is_file() and not (path.name.startswith("kafka_pipeline-") and path.suffix in (".whl", ".gz")):
        raise ScaffoldError(f"{path} is no wheel of {NAME}, which is called kafka_pipeline-….whl; give another")
    folder, wheel = (path, "") if path.is_dir() else (path.parent, path.name)
    return Origin(f"{NAME}[{EXTRAS}] @ {path.as_uri()}", folder, wheel)
