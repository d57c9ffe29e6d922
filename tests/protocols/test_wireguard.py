from __future__ import annotations

import pytest

from analyzer.heads import Direction
from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_dns import udp

CLIENT, SERVER = Direction
INITIATION, RESPONSE = b"\1\0\0\0" + b"x" * 144, b"\2\0\0\0" + b"y" * 88
DATA = b"\4\0\0\0" + b"z" * 44

EXAMPLES = [
    udp((51820, 51820), (CLIENT, INITIATION), (SERVER, RESPONSE), (CLIENT, DATA)),
    udp((40000, 51820), (CLIENT, DATA)),
    udp((40000, 443), (SERVER, b"\3\0\0\0" + bytes(60))),
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("wireguard", ())
    assert to_json(found.facts) == {
        "messages": {"handshake initiation": 1, "handshake response": 1, "transport data": 1}
    }


@pytest.mark.parametrize("data", [INITIATION[:-1], b"\1\0\0\1" + INITIATION[4:], DATA, b""])
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(udp((40000, 5000), (CLIENT, data))).protocol is None
