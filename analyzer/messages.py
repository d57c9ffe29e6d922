"""The results of dissectors: messages with their place in the capture, and the facts that follow from them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

from analyzer.heads import Direction, Frame

M = TypeVar("M")


class Item(NamedTuple):
    """A message and its place in the capture."""

    message: object
    """A frozen dataclass of its protocol's module."""
    direction: Direction
    frame: Frame
    """The frame that carries the message's first byte."""
    time: int
    """Capture time of that frame, nanoseconds since the epoch."""
    offset: int
    """Offset of the message's first byte in its stream or datagram."""


class Facts:
    """Base of the facts of a protocol: a frozen dataclass whose public fields are the JSON keys of the report.

    A field that is ``None`` or empty was not seen in the packets and does not appear in the JSON. Fields that begin
    with an underscore are for checks only.
    """

    __slots__ = ()


def to_json(value: object) -> Any:
    """A fact as JSON: dataclasses become objects, enums their values, bytes hexadecimal; empty fields are omitted."""
    kind: Any = type(value)
    if kind in PLAIN:
        return value
    if kind is dict:
        parts = value.items()  # type: ignore[attr-defined]
        return {str(key): part if type(part) in PLAIN else to_json(part) for key, part in parts}
    if kind is tuple:
        return [part if type(part) in PLAIN else to_json(part) for part in value]  # type: ignore[attr-defined]
    names = public_fields(kind)
    if names is not None:
        return {name: to_json(part) for name in names if (part := getattr(value, name)) not in EMPTY}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(part) for part in value]
    return value


PLAIN: Final = frozenset({str, int, bool})
"""Types that JSON has, too. They are tested first, because most values are of these types."""


@cache
def public_fields(kind: type) -> tuple[str, ...] | None:
    """Names of the fields of a dataclass that reports show; ``None`` for any other class."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(field.name for field in dataclasses.fields(kind) if not field.name.startswith("_"))


EMPTY: Final[tuple[object, ...]] = (None, "", (), {})
"""Values of a fact that was not seen. ``False`` and 0 are facts."""


def messages(items: Iterable[Item], kind: type[M]) -> list[tuple[Item, M]]:
    """The items whose message is a ``kind``, with that message. No class of messages derives from another."""
    return [(item, item.message) for item in items if type(item.message) is kind]
