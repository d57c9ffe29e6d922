"""Not written yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzer.heads import Direction, Head
from analyzer.messages import Facts, Item
from analyzer.wire import Reader

NAME = "tls"


def probe(head: Head) -> bool:
    return False


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    yield from ()


def facts(items: Sequence[Item]) -> Facts:
    return Facts()
