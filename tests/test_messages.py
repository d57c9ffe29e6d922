"""Facts as JSON, and messages by kind."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from analyzer.heads import Direction, Frame
from analyzer.messages import Facts, Item, messages, to_json


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    password: str | None = None
    _private: str = "for the checks"


@dataclass(frozen=True, slots=True)
class Some(Facts):
    number: int
    flag: bool
    colour: Colour
    raw: bytes
    many: tuple[Inner, ...]
    counts: dict[int, int]
    nothing: str | None = None
    blank: str = ""
    none: tuple[str, ...] = ()
    _secret: str = "hunter2"


SOME = Some(0, False, Colour.RED, b"\x01\xff", (Inner("a"), Inner("b")), {7: 1})


def test_facts_become_plain_json_in_the_order_of_their_fields() -> None:
    assert json.dumps(to_json(SOME)) == json.dumps(
        {
            "number": 0,
            "flag": False,
            "colour": "red",
            "raw": "01ff",
            "many": [{"name": "a"}, {"name": "b"}],
            "counts": {"7": 1},
        }
    )


def test_private_and_empty_fields_are_omitted() -> None:
    shown = json.dumps(to_json(SOME))
    for hidden in ("secret", "hunter2", "private", "password", "nothing", "blank", "none"):
        assert hidden not in shown


def test_messages_of_one_kind_are_returned_with_their_items() -> None:
    items = [Item(message, Direction.ORIGINATOR, Frame(0, 1), 0, 0) for message in (Inner("a"), Colour.RED, Inner("b"))]
    assert [(item, message.name) for item, message in messages(items, Inner)] == [(items[0], "a"), (items[2], "b")]
