"""Text from packets that is safe to print.

Everything that a packet, a file or a path says passes :func:`decode_text` or :func:`escape_text` before it is shown:
terminals and browsers then act on none of it.
"""

from __future__ import annotations

import re

SafeText = str
"""Type of a field whose text is made of this program's own words and of the registries that it knows.

It may also hold text from packets, such as a host name within a sentence. Text of any other type is a name: an
anonymised audit replaces it (:mod:`analyzer.export.anonymize`), and so it does with every new field until its type
is declared to be this one.
"""

INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
"""Characters without a glyph that :meth:`str.isprintable` accepts: fillers, variation selectors, the blank Braille
pattern (Unicode Standard Annex 44, property Default_Ignorable_Code_Point)."""


def is_printable(text: str) -> bool:
    """Whether every character is visible, and visible where it stands.

    Controls (C0, C1, DEL), line and paragraph separators, bidirectional formatting, zero-width characters,
    surrogates, private-use and unassigned code points are not.
    """
    return text.isprintable() and (text.isascii() or not INVISIBLE.search(text))


def escape_text(text: str) -> str:
    """The text with every unprintable character written as a Python escape, such as ``\\x1b`` or ``\\u202e``."""
    if is_printable(text):
        return text
    return "".join(char if is_printable(char) else char.encode("unicode_escape").decode("ascii") for char in text)


def decode_text(raw: bytes, limit: int = 256) -> str:
    """Bytes as printable text: UTF-8 where it decodes, everything else escaped.

    Shows at most ``limit`` bytes; an ellipsis stands for the rest.
    """
    if raw.isascii() and len(raw) <= limit:
        text = raw.decode("ascii")
        if text.isprintable():
            return text
    shown = escape_text(raw[:limit].decode("utf-8", errors="backslashreplace"))
    return shown + "…" if len(raw) > limit else shown
