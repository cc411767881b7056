"""The addresses of a worker: where it listens, and what it tells others to call."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from pipeline.errors import UnfitAddress

NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
PORT_MAX = 65_535
LOCAL = "127.0.0.1"


class Address(NamedTuple):
    """A host, an IPv6 address without brackets; and a port, 0 if it is not said."""

    host: str
    port: int = 0

    @property
    def url(self) -> str:
        """The address as others call it."""
        return f"http://{self}"

    @property
    def number(self) -> int:
        """A number that no other address is likely to have; the port, for the address that workers have by default."""
        return self.port if self.host == LOCAL else self.port << 32 | crc32(str(self).encode())

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listening_address(host: str, port: int) -> Address:
    """Return what `--host` and `--port` say. Raises UnfitAddress."""
    return Address(_host("--host", host.removeprefix("[").removesuffix("]") if host[:1] == "[" else host), port)


def advertised_address(text: str | None, listening: Address) -> Address:
    """Return what `--advertise` says, or without it, the address that is listened on. Raises UnfitAddress.

    The port is 0 if it is that of the listening address.
    """
    if text is None:
        if _is_wildcard(listening.host):
            raise UnfitAddress(
                f"--host {listening.host} stands for all addresses of this machine, and is none that others can call; "
                f"say which they are to call: --advertise {socket.gethostname() or 'HOST'}"
            )
        if "%" in listening.host:
            raise UnfitAddress(
                f"--host {listening.host} has a zone that only this machine knows; say what others are to call: "
                "--advertise HOST"
            )
        return Address(listening.host)
    address = _parsed(text)
    if _is_wildcard(address.host):
        raise UnfitAddress(
            f"--advertise {text} stands for all addresses of a machine, and is none that others can call; give one"
        )
    return address


def check_reach(listening: Address, token_file: Path | None, *, no_token: bool) -> None:
    """Raise UnfitAddress if other machines can call that address, and need no access token for it."""
    if token_file is None and not no_token and not _is_loopback(listening.host):
        raise UnfitAddress(
            f"--host {listening.host} can be called from other machines, and they would need no access token; make "
            "one with: pipeline token new NAME --file FILE, and give the worker --token-file FILE; or, if something in "
            "front of it lets in only whom it knows, --no-token"
        )


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine alone, whatever its address. One that is not found is no danger."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True
    for place in found:
        address = ip_address(str(place[4][0]).partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        if not (mapped or address).is_loopback:
            return False
    return True


def _parsed(text: str) -> Address:
    """Parse HOST, HOST:PORT, [IPv6] or [IPv6]:PORT."""
    found = re.fullmatch(r"\[([^\[\]]*:[^\[\]]*)\](?::([0-9]{1,5}))?|([^:\[\]]*)(?::([0-9]{1,5}))?", text)
    if found is None:
        return Address(_host("--advertise", text))  # an IPv6 address without brackets has no port
    host = _host("--advertise", found[1] if found[1] is not None else found[3])
    port = found[2] or found[4]
    if port is not None and not 0 < int(port) <= PORT_MAX:
        raise UnfitAddress(f"--advertise {text!r:.100}: {port} is no port that others can call; give 1 to {PORT_MAX}")
    return Address(host, int(port or 0))


def _host(option: str, host: str) -> str:
    """Return a name or an address. Raises UnfitAddress if it is neither."""
    try:
        if ":" in host and (option == "--host" or "%" not in host):  # others do not have this machine's zones
            return str(IPv6Address(host))
    except ValueError:
        pass
    else:
        if NAME.fullmatch(host):
            return host
    wanted = "HOST or HOST:PORT, IPv6 such as [2001:db8::7]:6066"
    if option == "--host":
        wanted = "a name or an address of this machine, IPv6 such as ::1; its port is that of --port"
    raise UnfitAddress(f"{option} {host!r:.100} is no address; give {wanted}")


def _is_wildcard(host: str) -> bool:
    """Whether a host is a way to write 0.0.0.0 or ::."""
    try:
        numeric = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    address = ip_address(str(numeric[0][4][0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address.is_unspecified or (mapped is not None and mapped.is_unspecified)
