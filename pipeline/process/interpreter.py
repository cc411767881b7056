"""Another interpreter that runs this package."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment_of_ours() -> dict[str, str]:
    """Return an environment in which `-m pipeline` is the package that runs here, whatever the current directory has.

    For example a module pipeline.py: without PYTHONSAFEPATH, `-m` looks there first.
    """
    found = {**os.environ, "PYTHONSAFEPATH": "1"}
    if str(ROOT) not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return found
