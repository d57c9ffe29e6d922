"""UDP Encapsulation of IPsec ESP Packets (RFC 3948) in a flow of its own, without any IKE message.

The protocol in reports is ``esp``; what is inside is read by :mod:`analyzer.protocols.esp`.
"""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.heads import Direction
from analyzer.protocols import esp
from analyzer.wire import Reader

NAME = esp.NAME

probe = esp.encapsulated
facts = esp.facts


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    return esp.keepalive(reader) if reader.fence == 1 else esp.packet(reader, udp_encapsulated=True)
