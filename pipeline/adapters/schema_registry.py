"""A schema registry that is reached by its URL, with Confluent's interface: ids of schemas, and schemas by id."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pipeline.adapters.client_config import REGISTRY, config_path, registry_settings
from pipeline.errors import ClientConfigError, RegistryRefused, RegistryUnreachable, SchemaError

VARIABLE = "PIPELINE_REGISTRY"  # holds the URL; child processes inherit it
TIMEOUT_S = 5.0
RETRIES = 3  # after answers that say so, and where none comes
WAIT_MS, WAIT_MAX_MS = 300, 2000  # between them, at random
MISS_S = 1.0  # for how long an id that it did not have is not asked for again
MISSES_MAX = 1000
AWAY_S = 5.0  # for how long a registry that has not answered is asked for no id
NOT_FOUND = {40401, 40402, 40403}  # its codes for a subject, a version and a schema; any other 404 is no registry's
Schema = Any


def registry_url() -> str:
    """Return the URL of the registry in use, or more of them with commas between; empty if there is none."""
    return os.environ.get(VARIABLE, "")


def schema_registry() -> SchemaRegistry | None:
    """Return the registry in use, the same for the whole process; None if there is none.

    Raises ClientConfigError, also if packages are missing.
    """
    return _connected(url, config_path()) if (url := registry_url()) else None


@cache
def _connected(url: str, _config: str) -> SchemaRegistry:
    return SchemaRegistry(url, registry_settings())


class SchemaRegistry:
    """Registers schemas, and finds them. For all threads; each call waits, so none is for an event loop.

    `settings`: credentials and TLS, as confluent-kafka's SchemaRegistryClient names them. All that is asked raises
    RegistryUnreachable if no answer comes within a bounded time, and RegistryRefused if that is no.
    """

    def __init__(self, url: str, settings: dict[str, str]) -> None:
        if any(urlsplit(each).username for each in url.split(",")):
            raise ClientConfigError(
                "the URL of the schema registry has credentials in it; give them as "
                f"{REGISTRY}basic.auth.user.info=name:password in a file that --client-config names"
            )
        self.url = url
        self._known: dict[tuple[str, str], int] = {}  # by subject and text of the schema
        self._misses: dict[int, float] = {}  # id -> until when it is taken to be missing
        self._away = (0.0, "")  # until when it is taken to be away, and the error
        self._lock = threading.Lock()
        try:
            from confluent_kafka.schema_registry import Schema as Made
            from confluent_kafka.schema_registry import SchemaRegistryClient
            from confluent_kafka.schema_registry.error import SchemaRegistryError
        except ImportError as error:
            raise ClientConfigError(
                f"a schema registry needs the package {error.name}; install it with: "
                "pip install 'kafka-pipeline[registry]', or go without --registry"
            ) from None
        self._made, self._refusal = Made, SchemaRegistryError
        ours = {"timeout": TIMEOUT_S, "max.retries": RETRIES, "retries.wait.ms": WAIT_MS}
        ours["retries.max.wait.ms"] = WAIT_MAX_MS
        try:
            self._client = SchemaRegistryClient({"url": url} | settings | ours)
        except (ValueError, TypeError, OSError) as error:
            raise ClientConfigError(
                f"the schema registry {url} cannot be used: {error}; correct --registry, or the lines {REGISTRY}… of "
                "the file that --client-config names"
            ) from None

    def find(self, subject: str, schema: Schema) -> int | None:
        """Return the id that the subject has for this schema; None if it has not got it."""
        text = json.dumps(schema)
        if (subject, text) not in self._known:
            found = self._ask(f"to find {subject}", lambda: self._client.lookup_schema(subject, self._avro(text)))
            if found is None:
                return None
            self._known[subject, text] = int(found.schema_id)
        return self._known[subject, text]

    def register(self, subject: str, schema: Schema) -> int:
        """Return the id of this schema in the subject, made its newest version unless it is one of them.

        Raises SchemaError if the registry finds it incompatible with earlier ones.
        """
        text, what = json.dumps(schema), f"to register {subject}"
        made = self._ask(what, lambda: self._client.register_schema(subject, self._avro(text)))
        if made is None:
            raise self._unusable(what, "not found")
        self._known[subject, text] = int(made)
        return self._known[subject, text]

    def schema(self, schema_id: int) -> Schema | None:
        """Return the schema of that id; None if there is none. Raises SchemaError if it is no Avro schema by itself."""
        with self._lock:
            if self._misses.get(schema_id, 0) > time.monotonic():
                return None
        until_s, why = self._away
        if until_s > time.monotonic():
            raise RegistryUnreachable(why)
        try:
            found = self._ask(f"for schema id {schema_id}", lambda: self._client.get_schema(schema_id))
        except RegistryUnreachable as error:
            self._away = time.monotonic() + AWAY_S, str(error)
            raise
        if found is None:
            with self._lock:
                if len(self._misses) >= MISSES_MAX:
                    self._misses.clear()
                self._misses[schema_id] = time.monotonic() + MISS_S
            return None
        if found.schema_type not in (None, "AVRO") or found.references:
            what = "refers to schemas of other subjects" if found.references else f"is {found.schema_type}"
            raise SchemaError(
                f"schema id {schema_id} of {self.url} {what}; records can be read whose schema is Avro, in one piece"
            )
        return json.loads(found.schema_str)

    def _avro(self, text: str) -> Any:
        return self._made(text, "AVRO")

    def _ask(self, what: str, ask: Callable[[], Any]) -> Any:
        """Return the answer; None for "not found"."""
        try:
            return ask()
        except self._refusal as error:
            status, code, message = error.http_status_code, error.error_code, error.error_message
            if status == 404 and code in NOT_FOUND:
                return None
            if status in (409, 422):
                raise SchemaError(
                    f"the schema registry {self.url}, asked {what}, says: {message}; change the schema, or the "
                    "compatibility level that the registry has for that subject"
                ) from None
            if status in (401, 403):
                raise RegistryRefused(
                    f"the schema registry {self.url}, asked {what}, says {status}: {message}; give credentials that "
                    f"may do so, as {REGISTRY}basic.auth.user.info=name:password in a file that --client-config "
                    "names, or have somebody who may do it: pipeline schemas publish TOPOLOGY"
                ) from None
            if status == 429 or status >= 500:
                raise self._unreachable(what, f"{status}: {message}") from None
            raise self._unusable(what, f"{status}: {message}") from None
        except Exception as error:  # the client lets through what its HTTP library raises
            raise self._unreachable(what, f"{error or type(error).__name__}") from None

    def _unreachable(self, what: str, why: str) -> RegistryUnreachable:
        return RegistryUnreachable(
            f"the schema registry {self.url}, asked {what}, does not answer: {why}; start it, or correct --registry"
        )

    def _unusable(self, what: str, why: str) -> RegistryRefused:
        return RegistryRefused(
            f"{self.url}, asked {what}, says {why}, as no schema registry would; correct --registry: the URL of its "
            "interface for Confluent's clients"
        )
