from __future__ import annotations

import struct

import pytest

from analyzer.heads import Direction
from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_dns import udp

CLIENT, SERVER = Direction


def record(kind: int, body: bytes, version: int = 0xFEFD, epoch: int = 0) -> bytes:
    return struct.pack(">BHH6sH", kind, version, epoch, bytes(6), len(body)) + body


def handshake(kind: int, body: bytes = bytes(40)) -> bytes:
    size = len(body).to_bytes(3, "big")
    return struct.pack(">B3sH3s3s", kind, size, 0, bytes(3), size) + body


CLIENT_HELLO = record(22, handshake(1), 0xFEFF)
EXAMPLES = [
    udp(
        (40000, 5684),
        (CLIENT, CLIENT_HELLO),
        (SERVER, record(22, handshake(3), 0xFEFF)),
        (SERVER, record(22, handshake(2)) + record(22, handshake(14, b""))),
        (CLIENT, record(20, b"\1") + record(22, bytes(48), epoch=1)),
        (CLIENT, record(23, bytes(60), epoch=1)),
    )
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("dtls", ())
    assert to_json(found.facts) == {
        "versions": ["DTLS 1.0", "DTLS 1.2"],
        "messages": {
            "ClientHello": 1,
            "HelloVerifyRequest": 1,
            "ServerHello": 1,
            "ServerHelloDone": 1,
            "ChangeCipherSpec": 1,
            "Handshake": 1,
            "application data": 1,
        },
    }


def test_data_without_its_handshake_are_named_on_the_port_of_a_service() -> None:
    data = record(23, bytes(60), epoch=1)
    assert dissect(udp((40000, 5684), (CLIENT, data))).protocol == "dtls"
    assert dissect(udp((40000, 5685), (CLIENT, data))).protocol is None


@pytest.mark.parametrize(
    "data",
    [
        record(22, handshake(1), 0x0303),
        record(22, handshake(11)),
        record(25, handshake(1)),
        CLIENT_HELLO[:11] + b"\xff\xff" + CLIENT_HELLO[13:],
    ],
    ids=["version", "no hello", "type", "length"],
)
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(udp((40000, 40001), (CLIENT, data))).protocol is None
