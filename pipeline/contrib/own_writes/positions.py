"""The positions of what a browser has written, as they travel in a cookie and in a header. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

from pipeline.errors import InvalidToken
from pipeline.model import Token
from pipeline.model.records.token import furthest

HEADER = "X-Pipeline-Position"  # as workers call it
COOKIE = "pipeline_position"
COOKIE_S = 3_600  # a table that has not folded a write after an hour is no longer waited for
COOKIE_BYTES_MAX = 2_000  # browsers take 4,096 with name and attributes

COMMA = quote(",")

Place = tuple[str, int]  # topic, by its declared name, and partition
Positions = Mapping[Place, int]


class OwnWrites:
    """What one request has brought along, and has written since. `cookies`: the values of its cookies of our name.

    A value that is no token is left out, and replaced with the response. `header`: a client's own token. Raises
    InvalidToken if that is none.
    """

    def __init__(self, cookies: Iterable[str] = (), header: str = "") -> None:
        self.asked: Positions = Token(header).positions
        self.written: dict[Place, int] = {}  # the least recently written first
        self._has_changed = False
        for cookie in cookies:
            self._take(cookie)

    def _take(self, cookie: str) -> None:
        try:
            if len(cookie) > COOKIE_BYTES_MAX:
                raise InvalidToken("it is longer than any that was set")
            self.written = furthest(self.written, Token(unquote(cookie)).positions)
        except InvalidToken:
            self._has_changed = True

    def note(self, token: str | None) -> None:
        """Add the position of something that this request has written; None if it is not known."""
        for place, offset in Token(token or "").positions.items():
            self.written[place] = max(offset, self.written.pop(place, 0))
            self._has_changed = True

    def drop(self, places: Iterable[Place]) -> None:
        """Forget positions that are none here."""
        for place in places:
            if self.written.pop(place, None) is not None:
                self._has_changed = True

    @property
    def token(self) -> Token:
        """What a later read has to contain: the header of the response; empty if that is nothing."""
        return Token.of(furthest(self.asked, self._fitting()))

    @property
    def cookie(self) -> str | None:
        """The value for the browser's cookie, empty if it is to be deleted; None if it is to stay as it is."""
        return _text(self._fitting()) if self._has_changed else None

    def _fitting(self) -> dict[Place, int]:
        """Return as many of the positions as a cookie may hold, the latest."""
        kept: list[tuple[Place, int]] = []
        room = COOKIE_BYTES_MAX
        for place, offset in reversed(self.written.items()):
            room -= len(_text({place: offset})) + len(COMMA)
            if room < 0:
                break
            kept.append((place, offset))
        return dict(reversed(kept))


def _text(positions: Positions) -> str:
    return quote(",".join(f"{topic}/{n}@{offset}" for (topic, n), offset in positions.items()), safe="")


def set_cookie(name: str, value: str, *, path: str, secure: bool) -> str:
    """Return the header Set-Cookie for a value of `OwnWrites.cookie`. `path`: the application's, as browsers see it."""
    lifetime = COOKIE_S if value else 0
    attributes = f"Path={quote(path.rstrip('/')) or '/'}; Max-Age={lifetime}; HttpOnly; SameSite=Lax"
    return f"{name}={value}; {attributes}" + ("; Secure" if secure else "")
