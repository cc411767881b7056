"""Text of users on terminals and in logs: nothing in it is obeyed, and nothing is hidden."""

from __future__ import annotations

import re

# Control characters (C0, DEL, C1), line and paragraph separators, what turns the direction of writing or takes no
# width, and halves of surrogate pairs. The joiners of emoji and of Indic scripts stay: they belong to what is seen.
OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
KNOWN = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def plain(text: str, keep: str = "") -> str:
    """Return `text` with each character that a terminal would obey or hide as an escape, such as `\\x1b`.

    `keep`: such characters that stay, as the line breaks of a traceback.
    """
    return OBEYED.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def plain_json(text: str) -> str:
    """Return JSON text with these characters as JSON's own escapes; it means what it meant."""
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(character: str) -> str:
    number = ord(character)
    return KNOWN.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
