"""Kafka's jars in one file: a Java machine keeps each jar open that it has looked into, and Kafka has 46."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

SIGNATURE = re.compile(r"META-INF/[^/]+\.(SF|RSA|DSA|EC)")
MANIFEST = "Manifest-Version: 1.0\nMulti-Release: true\n"


def one_jar(jars: Sequence[str], path: Path) -> Path:
    """Merge all jars into one at `path`, unless it exists. Return `path`.

    If several have the same file, the first wins, as on a class path; lists of services are joined.
    """
    if path.exists():
        return path
    unfinished = path.with_suffix(f".{os.getpid()}")
    services: dict[str, bytes] = {}
    names = {"META-INF/MANIFEST.MF"}
    with zipfile.ZipFile(unfinished, "w") as made:
        made.writestr("META-INF/MANIFEST.MF", MANIFEST)
        for jar in jars:
            with zipfile.ZipFile(jar) as source:
                for entry in source.infolist():
                    name = entry.filename
                    if name.startswith("META-INF/services/") and not entry.is_dir():
                        services[name] = services.get(name, b"") + source.read(entry) + b"\n"
                    elif name not in names and not entry.is_dir() and not SIGNATURE.fullmatch(name):
                        names.add(name)
                        made.writestr(name, source.read(entry))
        for name, listed in services.items():
            made.writestr(name, listed)
    unfinished.replace(path)
    return path
