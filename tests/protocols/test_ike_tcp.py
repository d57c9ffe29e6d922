from __future__ import annotations

import pytest

from analyzer.messages import to_json
from analyzer.protocols import dissect
from tests.protocols.test_ssh import head_of


def framed(content: bytes) -> bytes:
    return (len(content) + 2).to_bytes(2, "big") + content


EXAMPLES = [
    head_of(
        b"IKETCP" + framed(bytes(4) + b"i" * 60) + framed(b"spi1" + b"e" * 60) + framed(b"\xff"),
        framed(bytes(4) + b"r" * 50),
        (40000, 4500),
    )
]


def test_facts() -> None:
    found = dissect(EXAMPLES[0])
    assert (found.protocol, found.parse_errors) == ("ike-tcp", ())
    assert to_json(found.facts) == {"messages": {"IKE": 2, "ESP": 1, "keepalive": 1}}


@pytest.mark.parametrize("data", [b"IKETC", b"IKEUDP", b""])
def test_other_content_is_not_named(data: bytes) -> None:
    assert dissect(head_of(data, b"", (40000, 4500))).protocol is None
