"""Community ID: the identifier of a flow that Zeek, Suricata, Security Onion and Arkime share.

Version 1 with seed 0 (https://github.com/corelight/community-id-spec). Both directions of a flow have the same id.
"""

from __future__ import annotations

import hashlib
import socket
from binascii import b2a_base64
from collections.abc import Callable

from analyzer.conversations import Conversation
from analyzer.heads import Direction

SCTP = 132
NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "esp": 50, "icmpv6": 58}

COUNTERPARTS = {
    "icmp": {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17},
    "icmpv6": {128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130, 139: 140, 140: 139}
    | {144: 145, 145: 144},
}
"""ICMP message type → the type of its reply."""


def community_id(conversation: Conversation) -> str | None:
    """The id of a conversation's first flow; ``None`` if the capture lacks a part of it (ICMP type, SCTP ports)."""
    return community_ids(conversation)(conversation.originator.port)


def community_ids(conversation: Conversation) -> Callable[[int | None], str | None]:
    """The id of each flow of a conversation, by the originator's port: nothing else of it differs between them."""
    transport = conversation.transport
    number = NUMBERS.get(transport) or int(transport.removeprefix("ip-"))
    source, destination = packed(conversation.originator.address), packed(conversation.responder.address)
    if transport in ("tcp", "udp") and conversation.originator.port is None:
        return lambda _: None  # a flow that stands for several
    if transport in ("tcp", "udp"):
        service = (conversation.responder.port or 0).to_bytes(2, "big")
        if source != destination:
            front, back = (b"", service) if source < destination else (service, b"")
            base = b"\0\0" + min(source, destination) + max(source, destination) + bytes((number, 0)) + front
            return lambda port: digest(base + (port or 0).to_bytes(2, "big") + back)
        return lambda port: identifier(number, source, destination, (port or 0, conversation.responder.port or 0))
    only: str | None
    if transport in COUNTERPARTS:
        first = next((datagram for datagram in conversation.head.datagrams if len(datagram.data) >= 2), None)
        if first is None:
            return lambda _: None
        if first.direction is Direction.RESPONDER:
            source, destination = destination, source
        kind, code = first.data[:2]
        counterpart = COUNTERPARTS[transport].get(kind)
        ports = (kind, code if counterpart is None else counterpart)
        only = identifier(number, source, destination, ports, ordered=counterpart is None)
    else:
        only = None if number == SCTP else identifier(number, source, destination)
    return lambda _: only


def identifier(
    number: int, source: bytes, destination: bytes, ports: tuple[int, int] | None = None, ordered: bool = False
) -> str:
    """The id of protocol number, addresses, and ports if the protocol has them.

    ``ordered``: source and destination are not exchanged, for ICMP messages without a reply.
    """
    one, two = (source, *(ports or ())[:1]), (destination, *(ports or ())[1:])
    if one > two and not ordered:
        one, two = two, one
    tail = b"".join(port.to_bytes(2, "big") for port in (*one[1:], *two[1:]))
    return digest(b"\0\0" + one[0] + two[0] + bytes((number, 0)) + tail)


def digest(data: bytes) -> str:
    """Version and hash of the packed tuple."""
    hashed = hashlib.sha1(data, usedforsecurity=False)
    return "1:" + b2a_base64(hashed.digest(), newline=False).decode("ascii")


def packed(address: str) -> bytes:
    """An address in network byte order."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
