"""Where backups are: a directory, or an object store by its URL (fsspec). Files appear there whole, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import BackupError, BackupUnreachable

CHUNK = 1 << 20
PART = ".part"  # ends the name of a file that is being written


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            found.update(data)
    return found.hexdigest()


class Vault:
    """Files by name under a URL such as `s3://bucket/folder`, or a path. Raises BackupUnreachable, BackupError."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._files, self._root = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            raise BackupError(
                f"{url} needs a package that is not installed ({error}); for S3: pip install 'kafka-pipeline[s3]'"
            ) from None
        except ValueError as error:
            raise BackupError(f"{url} names no place for backups: {error}") from None
        self._local = "file" in self._files.protocol

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _reached(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise BackupError(f"{self.url} has no {name}: it is no backup, or a damaged one") from None
        except (BackupError, BackupUnreachable):
            raise
        except Exception as error:  # each store has errors of its own
            raise BackupUnreachable(f"{self.url} does not give or take {name}: {error!r:.200}; try again") from error

    def put(self, local: Path, name: str) -> None:
        """Store a file under that name, in place of any."""
        with self._reached(name):
            path = self._path(name)
            if self._local:
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(local), path + PART)
                self._files.mv(path + PART, path)
            else:
                self._files.put_file(str(local), path)

    def get(self, name: str, local: Path, digest: str) -> Path:
        """Fetch a file. Raises BackupError if it is not what was stored."""
        with self._reached(name):
            self._files.get_file(self._path(name), str(local))
        if digest_of(local) != digest:
            raise BackupError(f"{self.url}/{name} is damaged: its digest is not {digest}; take another point, or copy")
        return local

    def write_json(self, name: str, value: Any, folder: Path) -> None:
        """Store JSON under that name; `folder` is for what it needs meanwhile."""
        local = folder / "value.json"
        local.write_text(json.dumps(value))
        self.put(local, name)

    def read_json(self, name: str) -> Any:
        """Return such JSON."""
        with self._reached(name):
            text = self._files.cat_file(self._path(name))
        try:
            return json.loads(text)
        except ValueError as error:
            raise BackupError(f"{self.url}/{name} is damaged: {error}; take another point, or copy") from None

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        with self._reached(name):
            return bool(self._files.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder and below it, in order."""
        with self._reached(folder):
            try:
                found = self._files.find(self._path(folder))
            except FileNotFoundError:
                return []
        begin = len(self._root) + 1
        return sorted(path[begin:] for path in found if not path.endswith(PART))

    def remove(self, name: str) -> None:
        """Delete a file."""
        with self._reached(name):
            self._files.rm_file(self._path(name))
