from __future__ import annotations

import socket
import struct

import pytest

from analyzer.heads import Direction, Head
from analyzer.messages import to_json
from analyzer.protocols import dhcp6, dissect, dissect_as
from analyzer.protocols.dhcp6 import Dhcp6Facts
from analyzer.wire import Cause
from tests.protocols.test_dns import udp

CLIENT, SERVER = bytes.fromhex("000100012b0000007076ff00aa10"), bytes.fromhex("000300010200c0ffee01")


def option(code: int, data: bytes) -> bytes:
    return struct.pack(">HH", code, len(data)) + data


def message(kind: int, *options: bytes, transaction: int = 0x123456) -> bytes:
    return bytes((kind,)) + transaction.to_bytes(3, "big") + b"".join(options)


def address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


LEASE = option(3, bytes(12) + option(5, address("2001:db8:30::10") + struct.pack(">II", 3000, 4000)))
SOLICIT = message(1, option(1, CLIENT), option(3, bytes(12)), option(6, b"\0\x17"), option(8, b"\0\0"))
OFFERED = (option(1, CLIENT), option(2, SERVER), LEASE, option(23, address("2001:db8:30::53")))
ADVERTISE, REPLY = message(2, *OFFERED), message(7, *OFFERED)
REQUEST = message(3, option(1, CLIENT), option(2, SERVER), LEASE, option(17, b"hunter2"))
PREFIX = struct.pack(">IIB", 100, 200, 56) + address("2001:db8:100::")
RELAYED = bytes((12, 0)) + address("2001:db8:30::1") + address("fe80::10") + option(9, SOLICIT)
REFUSED = message(7, option(1, CLIENT), option(2, b"\0\2\0\0\1\2x"), option(13, b"\0\2no addresses"))


def head_of(*messages: bytes, ports: tuple[int, int] = (546, 547)) -> Head:
    return udp(ports, *((Direction(message[0] in (2, 7)), message) for message in messages))


EXAMPLES = [head_of(SOLICIT, ADVERTISE, REQUEST, REPLY), head_of(RELAYED), head_of(REFUSED)]


def facts_of(*messages: bytes) -> Dhcp6Facts:
    facts = dissect(head_of(*messages)).facts
    assert isinstance(facts, Dhcp6Facts)
    return facts


def test_facts_of_a_lease() -> None:
    dissection = dissect(EXAMPLES[0])
    assert (dissection.protocol, dissection.parse_errors) == ("dhcp", ())
    assert to_json(dissection.facts) == {
        "messages": {"SOLICIT": 1, "ADVERTISE": 1, "REQUEST": 1, "REPLY": 1},
        "client_mac": "70:76:ff:00:aa:10",
        "requested": ["2001:db8:30::10"],
        "offered": ["2001:db8:30::10"],
        "servers": ["02:00:c0:ff:ee:01"],
        "lease_seconds": 4000,
        "dns_servers": ["2001:db8:30::53"],
    }
    assert "hunter2" not in repr(dissection)


def test_facts_of_a_relayed_message() -> None:
    facts = facts_of(RELAYED)
    assert facts.messages == {"RELAY-FORW": 1, "SOLICIT": 1}
    assert facts.relays == ("2001:db8:30::1",)
    assert facts.client_mac == "70:76:ff:00:aa:10"


def test_facts_of_a_refusal_and_of_a_prefix() -> None:
    facts = facts_of(REFUSED, message(7, option(25, bytes(12) + option(26, PREFIX))))
    assert facts.status == ("NoAddrsAvail",)
    assert facts.servers == ("00020000010278",)
    assert facts.offered == ("2001:db8:100::/56",)


def test_relays_without_end_are_malformed() -> None:
    nested = SOLICIT
    for _ in range(10):
        nested = bytes((12, 0)) + bytes(32) + option(9, nested)
    (error,) = dissect_as(dhcp6, head_of(nested)).parse_errors
    assert (error.anomaly.cause, error.anomaly.reason) == (Cause.MALFORMED, "more than 8 relay agents")


@pytest.mark.parametrize(
    "head",
    [
        head_of(SOLICIT, ports=(5460, 5470)),
        head_of(SOLICIT + b"\0"),
        head_of(b"\x63" + SOLICIT[1:]),
        head_of(bytes(range(64))),
    ],
)
def test_other_content_is_not_named(head: Head) -> None:
    assert dissect(head).protocol is None


def test_junk_first_does_not_hide_the_rest() -> None:
    dissection = dissect(head_of(bytes(20), SOLICIT, ADVERTISE))
    assert dissection.protocol == "dhcp"
    assert len(dissection.parse_errors) == 1
    assert isinstance(dissection.facts, Dhcp6Facts)
    assert dissection.facts.servers
