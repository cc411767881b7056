"""Projects that `pipeline new` makes in a test, and this package as the one that they depend on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import main

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
VARIABLES = ("TOPOLOGY", "SCHEMAS", "BOOTSTRAP", "HOME", "CONFIG", "CLIENT_CONFIG", "REGISTRY", "FROM")
# Makes make take .venv/installed as made: the project runs in the environment of these tests.
AS_INSTALLED = ["-o", ".venv/installed", f"BIN={BIN}"]


@contextmanager
def elsewhere(folder: Path) -> Iterator[None]:
    """Have commands run in that folder without anything that the environment says, and forget what they import."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.path", [*sys.path])
        for name in VARIABLES:
            patch.delenv(f"PIPELINE_{name}", raising=False)
        yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def call(*arguments: str) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def run(folder: Path, *command: str, timeout: float = 300) -> str:
    """Run a program in a project's folder, with this package as the installed one. Return what it has printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    env |= {"PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT), "PATH": f"{BIN}{os.pathsep}{env['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
