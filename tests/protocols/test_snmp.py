from __future__ import annotations

import pytest

from analyzer.heads import Direction
from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_dns import udp

CLIENT, SERVER = Direction
GET = (
    bytes.fromhex("302a020101")
    + b"\x04\x07hunter2"
    + bytes.fromhex("a01c02040000000102010002010030 0e300c06082b060102010101000500".replace(" ", ""))
)
RESPONSE = GET.replace(b"\xa0\x1c", b"\xa2\x1c")
V3 = bytes.fromhex("3014020103300d020101020300ffe30401040201030400")[:22]

EXAMPLES = [udp((40000, 161), (CLIENT, GET), (SERVER, RESPONSE)), udp((40000, 162), (CLIENT, V3))]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("snmp", ())
    assert to_json(found.facts) == {"versions": ["2c"], "pdus": {"get-request": 1, "response": 1}}
    assert "hunter2" not in repr((found.items, found.facts))
    assert to_json(dissect(EXAMPLES[1]).facts) == {"versions": ["3"]}


@pytest.mark.parametrize("data", [GET[:-1], b"\x30\x03\2\1\2", GET.replace(b"\xa0\x1c", b"\xb0\x1c"), b"\x30"])
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(udp((40000, 161), (CLIENT, data))).protocol is None
