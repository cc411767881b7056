"""The entity tags of a conditional request (RFC 9110, sections 8.8.3 and 13.1), as values."""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.errors import BadRequest

# An opaque tag may hold a comma. A whole number without quotes is a version, as curl's users write it.
TAG = re.compile(r'[ \t]*(?:(?:W/)?"([^\x00-\x20"\x7f]*)"|([0-9]+))[ \t]*(?:,[ \t,]*|$)')


class Tags(NamedTuple):
    """The tags of If-Match or If-None-Match. `is_any`: it is `*`, which stands for whatever there is.

    Weak tags count as their strong ones, also in If-Match: here every tag changes with each change of what it is for,
    and proxies that compress mark tags as weak.
    """

    names: tuple[str, ...] = ()
    is_any: bool = False

    def has(self, tag: str | None) -> bool:
        """Whether the tag is among them. `tag`: None if there is nothing that could have one."""
        return tag is not None and (self.is_any or tag in self.names)

    def __str__(self) -> str:
        return "*" if self.is_any else ", ".join(self.names)


def parse_tags(name: str, text: str) -> Tags:
    """Parse the value of the header `name`: `*`, or tags with commas between. Raises BadRequest."""
    if text.strip(" \t") == "*":
        return Tags(is_any=True)
    names: list[str] = []
    at = len(text) - len(text.lstrip(" \t,"))
    while at < len(text):
        found = TAG.match(text, at)
        if found is None:
            break
        names.append(found[1] if found[1] is not None else found[2])
        at = found.end()
    if at < len(text) or not names:
        raise BadRequest(f'{name} must be * or tags such as "7", with commas between them, not {text!r:.100}')
    return Tags(tuple(names))
