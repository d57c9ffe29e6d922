from __future__ import annotations

import pytest

from analyzer.heads import Direction
from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_dns import udp
from tests.protocols.test_ssh import head_of

CLIENT, SERVER = Direction
RESET = b"\x38clientid" + bytes(5)
ANSWER = b"\x40serverid\1" + bytes(4) + b"clientid" + bytes(4)
AUTHENTICATED = b"\x38clientid" + b"h" * 20 + bytes(13)


def framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


EXAMPLES = [
    udp((40000, 1195), (CLIENT, RESET), (SERVER, ANSWER), (CLIENT, b"\x48\0\0\1" + b"d" * 40)),
    udp((40000, 1194), (CLIENT, AUTHENTICATED), (SERVER, b"\x40" + b"w" * 50)),
    head_of(framed(RESET) + framed(b"\x20" + b"c" * 90), framed(ANSWER), (40000, 443)),
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("openvpn", ())
    assert to_json(found.facts) == {"packets": {"hard reset client v2": 1, "hard reset server v2": 1, "data v2": 1}}
    assert to_json(dissect(EXAMPLES[2]).facts) == {
        "packets": {"hard reset client v2": 1, "hard reset server v2": 1, "control": 1}
    }


@pytest.mark.parametrize("data", [RESET[:-1], AUTHENTICATED, b"\x38" + b"x" * 13, b"\x40" + RESET[1:]])
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(udp((40000, 5000), (CLIENT, data))).protocol is None


def test_answer_without_the_session_id_is_not_named() -> None:
    assert dissect(udp((40000, 5000), (CLIENT, AUTHENTICATED), (SERVER, b"\x40" + b"w" * 50))).protocol is None
