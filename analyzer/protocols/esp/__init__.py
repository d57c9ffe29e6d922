"""IP Encapsulating Security Payload (RFC 4303): the header in clear, and what the encrypted payload still shows.

``packets`` reads a packet, ``associations`` groups packets by SA and states the facts, ``cleartext`` detects payloads
that are not encrypted, ``cipher`` infers the cipher from packet lengths. ``udp`` is the same protocol inside UDP
(RFC 3948); :mod:`analyzer.protocols.ike` reads the ESP packets of a UDP flow that also carries IKE.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from analyzer.heads import Direction, Head
from analyzer.protocols.esp.associations import (
    Association,
    EspFacts,
    SentPacket,
    cipher_of_flow,
    facts,
    readable_associations,
)
from analyzer.protocols.esp.cipher import AES_CBC, TDES_CBC
from analyzer.protocols.esp.cleartext import Cleartext
from analyzer.protocols.esp.packets import (
    NAT_TRAVERSAL_PORT,
    EspPacket,
    EspPayload,
    NatKeepalive,
    read_keepalive,
    read_packet,
)
from analyzer.wire import Reader

__all__ = [
    "AES_CBC",
    "NAME",
    "NAT_TRAVERSAL_PORT",
    "TDES_CBC",
    "Association",
    "Cleartext",
    "EspFacts",
    "EspPacket",
    "EspPayload",
    "NatKeepalive",
    "SentPacket",
    "cipher_of_flow",
    "dissect",
    "facts",
    "probe",
    "read_keepalive",
    "read_packet",
    "readable_associations",
]

NAME: Final = "esp"


def probe(head: Head) -> bool:
    return head.transport == "esp" and bool(head.datagrams)


def dissect(reader: Reader, direction: Direction) -> Iterator[object]:
    return read_keepalive(reader) if reader.fence == 1 else read_packet(reader, udp_encapsulated=False)
