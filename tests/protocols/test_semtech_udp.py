from __future__ import annotations

import pytest

from analyzer.heads import Direction
from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_dns import udp

CLIENT, SERVER = Direction
EUI = bytes.fromhex("7076fffffe00aa10")
PUSH = b"\2\1\2\0" + EUI + b'{"rxpk":[{"tmst":1,"data":"hunter2"}],"stat":{"rxnb":1}}'
PULL, PULL_ACK = b"\2\3\4\2" + EUI, b"\2\3\4\4"
PULL_RESP, TX_ACK = b'\2\5\6\3{"txpk":{"imme":true}}', b"\2\5\6\5" + EUI

EXAMPLES = [
    udp(
        (40000, 1700),
        (CLIENT, PUSH),
        (SERVER, b"\2\1\2\1"),
        (CLIENT, PULL),
        (SERVER, PULL_ACK),
        (SERVER, PULL_RESP),
        (CLIENT, TX_ACK),
    ),
    udp((40000, 1680), (CLIENT, PULL), (SERVER, PULL_ACK)),
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert found.protocol == "semtech-udp"
    assert to_json(found.facts) == {
        "versions": [2],
        "messages": {"PUSH_DATA": 1, "PUSH_ACK": 1, "PULL_DATA": 1, "PULL_ACK": 1, "PULL_RESP": 1, "TX_ACK": 1},
        "gateways": ["70:76:ff:ff:fe:00:aa:10"],
        "objects": {"rxpk": 1, "stat": 1, "txpk": 1},
    }
    assert "hunter2" not in repr((found.items, found.facts))


@pytest.mark.parametrize("data", [PULL, b"\2\3\4\4", b"\3" + PUSH[1:], b"\2\1\2\0" + EUI + b"{}", bytes(12)])
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(udp((40000, 1700), (CLIENT, data))).protocol is None
