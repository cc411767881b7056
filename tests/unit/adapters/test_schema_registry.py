"""A schema registry by URL: what it is asked, what its answers mean, and that none is waited for without end."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.adapters import schema_registry as module
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.schema_registry import RETRIES, SchemaRegistry, schema_registry
from pipeline.errors import ClientConfigError, RegistryRefused, RegistryUnreachable, SchemaError
from tests.helpers.fake_registry import FakeRegistry

SCHEMA = {"type": "record", "name": "A", "fields": [{"name": "x", "type": "long", "doc": "ü"}]}
OTHER = {"type": "record", "name": "A", "fields": []}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAIT_MS", "WAIT_MAX_MS"):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(module, "TIMEOUT_S", 2.0)
    monkeypatch.delenv("PIPELINE_CLIENT_CONFIG", raising=False)


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    made = FakeRegistry()
    yield made
    made.close()


def test_what_is_registered_is_found_by_subject_and_by_id(server: FakeRegistry) -> None:
    writer, reader = SchemaRegistry(server.url, {}), SchemaRegistry(server.url, {})
    assert reader.find("a.event-value", SCHEMA) is None
    number = writer.register("a.event-value", SCHEMA)
    assert writer.register("a.event-value", SCHEMA) == number
    assert reader.find("a.event-value", SCHEMA) == number
    assert reader.find("a.event-value", OTHER) is None
    assert reader.find("b.event-value", SCHEMA) is None
    assert reader.schema(number) == SCHEMA


def test_what_it_has_said_once_is_not_asked_again(server: FakeRegistry) -> None:
    number = server.add("a-value", json.dumps(SCHEMA))
    asked = SchemaRegistry(server.url, {})
    for _ in range(3):
        assert asked.find("a-value", SCHEMA) == number
        assert asked.schema(number) == SCHEMA
        assert asked.schema(99) is None
    assert sorted(server.requests) == ["GET /schemas/ids/1", "GET /schemas/ids/99", "POST /subjects/a-value"]


def test_an_id_that_was_missing_is_asked_for_again_after_a_while(
    server: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MISS_S", 0.0)
    asked = SchemaRegistry(server.url, {})
    assert asked.schema(1) is None
    server.add("a-value", json.dumps(SCHEMA))
    assert asked.schema(1) == SCHEMA


def test_ids_that_are_missing_do_not_pile_up(server: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MISSES_MAX", 3)
    asked = SchemaRegistry(server.url, {})
    for number in range(10):
        assert asked.schema(number) is None
        assert len(asked._misses) <= 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_that_may_change_is_asked_for_again(server: FakeRegistry, status: int) -> None:
    server.faults = [(status, {"error_code": status, "message": "busy"})] * RETRIES
    assert SchemaRegistry(server.url, {}).register("a-value", SCHEMA) == 1
    assert len(server.requests) == RETRIES + 1


def test_a_registry_that_stays_busy_is_given_up(server: FakeRegistry) -> None:
    server.always = 503, {"error_code": 50301, "message": "no leader"}
    with pytest.raises(RegistryUnreachable, match=rf"{server.url}, asked to register a-value, .*503: no leader; start"):
        SchemaRegistry(server.url, {}).register("a-value", SCHEMA)
    assert len(server.requests) == RETRIES + 1


def test_a_registry_that_is_not_there_is_named_with_the_cure() -> None:
    server = FakeRegistry()
    server.close()
    with pytest.raises(RegistryUnreachable, match=rf"{server.url}, asked for schema id 7, does not answer: .*refused"):
        SchemaRegistry(server.url, {}).schema(7)


def test_a_registry_that_is_away_is_not_asked_for_ids_all_the_time(
    server: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.always = 503, {"error_code": 50301, "message": "no leader"}
    asked = SchemaRegistry(server.url, {})
    for _ in range(3):  # as a lane does that stands before a record
        with pytest.raises(RegistryUnreachable, match="no leader"):
            asked.schema(7)
    assert len(server.requests) == RETRIES + 1
    monkeypatch.setattr(module.time, "monotonic", lambda now=module.time.monotonic: now() + module.AWAY_S)
    server.always = None
    assert asked.schema(7) is None


def test_the_next_url_is_asked_if_the_first_does_not_answer(server: FakeRegistry) -> None:
    gone = FakeRegistry()
    gone.close()
    assert SchemaRegistry(f"{gone.url},{server.url}", {}).register("a-value", SCHEMA) == 1


@pytest.mark.parametrize("said", [{"error_code": 404, "message": "HTTP 404 Not Found"}, "<html>no such page</html>"])
def test_what_is_no_registry_is_not_taken_for_an_empty_one(server: FakeRegistry, said: Any) -> None:
    server.always = 404, said
    for ask in (
        lambda asked: asked.find("a-value", SCHEMA),
        lambda asked: asked.register("a-value", SCHEMA),
        lambda asked: asked.schema(7),
    ):
        with pytest.raises(RegistryRefused, match="as no schema registry would; correct --registry"):
            ask(SchemaRegistry(server.url, {}))


def test_a_page_instead_of_an_answer_is_no_schema(server: FakeRegistry) -> None:
    server.always = 200, "<html>hello</html>"
    with pytest.raises(RegistryUnreachable, match="does not answer: "):
        SchemaRegistry(server.url, {}).schema(7)


@pytest.mark.parametrize("status", [409, 422])
def test_an_incompatible_schema_is_named_with_what_the_registry_says(server: FakeRegistry, status: int) -> None:
    server.always = status, {"error_code": 42201, "message": "x lacks a default"}
    with pytest.raises(
        SchemaError, match="register a-value, says: x lacks a default; change the schema, or the compat"
    ):
        SchemaRegistry(server.url, {}).register("a-value", SCHEMA)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_named_with_the_cure(server: FakeRegistry, status: int) -> None:
    server.always = status, {"error_code": status, "message": "denied"}
    with pytest.raises(RegistryRefused, match=rf"{status}: denied; .*schema.registry.basic.auth.user.info=name:passw"):
        SchemaRegistry(server.url, {}).register("a-value", SCHEMA)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"schemaType": "PROTOBUF"}, "is PROTOBUF"),
        ({"references": [{"name": "B", "subject": "b-value", "version": 1}]}, "refers to schemas of other subjects"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_by_its_id(
    server: FakeRegistry, more: dict[str, Any], why: str
) -> None:
    number = server.add("a-value", "what it says", **more)
    with pytest.raises(SchemaError, match=rf"schema id {number} of {server.url} {why}"):
        SchemaRegistry(server.url, {}).schema(number)


# --- the connection ---------------------------------------------------------------------------------------------------


def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    file = tmp_path / "client.properties"
    file.write_text("\n".join(lines))
    monkeypatch.setenv("PIPELINE_CLIENT_CONFIG", str(file))


def test_without_a_url_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_REGISTRY", raising=False)
    assert schema_registry() is None


def test_the_file_of_the_cluster_has_its_credentials_too(
    server: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config(tmp_path, monkeypatch, "sasl.username=orders", "schema.registry.basic.auth.user.info=orders:a:word")
    monkeypatch.setenv("PIPELINE_REGISTRY", server.url)
    registry = schema_registry()
    assert registry is not None
    assert registry is schema_registry()
    registry.register("a-value", SCHEMA)
    assert server.credentials == {"Basic " + base64.b64encode(b"orders:a:word").decode()}
    assert connection("kafka:9092") == {"sasl.username": "orders", "bootstrap.servers": "kafka:9092"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("schema.registry.url=http://a", "schema.registry.url.* is no setting allowed there; .*schema.registry.ssl"),
        ("schema.registry.timeout=7", "is no setting allowed there"),
        ("schema.registry.basic.auth.user.info=orders", "cannot be used: basic.auth.user.info must be in the form"),
        ("schema.registry.ssl.truststore.location=/a", "cannot be used: Unrecognized properties: ssl.truststore"),
        ("schema.registry.ssl.ca.location=/nowhere.pem", "cannot be used: .*No such file"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, why: str
) -> None:
    config(tmp_path, monkeypatch, line)
    monkeypatch.setenv("PIPELINE_REGISTRY", f"http://127.0.0.1:1/{why}")
    with pytest.raises(ClientConfigError, match=why):
        schema_registry()


def test_credentials_do_not_stand_in_the_url() -> None:
    with pytest.raises(ClientConfigError, match=r"give them as schema\.registry\.basic") as raised:
        SchemaRegistry("http://me:secret@a", {})
    assert "secret" not in str(raised.value)


def test_a_certificate_is_checked_against_the_authority_of_the_file(tmp_path: Path) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(private)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server = FakeRegistry(tls)
    try:
        known = SchemaRegistry(server.url, {"ssl.ca.location": str(tmp_path / "ca.pem")})
        assert known.register("a-value", SCHEMA) == 1
        with pytest.raises(RegistryUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            SchemaRegistry(server.url, {}).register("a-value", SCHEMA)
    finally:
        server.close()


def test_what_is_missing_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("confluent_kafka.schema_registry", "authlib"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "authlib", None)
    with pytest.raises(
        ClientConfigError, match=r"needs the package authlib.*; install it .*kafka-pipeline\[registry\]"
    ):
        SchemaRegistry("http://a", {})


def test_who_uses_no_registry_does_not_import_its_client() -> None:
    code = "import sys, pipeline.worker.main, pipeline.client, pipeline.cli; "
    code += "print([name for name in sys.modules if name.startswith(('confluent_kafka.schema', 'authlib'))])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
