"""IKE messages to test with: real ones of strongSwan 6.0.1, and builders."""

from __future__ import annotations

import struct

from analyzer.heads import Datagram, Direction, Frame, Head
from analyzer.protocols import Dissection, dissect_as, ike

ORIGINATOR, RESPONDER = Direction

# strongSwan 6.0.1, own recording: ike=aes128-sha256-ecp256,aes128-sha384-ecp384,aes256-sha512-ecp521
INIT_REQUEST = bytes.fromhex(
    "0cacfbd6a5133f550000000000000000212022080000000000000168220000880200002c010100040300000c0100000c800e0080"
    "030000080300000c030000080200000500000008040000130200002c020100040300000c0100000c800e0080030000080300000d"
    "030000080200000600000008040000140000002c030100040300000c0100000c800e0100030000080300000e0300000802000007"
    "000000080400001528000048001300008efa39e0dda071e34ad9a3c3df4e4e20531947d1728d6d1b8a3416d9b30dbc441ccbe9d3"
    "4efa5df490cf908bdb8030ba1bc5e3d5af2c524181f1ce14cbe789d3290000245dda461c849326d0dcfdb3f689b89aafe8a6746c"
    "697ba6c32b5953d7566b7f0d2900001c00004004edc4275698aa90598256233895574c1f955f91152900001c0000400547b94449"
    "1d9c707b3dcae1e9f636a636d1eb02ff290000080000402e290000100000402f00020003000400050000000800004016"
)
INIT_RESPONSE = bytes.fromhex(
    "0cacfbd6a5133f5583bfd4ba6392f1ac212022200000000000000131220000300000002c010100040300000c0100000c800e0080"
    "030000080300000c030000080200000500000008040000132800004800130000e3d985c0500a7f16522b0ee8d694ed1f6bc80dac"
    "9b263bda962fa2c1053c9b6ee5375f51681173c4253ea0290368b1248f2b2ded040b4f332c49af2bbe92187729000024e3df571f"
    "8e0716d16d111b100846e2d6be279179e259d104ada7dc38c445739a2900001c00004004c004f87cf126ec74b0599dd3eec090f7"
    "4c52ffa92600001c000040052ed3776c73248edf770faa7302bec9039aaf5b8c29000019047567bd0d6cf837a1f7dbb7e0824854"
    "18817c597b290000080000402e290000100000402f000200030004000529000008000040220000000800004014"
)
SPI_I, SPI_R = INIT_REQUEST[:8], INIT_RESPONSE[8:16]
ESP_BYTES = bytes.fromhex("fbf1cccf00000001") + bytes(range(100))
KEEPALIVE = b"\xff"


# -- builders -----------------------------------------------------------------------------------------------------


def message(
    exchange: int,
    *payloads: tuple[int, bytes],
    version: int = 0x20,
    flags: int = 0x08,
    spi_i: bytes = SPI_I,
    spi_r: bytes = bytes(8),
    message_id: int = 0,
    next_payload: int = 0,
) -> bytes:
    """An IKE message with payloads given as (type, body); ``next_payload``: of the last of them."""
    body = b""
    for index, (_, content) in enumerate(payloads):
        following = payloads[index + 1][0] if index + 1 < len(payloads) else next_payload
        body += struct.pack(">BBH", following, 0, len(content) + 4) + content
    first = payloads[0][0] if payloads else 0
    return spi_i + spi_r + struct.pack(">BBBBII", first, version, exchange, flags, message_id, 28 + len(body)) + body


def proposal(number: int, *transforms: tuple[int, int, int | None], last: bool = True) -> bytes:
    """An IKEv2 proposal of transforms given as (type, id, key length)."""
    body = b""
    for index, (kind, identifier, bits) in enumerate(transforms):
        attribute = b"" if bits is None else struct.pack(">HH", 0x800E, bits)
        more = 3 if index + 1 < len(transforms) else 0
        body += struct.pack(">BBHBBH", more, 0, 8 + len(attribute), kind, 0, identifier) + attribute
    return struct.pack(">BBHBBBB", 0 if last else 2, 0, 8 + len(body), number, 1, 0, len(transforms)) + body


def notify(kind: int, data: bytes = b"") -> tuple[int, bytes]:
    return 41, struct.pack(">BBH", 0, 0, kind) + data


AES128, AES256, SHA256, PRF256, ECP256 = (1, 12, 128), (1, 12, 256), (3, 12, None), (2, 5, None), (4, 19, None)
ALLOWED = (AES128, SHA256, PRF256, ECP256)
"""A proposal that row i1 lists."""


def isakmp_sa(*transforms: tuple[tuple[int, int], ...]) -> tuple[int, bytes]:
    """An SA payload of IKEv1 with one proposal; its transforms are given as (attribute type, value) pairs."""
    body = b""
    for index, attributes in enumerate(transforms):
        raw = b"".join(struct.pack(">HH", 0x8000 | kind, value) for kind, value in attributes)
        raw += struct.pack(">HHI", 12, 4, 86400)  # a life duration, in the long format
        more = 3 if index + 1 < len(transforms) else 0
        body += struct.pack(">BBHBBH", more, 0, 8 + len(raw), index + 1, 1, 0) + raw
    header = struct.pack(">BBHBBBB", 0, 0, 8 + len(body), 1, 1, 0, len(transforms))
    return 1, struct.pack(">II", 1, 1) + header + body


def offer(*transforms: tuple[int, int, int | None]) -> bytes:
    """An IKE_SA_INIT request."""
    return message(34, (33, proposal(1, *(transforms or ALLOWED))))


def choice(*transforms: tuple[int, int, int | None]) -> bytes:
    """An IKE_SA_INIT response."""
    return message(34, (33, proposal(1, *(transforms or ALLOWED))), flags=0x20, spi_r=SPI_R)


def encrypted(exchange: int, message_id: int, flags: int = 0x08, spi_i: bytes = SPI_I, size: int = 64) -> bytes:
    """A marked message with only an encrypted payload; flags 0x08: from the initiator, 0x20: a response."""
    return bytes(4) + message(exchange, (46, bytes(size)), spi_i=spi_i, spi_r=SPI_R, message_id=message_id, flags=flags)


def fragment(number: int, total: int, message_id: int = 1, flags: int = 0x08) -> bytes:
    """A marked fragment of an IKE_AUTH message."""
    body = struct.pack(">HH", number, total) + bytes(64)
    return bytes(4) + message(35, (53, body), spi_r=SPI_R, message_id=message_id, flags=flags)


def head_of(*sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)) -> Head:
    """A head of UDP datagrams, a millisecond apart and in frames from 1 on."""
    datagrams = tuple(
        Datagram(direction, data, len(data), Frame(0, index + 1), index * 1_000_000)
        for index, (direction, data) in enumerate(sent)
    )
    return Head("udp", ports, datagrams=datagrams)


def dissection_of(*sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)) -> Dissection:
    return dissect_as(ike, head_of(*sent, ports=ports))


def facts_of(*sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)) -> ike.IkeFacts:
    found = dissection_of(*sent, ports=ports).facts
    assert isinstance(found, ike.IkeFacts)
    return found


def sa_of(*sent: tuple[Direction, bytes], ports: tuple[int, int] = (500, 500)) -> ike.SaFacts:
    (sa,) = facts_of(*sent, ports=ports).sas
    return sa


# -- messages -----------------------------------------------------------------------------------------------------

MARKED_AUTH = bytes(4) + message(35, (46, bytes(64)), spi_r=SPI_R, message_id=1, next_payload=35)
FRAGMENT = bytes(4) + message(
    35, (53, struct.pack(">HH", 1, 2) + bytes(64)), spi_r=SPI_R, message_id=1, next_payload=35
)
AGGRESSIVE = (
    message(
        4,
        isakmp_sa(((1, 7), (14, 128), (2, 2), (4, 2), (3, 1)), ((1, 5), (2, 1), (4, 5), (3, 1))),
        (4, bytes(128)),
        (10, bytes(20)),
        (5, b"\x02\x11\x01\xf4station"),
        (13, bytes.fromhex("afcad71368a1f1c96b8696fc77570100")),
        version=0x10,
        flags=0,
    ),
    message(
        4,
        isakmp_sa(((1, 7), (14, 128), (2, 2), (4, 2), (3, 1))),
        (4, bytes(128)),
        (20, bytes(20)),
        version=0x10,
        flags=0,
        spi_r=SPI_R,
    ),
)
QUICK_MODE = SPI_I + SPI_R + struct.pack(">BBBBII", 8, 0x10, 32, 1, 7, 28 + 48) + bytes(48)
REDIRECT_DATA = b"\x01\x04" + bytes((192, 0, 2, 7)) + bytes(32)
HYBRID = (*ALLOWED, (6, 36, None), (6, 0, None), (7, 37, None))
ISAKMP_FRAGMENT = message(2, (132, b"\x00\x01\x01\x00" + bytes(40)), version=0x10, flags=0)
EXAMPLES = [
    head_of((ORIGINATOR, INIT_REQUEST), (RESPONDER, INIT_RESPONSE)),
    head_of(
        (ORIGINATOR, message(34, (33, proposal(1, *ALLOWED)), notify(16406))),
        (RESPONDER, message(34, notify(16390, bytes(20)), flags=0x20)),
        (ORIGINATOR, message(34, notify(16390, bytes(20)), (33, proposal(1, *ALLOWED)))),
        (RESPONDER, message(34, notify(17, b"\x00\x14"), flags=0x20)),
        (RESPONDER, message(34, notify(16407, REDIRECT_DATA), (40, bytes(32)), flags=0x20)),
        (ORIGINATOR, message(34, notify(16408, b"\x03\x0btpe.example"), (33, proposal(1, *HYBRID)))),
        (ORIGINATOR, message(43, (46, bytes(64)), spi_r=SPI_R, message_id=1, next_payload=34)),
    ),
    head_of((ORIGINATOR, ISAKMP_FRAGMENT), (RESPONDER, ISAKMP_FRAGMENT)),
    head_of(
        (ORIGINATOR, FRAGMENT),
        (ORIGINATOR, MARKED_AUTH),
        (ORIGINATOR, ESP_BYTES),
        (RESPONDER, ESP_BYTES),
        (ORIGINATOR, KEEPALIVE),
        ports=(4500, 4500),
    ),
    head_of((ORIGINATOR, AGGRESSIVE[0]), (RESPONDER, AGGRESSIVE[1]), (ORIGINATOR, QUICK_MODE)),
]
