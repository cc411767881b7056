"""`pipeline new`: a project in a folder of its own."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ScaffoldError
from pipeline.scaffold.names import Words, check_part, package_of
from pipeline.scaffold.origin import Origin
from pipeline.scaffold.parts import service_files
from pipeline.scaffold.project import Project, format_files, make_schemas, write_all
from pipeline.scaffold.rendering import PROJECT, rendered

SERVICE = "rooms"
# Where each template goes.
FILES = {
    "pipeline.toml": "pipeline.toml",
    "pyproject.toml": "pyproject.toml",
    "Makefile": "Makefile",
    "README.md": "README.md",
    "demo.py": "demo.py",
    "compose.yaml": "compose.yaml",
    "Dockerfile": "Dockerfile",
    ".dockerignore": "dockerignore",
    ".gitignore": "gitignore",
    ".github/workflows/ci.yml": "ci.yml",
    "{package}/__init__.py": "package.py",
}


@dataclass(frozen=True, slots=True)
class Created:
    """A project that was made. `files`: relative to its folder, schemas not among them."""

    folder: Path
    package: str
    files: tuple[str, ...]
    schemas: int


def create(name: str, path: Path | None, service: str, origin: Origin) -> Created:
    """Make the project `name` in the folder `path`, or in one of its name. Raises ScaffoldError.

    The folder must be new or empty. If something fails, what was written is deleted again.
    """
    package = package_of(name)
    check_part("service", service)
    folder = (path or Path(name)).absolute()
    _check_empty(folder)
    words = Words(service)
    values = {"project": name, "package": package, "service": service, **words.as_placeholders(), **_of(origin)}
    files = {
        folder / place.format(package=package): rendered(PROJECT, source, values) for place, source in FILES.items()
    }
    project = Project(folder, package, folder / "schemas")
    parts = service_files(package, service)
    files[folder / package / f"{service}.py"], files[folder / "tests" / f"test_{service}.py"] = parts
    was_there, places = folder.exists(), list(sys.path)
    try:
        write_all(files)
        format_files([each for each in files if each.suffix == ".py"])
        schemas = make_schemas(project, project.loaded())
    except BaseException:
        _delete(folder, was_there)
        raise
    finally:
        project.forget()
        sys.path[:] = places
    made = tuple(sorted(str(each.relative_to(folder)) for each in files))
    return Created(folder, package, made, sum(each.startswith("wrote") for each in schemas))


def _check_empty(folder: Path) -> None:
    if folder.is_symlink() and not folder.exists():
        raise ScaffoldError(f"{folder} is a link to nothing; remove it, or name another with --path")
    if folder.exists() and not folder.is_dir():
        raise ScaffoldError(f"{folder} is a file; name another folder with --path")
    if folder.exists() and (there := sorted(each.name for each in folder.iterdir())):
        raise ScaffoldError(
            f"{folder} is not empty: it has {', '.join(there[:3])}{' …' if len(there) > 3 else ''}; nothing was "
            "written; choose another name, or an empty folder with --path"
        )


def _delete(folder: Path, was_there: bool) -> None:
    """Delete what was written into a folder that was new or empty."""
    for each in folder.iterdir() if folder.is_dir() else ():
        shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)
    if folder.is_dir() and not was_there:
        folder.rmdir()


def _of(origin: Origin) -> dict[str, str]:
    """Return what the templates say of where this package comes from."""
    found = {"requirement": origin.requirement, "docker_source": "", "compose_source": "", "ci_source": ""}
    found["readme_source"] = ""
    if origin.folder is None:
        return found
    where = f"kafka-pipeline comes from {origin.says}, on this machine alone"
    found["readme_source"] = (
        f"\n`pyproject.toml` names the kafka-pipeline that made this project, `{origin.says}`.\n"
        "Elsewhere, and in CI, name the published package there: `kafka-pipeline[broker,testing,develop]`.\n"
    )
    found["ci_source"] = f"      # {where}: name the published package in pyproject.toml\n"
    found["compose_source"] = f"      additional_contexts:\n        pipeline: {origin.folder}\n"
    copied = [origin.wheel] if origin.wheel else ["pyproject.toml", "setup.py", "README.md", "LICENSE"]
    lines = [f"# {where}: compose.yaml gives that folder to the build."]
    lines.append(f"COPY --from=pipeline {' '.join(copied)} {origin.folder}/")
    for inner in () if origin.wheel else ("pipeline", "topologies", "schemas"):
        lines.append(f"COPY --from=pipeline {inner} {origin.folder}/{inner}")
    found["docker_source"] = "\n".join(lines) + "\n"
    return found
