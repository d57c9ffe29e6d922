from __future__ import annotations

import pytest

from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_ssh import head_of


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes((kind, len(body))) + body


CONNECT = packet(0x10, text(b"MQTT") + b"\4\xc2\0\x3c" + text(b"gw-7076ff") + text(b"hunter1") + text(b"hunter2"))
CONNECT_5 = packet(0x10, text(b"MQTT") + b"\5\2\0\x3c" + b"\5\x11\0\0\0\1" + text(b"gw"))
PUBLISH = packet(0x30, text(b"gateway/7076ff/event/up") + b"hunter2")
SUBSCRIBE = packet(0x82, b"\0\1" + text(b"gateway/#") + b"\0")
CONNACK = packet(0x20, b"\0\0")

EXAMPLES = [
    head_of(CONNECT + SUBSCRIBE + PUBLISH + b"\xc0\0", CONNACK + packet(0x90, b"\0\1\0") + b"\xd0\0", (40000, 1883)),
    head_of(CONNECT_5, packet(0x20, b"\0\x87\0"), (40000, 1884)),
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("mqtt", ())
    facts = to_json(found.facts)
    assert facts.pop("packets") == {
        "CONNECT": 1, "SUBSCRIBE": 1, "PUBLISH": 1, "PINGREQ": 1, "CONNACK": 1, "SUBACK": 1, "PINGRESP": 1,
    }  # fmt: skip
    assert facts == {
        "version": "3.1.1",
        "client_id": "gw-7076ff",
        "credentials": True,
        "return_code": 0,
        "topics": ["gateway/#", "gateway/7076ff/…"],
    }
    assert "hunter" not in repr((found.items, found.facts))


def test_version_5() -> None:
    facts = to_json(dissect(EXAMPLES[1]).facts)
    assert (facts["version"], facts["client_id"], facts["return_code"]) == ("5.0", "gw", 0x87)


@pytest.mark.parametrize("data", [b"\x10\x20\0\4MQTX\4", b"\x10\xff\xff\xff\xff\0\4MQTT\4", b"\x10\x0c\0\4MQTT\7"])
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(head_of(data, b"", (40000, 1883))).protocol is None
