"""Community ID: one flow's name in every tool that looks at the network (Zeek, Suricata, Security Onion, Arkime).

Version 1 with seed 0, after https://github.com/corelight/community-id-spec. Both directions of a flow have one id.
"""

from __future__ import annotations

import hashlib
import socket
from binascii import b2a_base64
from functools import lru_cache

from analyzer.conversations import Conversation
from analyzer.heads import Direction

SCTP = 132
NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "esp": 50, "icmpv6": 58}

COUNTERPARTS = {
    "icmp": {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17},
    "icmpv6": {128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130, 139: 140, 140: 139}
    | {144: 145, 145: 144},
}
"""ICMP message type → the type that answers it."""


def community_id(conversation: Conversation) -> str | None:
    """The id; ``None`` where the capture does not show what it is made of (ICMP without a type, SCTP's ports)."""
    transport = conversation.transport
    number = NUMBERS.get(transport) or int(transport.removeprefix("ip-"))
    source, destination = conversation.originator, conversation.responder
    if transport in ("tcp", "udp"):
        return digest(number, source.address, destination.address, (source.port or 0, destination.port or 0))
    if transport in COUNTERPARTS:
        first = next((datagram for datagram in conversation.head.datagrams if len(datagram.data) >= 2), None)
        if first is None:
            return None
        if first.direction is Direction.RESPONDER:
            source, destination = destination, source
        kind, code = first.data[:2]
        counterpart = COUNTERPARTS[transport].get(kind)
        if counterpart is None:
            return digest(number, source.address, destination.address, (kind, code), ordered=True)
        return digest(number, source.address, destination.address, (kind, counterpart))
    if number == SCTP:
        return None
    return digest(number, source.address, destination.address)


def digest(
    number: int, source: str, destination: str, ports: tuple[int, int] | None = None, ordered: bool = False
) -> str:
    """The id of a tuple: protocol number, addresses, and ports where the protocol has them.

    ``ordered``: the tuple has one direction only and stays as it is.
    """
    left, right = packed(source), packed(destination)
    if ports is None:
        tail = b""
        swap = left > right
    else:
        ends = ports[0].to_bytes(2, "big"), ports[1].to_bytes(2, "big")
        swap = (left, ends[0]) > (right, ends[1]) and not ordered
        tail = ends[1] + ends[0] if swap else ends[0] + ends[1]
    addresses = right + left if swap else left + right
    hashed = hashlib.sha1(b"\0\0" + addresses + bytes((number, 0)) + tail, usedforsecurity=False)
    return "1:" + b2a_base64(hashed.digest(), newline=False).decode("ascii")


@lru_cache(maxsize=1 << 14)
def packed(address: str) -> bytes:
    """An address in network byte order."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
