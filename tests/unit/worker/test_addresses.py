"""Where a worker listens, and what it tells others to call."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.adapters.kafka.owners import address, client_id
from pipeline.cli import main
from pipeline.engine.loop.identity import Identity
from pipeline.errors import PipelineError, UnfitAddress
from pipeline.worker.addresses import Address, advertised_address, check_reach, listening_address
from pipeline.worker.listening import bind, choose_port
from pipeline.worker.settings import WorkerSettings


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="the machine has no IPv6")


def settings(host: str, port: int = 0, advertise: str | None = None) -> WorkerSettings:
    return WorkerSettings(bootstrap="", state_dir=Path(), host=host, port=port, advertise=advertise)


@pytest.mark.parametrize(
    ("host", "advertise", "url"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:6066"),
        ("localhost", None, "http://localhost:6066"),
        ("::1", None, "http://[::1]:6066"),
        ("[::1]", None, "http://[::1]:6066"),
        ("0:0:0:0:0:0:0:1", None, "http://[::1]:6066"),
        ("0.0.0.0", "worker-1", "http://worker-1:6066"),
        ("0.0.0.0", "worker_1.shop.svc.cluster.local.:80", "http://worker_1.shop.svc.cluster.local.:80"),
        ("::", "[2001:db8::7]:80", "http://[2001:db8::7]:80"),
        ("::", "2001:db8::7", "http://[2001:db8::7]:6066"),
        ("::", "[2001:db8::7]", "http://[2001:db8::7]:6066"),
        ("fe80::1%lo", "10.0.0.7", "http://10.0.0.7:6066"),
        ("127.0.0.1", "10.0.0.7:1", "http://10.0.0.7:1"),
    ],
)
def test_what_others_are_told_to_call(host: str, advertise: str | None, url: str) -> None:
    assert settings(host, advertise=advertise).advertised(6066).url == url
    assert address(client_id("users", url)) == url


def test_a_worker_that_is_called_elsewhere_has_another_identity() -> None:
    """The coordinator would keep the address of a static member that comes back."""
    told = [settings("127.0.0.1", advertise=each).advertised(6066) for each in (None, "a", "b", "a:80", "::1")]
    names = [str(Identity("users-node-0", address.number, "ab12")) for address in told]
    assert names[0] == "users-node-0-6066-ab12"
    assert len(set(names)) == len(names)
    for name in names:
        parsed = Identity.parse(name)
        assert parsed is not None
        assert (str(parsed), parsed.name, parsed.home) == (name, "users-node-0", "ab12")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "0", "0.0", "0x0", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"])
def test_all_addresses_are_none_that_others_can_call(host: str) -> None:
    with pytest.raises(UnfitAddress, match=r"none that others can call; .*--advertise \S+$"):
        advertised_address(None, listening_address(host, 6066))
    for advertise in (host, f"[{host}]:80" if ":" in host and host[0] != "[" else f"{host}:80"):
        with pytest.raises(UnfitAddress, match="none that others can call; give one"):
            advertised_address(advertise, Address("127.0.0.1", 6066))


def test_a_zone_is_known_to_this_machine_only() -> None:
    with pytest.raises(UnfitAddress, match="zone that only this machine knows"):
        advertised_address(None, listening_address("fe80::1%eth0", 6066))


@pytest.mark.parametrize(
    "advertise",
    [
        *("", ":80", "http://a:80", "a:", "a:b", "a:0", "a:65536", "a:80:80", "a b", "a/b", "u@a", "a\n", "é", "-a"),
        *("[::1", "::1]", "[::1]:", "[::1]:0", "[a]:80", "[]", "::g", "1.2.3.4:99999", "fe80::1%eth0", "a" * 254),
    ],
)
def test_what_is_no_address_to_tell(advertise: str) -> None:
    with pytest.raises(UnfitAddress, match="--advertise"):
        advertised_address(advertise, Address("127.0.0.1", 6066))


@pytest.mark.parametrize("host", ["", " ", "http://127.0.0.1", "127.0.0.1:80", "[::1]:80", "a/b", "::g", "a\0b", "é"])
def test_what_is_no_host_to_listen_on(host: str) -> None:
    with pytest.raises(UnfitAddress, match=r"--host .* is no address"):
        listening_address(host, 0)


@pytest.mark.parametrize("port", [0, 6066])
@pytest.mark.parametrize("host", ["256.1.1.1", "no.such.host.invalid", "a..b", "a" * 64 + ".com", "203.0.113.7"])
def test_a_host_that_is_not_this_machine_is_told_and_the_port_is_not_to_blame(host: str, port: int) -> None:
    with pytest.raises(PipelineError, match=f"cannot listen on {host}:{port}: .*; choose another --host") as raised:
        choose_port(settings(host, port), [])
    assert "--port" not in str(raised.value)


def test_a_port_that_this_user_may_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pipeline.worker.listening._bind", refused)
    with pytest.raises(PipelineError, match=r"cannot listen on 127\.0\.0\.1:80: Permission denied; choose a --port of"):
        choose_port(settings("127.0.0.1", 80), [])


@needs_ipv6
def test_ipv6_is_listened_on() -> None:
    bound = choose_port(settings("::1"), [])
    assert bound.held.getsockname()[:2] == ("::1", bound.port)
    with pytest.raises(PipelineError, match=rf"cannot listen on \[::1\]:{bound.port}: .*choose another --port"):
        choose_port(settings("::1", bound.port), [])
    bound.close()


def test_of_the_addresses_of_a_name_one_that_the_machine_has_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [("203.0.113.7", 0), ("127.0.0.1", 0)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    bound = bind("shop", 0)
    assert bound.held.getsockname()[0] == "127.0.0.1"
    bound.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost", "no.such.invalid"])
def test_this_machine_alone_needs_no_token(host: str) -> None:
    check_reach(Address(host), None, no_token=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "203.0.113.7", "2001:db8::7", "::ffff:203.0.113.7"])
def test_what_other_machines_can_call_needs_one_or_is_told_not_to(host: str) -> None:
    with pytest.raises(UnfitAddress, match=r"pipeline token new NAME --file FILE, .*; or, .* --no-token$"):
        check_reach(Address(host), None, no_token=False)
    check_reach(Address(host), Path("tokens"), no_token=False)
    check_reach(Address(host), None, no_token=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "--advertise"),
        (["--host", ""], "'--host': it is empty"),
        (["--host", "http://127.0.0.1"], "its port is that of --port"),
        (["--advertise", "0.0.0.0:80"], "none that others can call"),
        (["--advertise", "a:80", "--processes", "2"], "the port of --advertise name one process"),
        (["--host", "::", "--processes", "2"], "--advertise"),
        (["--host", "::", "--advertise", "a"], "--token-file FILE; or, if something in front of it"),
        (["--host", "0.0.0.0", "--advertise", "a", "--processes", "2"], "they would need no access token"),
        (["--token-file", "tokens", "--no-token"], "--no-token and --token-file do not go together"),
        (["--token-file", "/no/such/tokens"], "pipeline token new NAME --file /no/such/tokens"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options: list[str], says: str) -> None:
    done = CliRunner().invoke(main, ["worker", "topologies", *options])
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output
