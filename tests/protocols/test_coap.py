from __future__ import annotations

import pytest

from analyzer.heads import Direction
from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_dns import udp

CLIENT, SERVER = Direction
REGISTER = b"\x42\2\0\7tk" + b"\xb2rd" + b"\x47ep=gw01" + b"\xff</1/0>hunter2"
CREATED = b"\x62\x41\0\7tk" + b"\x82rd" + b"\x011"
GET = b"\x40\1\0\1" + b"\xb7sensors" + b"\x0d\x0btemperature1234567890123456"[:26]

EXAMPLES = [
    udp((40000, 5683), (CLIENT, REGISTER), (SERVER, CREATED)),
    udp((40000, 5000), (CLIENT, REGISTER), (SERVER, CREATED)),
    udp((40000, 5683), (CLIENT, GET)),
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("coap", ())
    assert to_json(found.facts) == {
        "methods": {"POST": 1},
        "codes": {"2.01": 1},
        "paths": ["/rd"],
        "service": "LwM2M registration",
    }
    assert "hunter2" not in repr((found.items, found.facts))


@pytest.mark.parametrize("data", [REGISTER, b"\x42\2\0", b"\x82" + REGISTER[1:], b"\x40\1\0\1\xf0"])
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(udp((40000, 5000), (CLIENT, data))).protocol is None
