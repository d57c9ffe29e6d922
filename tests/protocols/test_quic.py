from __future__ import annotations

import pytest

from analyzer.heads import Direction
from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_dns import udp

CLIENT, SERVER = Direction


def long_header(first: int, version: int, size: int) -> bytes:
    return (bytes((first,)) + version.to_bytes(4, "big") + b"\x08abcdefgh\x04ijkl").ljust(size, b"x")


INITIAL, HANDSHAKE = long_header(0xC3, 1, 1200), long_header(0xE5, 1, 300)
EXAMPLES = [
    udp((40000, 443), (CLIENT, INITIAL), (SERVER, HANDSHAKE), (CLIENT, b"\x41" + b"s" * 30)),
    udp((40000, 443), (CLIENT, long_header(0xD3, 0x6B3343CF, 1250)), (SERVER, long_header(0x80, 0, 40))),
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("quic", ())
    assert to_json(found.facts) == {"versions": ["1"], "packets": {"Initial": 1, "Handshake": 1, "1-RTT": 1}}
    assert to_json(dissect(EXAMPLES[1]).facts) == {
        "versions": ["2"],
        "packets": {"Initial": 1, "version negotiation": 1},
    }


@pytest.mark.parametrize(
    "data", [INITIAL[:900], long_header(0xC3, 7, 1200), b"\xc3\0\0\0\1\x15" + bytes(1200), b"\x41" * 1200]
)
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(udp((40000, 443), (CLIENT, data))).protocol is None
