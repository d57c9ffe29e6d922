from __future__ import annotations

import pytest

from analyzer.heads import Direction
from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_dns import udp
from tests.protocols.test_ssh import head_of

CLIENT, SERVER = Direction
OLD = b"<34>Oct 11 22:14:15 gw su: password hunter2"
NEW = b"<165>1 2026-11-22T06:37:00Z gw app - - - hunter2"

EXAMPLES = [
    udp((40000, 514), (CLIENT, OLD), (CLIENT, NEW), (CLIENT, b"<13>anything")),
    head_of(OLD + b"\n" + NEW + b"\n", b"", (40000, 6514)),
    head_of(str(len(NEW)).encode() + b" " + NEW, b"", (40000, 601)),
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("syslog", ())
    assert to_json(found.facts) == {"severities": {"critical": 1, "notice": 2}, "facilities": [1, 4, 20]}
    assert "hunter2" not in repr((found.items, found.facts))
    for head in EXAMPLES[1:]:
        assert dissect(head).protocol == "syslog"


@pytest.mark.parametrize("data", [b"<13>anything", b"<999>Oct 11", b"<a>1 2026", b""])
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(udp((40000, 5000), (CLIENT, data))).protocol is None
