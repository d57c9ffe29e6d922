"""Writes JSON documents: outer objects indented, list elements such as flows and findings on one line each.

That suits ``grep`` and ``diff``, and takes half the space of full indentation. Shared by all reports in JSON, with the
JSON of captures and frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

from analyzer.capture import CaptureFile
from analyzer.heads import Frame
from analyzer.messages import to_json
from analyzer.reports.times import iso
from analyzer.safetext import is_printable
from analyzer.version import __version__

SCHEMA_VERSION = "1"
"""Changes when a key changes its meaning or is removed, not when keys are added."""

ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


# -- parts of several reports ----------------------------------------------------------------------------------


def heading() -> dict[str, Any]:
    """The first keys of every report: schema version, name and version of this program."""
    return {"schema_version": SCHEMA_VERSION, "tool": line({"name": "tpe-pcap", "version": __version__})}


def capture_json(capture: CaptureFile) -> dict[str, Any]:
    return {
        "path": capture.path,
        "format": capture.format,
        "packets": capture.packets,
        "bytes": capture.bytes,
        "first": None if capture.first is None else iso(capture.first, capture.digits),
        "last": None if capture.last is None else iso(capture.last, capture.digits),
        "problems": capture.problems,
        "facts": to_json(capture.facts),
    }


def frame_json(frame: Frame) -> dict[str, int]:
    return {"capture": frame.capture, "number": frame.number}


# -- writing ---------------------------------------------------------------------------------------------------


class Line:
    """A value already encoded on one line, so that a million flows are never held as objects."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Lines:
    """Elements of a list, already encoded on one line each."""

    __slots__ = ("texts",)

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts


def line(value: object) -> Line:
    """A value on one line."""
    return Line(encode(value))


def lines(values: Iterable[object]) -> Iterator[Line]:
    """A list with each element on a line of its own."""
    return map(line, values)


def document(value: Mapping[str, object]) -> Iterator[str]:
    """The pieces of a JSON text that ends with a line feed, indented down to each :class:`Line`."""
    yield from pieces_of(value, "\n")
    yield "\n"


def pieces_of(value: object, indent: str) -> Iterator[str]:
    """The JSON of a value, where iterators are lists; ``indent`` is a line feed and the enclosing indentation."""
    deeper = indent + " "
    if isinstance(value, Line):
        yield value.text
    elif isinstance(value, Mapping) and value:
        separator = "{"
        for name, part in value.items():
            yield f"{separator}{deeper}{encode(name)}: "
            yield from pieces_of(part, deeper)
            separator = ","
        yield indent + "}"
    elif isinstance(value, (list, Iterator)):
        separator = "["
        for part in value:
            yield separator + deeper
            if isinstance(part, Lines):
                yield ("," + deeper).join(part.texts)
            else:
                yield from pieces_of(part, deeper)
            separator = ","
        yield "[]" if separator == "[" else indent + "]"
    else:
        yield encode(value)


def encode(value: object) -> str:
    """JSON text of a value on one line, with unprintable characters escaped.

    These are controls that JSON permits, invisible characters, and the lone surrogates in which Python keeps the bytes
    of a path that is not UTF-8.
    """
    text = ENCODER.encode(value)
    if is_printable(text):
        return text
    return "".join(char if is_printable(char) else encode_basestring_ascii(char)[1:-1] for char in text)
