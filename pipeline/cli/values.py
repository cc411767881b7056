"""The types of options: what a slip of the hand gives is refused where it is read, and by the option's name."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from pipeline.client.wire.plain import plain

EMPTY = "it is empty; give a value, or leave it out (has a variable of the shell no value?)"
SECONDS_MAX = 31_536_000.0  # a year
# As librdkafka reads it: an address may have a protocol, and need not have a port.
PROTOCOL = r"((?i:PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)://)?"
ADDRESS = re.compile(PROTOCOL + r"(\[[0-9A-Fa-f:.%a-z]+\]|[^\s:/\[\],]+)(:(?P<port>[0-9]{1,5}))?")

Given = click.Parameter | None
Context = click.Context | None


class FullText(click.types.StringParamType):
    """Text that is not empty, and that UTF-8 can hold."""

    def convert(self, value: Any, param: Given, ctx: Context) -> str:
        text = str(super().convert(value, param, ctx))
        if not text:
            self.fail(EMPTY, param, ctx)
        return _encodable(self, text, param, ctx)


class TopologyName(FullText):
    """The topology of a command that needs one."""

    def get_missing_message(self, param: click.Parameter, ctx: Context = None) -> str:
        return 'Give a package, a module or a .py file, or have pipeline.toml say it: topology = "…"'


class AnyText(click.types.StringParamType):
    """Text that may be empty, and that UTF-8 can hold."""

    def convert(self, value: Any, param: Given, ctx: Context) -> str:
        return _encodable(self, str(super().convert(value, param, ctx)), param, ctx)


def _encodable(kind: click.ParamType, text: str, param: Given, ctx: Context) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        kind.fail(f"{plain(text)!r:.100} is not UTF-8, as all text here is; correct its encoding", param, ctx)
    return text


class FilePath(click.Path):
    """A path that is not empty: that would be the current directory."""

    def convert(self, value: Any, param: Given, ctx: Context) -> Any:
        if value == "":
            self.fail(EMPTY, param, ctx)
        try:
            Path(value).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError until Python 3.12
            self.fail(f"{plain(str(value))!r:.200} is no usable path: {plain(str(error))}", param, ctx)
        return super().convert(value, param, ctx)


class Seconds(click.FloatRange):
    """A number of seconds that one can wait for; NaN and infinity are none."""

    def __init__(self, least: float = 0.0, most: float = SECONDS_MAX) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: Given, ctx: Context) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number of seconds from {self.min:g} to {self.max:g}", param, ctx)
        return number


class Bootstrap(click.ParamType):
    """Addresses of brokers: host:port, several with commas between them."""

    name = "text"

    def convert(self, value: Any, param: Given, ctx: Context) -> str:
        text = str(value).strip()
        for each in text.split(","):
            found = ADDRESS.fullmatch(each.strip())
            if found is None or int(found["port"] or 1) not in range(1, 65_536):
                shown = f"{plain(each)!r:.100} is no address of a broker" if each else EMPTY
                self.fail(f"{shown}; give host:port, such as localhost:9092, or several with commas", param, ctx)
        return _encodable(self, text, param, ctx)


def duration_s(text: str) -> float | None:
    """Return the seconds of a duration such as 90s, 15m, 2h or 7d; None if it is none."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", text.strip())
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]] if found else None


class Moment(click.ParamType):
    """A time in the past, or how long ago it was; in milliseconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: Given, ctx: Context) -> int:
        from pipeline.client.wire.as_of import parse_time
        from pipeline.errors import InvalidMoment

        if isinstance(value, int):
            return value
        text = str(value).strip()
        if not text.isdigit() and (seconds := duration_s(text)) is not None:
            return int(1000 * (time.time() - seconds))
        try:
            return parse_time(text)
        except InvalidMoment as error:
            self.fail(f"{error}; or how long ago it was: 90s, 15m, 2h or 7d", param, ctx)


class RegistryUrl(click.ParamType):
    """URLs of a schema registry, with commas between them."""

    name = "text"

    def convert(self, value: Any, param: Given, ctx: Context) -> str:
        text = str(value).strip()
        for each in text.split(","):
            shown = f"{plain(each)!r:.100} is no URL of a schema registry" if each else EMPTY
            try:
                url = urlsplit(each.strip())
                usable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
            except ValueError:
                usable = False
            if not usable:
                self.fail(f"{shown}; give one such as http://localhost:8081, or several with commas", param, ctx)
            if url.username or url.password:
                why = "it has credentials, which every list of processes would show"
                self.fail(f"{why}; give them in the file that --client-config names", param, ctx)
        return _encodable(self, text, param, ctx)


class TokenReference(click.ParamType):
    """Where an access token is, never the token: `$NAME`, a variable of the environment, or `@FILE`."""

    name = "text"

    def convert(self, value: Any, param: Given, ctx: Context) -> str:
        text = str(value)
        if re.fullmatch(r"\$[A-Za-z_][A-Za-z0-9_]*|@.+", text, re.DOTALL) is None:  # not shown: it may be a token
            self.fail("give $NAME for a variable that has the token, or @FILE; the file is no place for it", param, ctx)
        return text


FULL_TEXT, ANY_TEXT = FullText(), AnyText()


def strict(command: click.Command) -> click.Command:
    """Have the command, and those below it, refuse text that is empty or not UTF-8. Return it."""
    for param in command.params:
        if type(param.type) is click.types.StringParamType:
            param.type = FULL_TEXT
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            strict(inner)
    return command
