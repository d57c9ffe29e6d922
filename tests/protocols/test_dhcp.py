from __future__ import annotations

import ipaddress

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.heads import Direction, Head
from analyzer.messages import to_json
from analyzer.protocols import dhcp, dissect, dissect_as
from analyzer.protocols.dhcp import Bootp, DhcpFacts, Option
from analyzer.wire import Cause
from tests.protocols.test_dns import CORPUS, udp, whole_captures

COOKIE = bytes.fromhex("63825363")
CLIENT = bytes.fromhex("7076ff00aa10")
CLIENT_OPTIONS = bytes.fromhex("0c02766d370d011c02030f06770c2c2f1a792a")
DISCOVER = bytes.fromhex("350101") + CLIENT_OPTIONS
OFFER = bytes.fromhex("35010236040a141e02330400000258") + bytes.fromhex("0104ffffff000604c0a84d3503040a141e01")
REQUEST = bytes.fromhex("35010336040a141e0232040a141e0a") + CLIENT_OPTIONS
ACK = bytes.fromhex("35010536040a141e02330400000258") + bytes.fromhex("0104ffffff000604c0a84d3503040a141e01")
FIXED = 236


def message(
    options: bytes,
    op: int = 1,
    yiaddr: bytes = bytes(4),
    hlen: int = 6,
    sname: bytes = b"",
    file: bytes = b"",
    cookie: bytes = COOKIE,
    end: bytes = b"\xff",
) -> bytes:
    fixed = bytes((op, 1, hlen, 0)) + bytes.fromhex("8e18b312") + bytes(8) + yiaddr + bytes(8) + CLIENT.ljust(16, b"\0")
    return fixed + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + cookie + options + end


def offer(options: bytes) -> bytes:
    return message(options, op=2, yiaddr=bytes([10, 20, 30, 10]))


def head_of(*messages: bytes, ports: tuple[int, int] = (68, 67)) -> Head:
    return udp(ports, *((Direction(message[0] - 1), message) for message in messages))


EXAMPLES = [
    head_of(message(DISCOVER), offer(OFFER), message(REQUEST), offer(ACK) + bytes(7)),
    head_of(message(bytes.fromhex("340103350101"), file=b"\x0c\2vm\xff", sname=b"\x3c\4udhc\xff")),
    head_of(message(b"", cookie=bytes(4), end=bytes(60))),
]


def facts_of(head: Head) -> DhcpFacts:
    facts = dissect_as(dhcp, head).facts
    assert isinstance(facts, DhcpFacts)
    return facts


def test_facts_of_a_lease() -> None:
    dissection = dissect(EXAMPLES[0])
    assert (dissection.protocol, dissection.parse_errors) == ("dhcp", ())
    assert to_json(dissection.facts) == {
        "messages": {"DISCOVER": 1, "OFFER": 1, "REQUEST": 1, "ACK": 1},
        "client_mac": "70:76:ff:00:aa:10",
        "host_name": "vm",
        "requested": ["10.20.30.10"],
        "servers": ["10.20.30.2"],
        "offered": ["10.20.30.10"],
        "lease_seconds": 600,
        "routers": ["10.20.30.1"],
        "dns_servers": ["192.168.77.53"],
    }


def test_facts_of_a_client() -> None:
    (client,) = facts_of(EXAMPLES[0])._clients.values()
    assert to_json(client) == {
        "mac": "70:76:ff:00:aa:10",
        "host_name": "vm",
        "requested": "10.20.30.10",
        "address": "10.20.30.10",
        "lease_seconds": 600,
        "server": "10.20.30.2",
    }


def test_clients_are_merged_by_mac_address() -> None:
    other = message(DISCOVER).replace(CLIENT, CLIENT[:5] + b"\x11").replace(b"\x0c\2vm", b"\x0c\2bs")
    first, second = facts_of(head_of(message(DISCOVER), other)), facts_of(head_of(offer(ACK)))
    found = dhcp.merge_clients([first, second])
    assert [(mac, value.host_name, value.address) for mac, value in found.items()] == [
        ("70:76:ff:00:aa:10", "vm", "10.20.30.10"),
        ("70:76:ff:00:aa:11", "bs", None),
    ]


def test_relays_and_static_routes() -> None:
    relayed = message(DISCOVER + bytes.fromhex("5204010200ff"))
    relayed = relayed[:24] + bytes([10, 20, 30, 1]) + relayed[28:]
    facts = facts_of(head_of(relayed, offer(OFFER + bytes([121, 5, 0, 10, 20, 30, 1]))))
    assert (facts.relays, facts.relay_information) == (("10.20.30.1",), True)
    assert facts.static_routes == ("0.0.0.0/0 by 10.20.30.1",)
    assert facts_of(head_of(offer(OFFER + bytes([121, 2, 33, 1])))).static_routes == ()


ways = st.lists(st.tuples(st.integers(0, 32), st.binary(min_size=4, max_size=4), st.ip_addresses(v=4)), max_size=8)


@given(ways)
def test_static_routes_round_trip(routes: list[tuple[int, bytes, ipaddress.IPv4Address]]) -> None:
    wire = b"".join(bytes((width,)) + to[: (width + 7) // 8] + gateway.packed for width, to, gateway in routes)
    written = tuple(
        f"{'.'.join(map(str, to[: (width + 7) // 8].ljust(4, bytes(1))))}/{width} by {gateway}"
        for width, to, gateway in routes
    )
    assert dhcp.read_routes(wire) == written


@given(st.binary(max_size=60))
def test_static_routes_of_any_bytes(raw: bytes) -> None:
    found = dhcp.read_routes(raw)
    assert found is None or len(found) <= len(raw) // 5


def test_overloaded_file_and_sname_fields() -> None:
    facts = facts_of(EXAMPLES[1])
    assert (facts.host_name, facts.vendor_class) == ("vm", "udhc")
    unused = message(bytes.fromhex("350101"), file=b"\x0c\2vm\xff", sname=b"\x3c\4udhc\xff")
    assert facts_of(head_of(unused)).host_name is None
    endless = message(bytes.fromhex("340101350101"), file=b"\x0c\xf0vm")
    assert dissect_as(dhcp, head_of(endless)).malformed


def test_facts_of_plain_bootp() -> None:
    dissection = dissect(EXAMPLES[2])
    assert (dissection.protocol, dissection.parse_errors) == ("dhcp", ())
    assert any(isinstance(item.message, Bootp) for item in dissection.items)
    assert facts_of(EXAMPLES[2]).messages == {"BOOTREQUEST": 1}


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (message(DISCOVER, end=b""), "option"),
        (message(DISCOVER, end=b"\x0c"), "option length"),
        (message(b"\x0c\x05vm", end=b""), "option"),
        (message(DISCOVER, cookie=b"\1\2\3\4"), "magic cookie"),
        (message(DISCOVER, cookie=bytes(4)), "magic cookie"),
        (message(DISCOVER, hlen=17), "hlen"),
        (message(DISCOVER)[: FIXED - 1], "file"),
        (message(DISCOVER)[:100], "sname"),
        (message(DISCOVER)[:40], "header"),
    ],
)
def test_malformed_messages_name_the_field(data: bytes, field: str) -> None:
    (found,) = dissect_as(dhcp, head_of(data)).parse_errors
    assert (found.anomaly.cause, found.anomaly.field) == (Cause.MALFORMED, field)


def test_items_before_a_malformed_field_are_kept() -> None:
    facts = facts_of(head_of(message(DISCOVER + b"\x37\xff", end=b"")))
    assert facts.messages == {"DISCOVER": 1} and facts.host_name == "vm"


def test_names_lose_trailing_zeros_and_control_characters() -> None:
    assert facts_of(head_of(message(b"\x0c\4vm\0\0"))).host_name == "vm"
    assert facts_of(head_of(message(b"\x0c\3v\x1bm"))).host_name == "v\\x1bm"


def test_options_agree_with_dpkt() -> None:
    theirs = dpkt.dhcp.DHCP(message(REQUEST))
    ours = [
        item.message for item in dissect_as(dhcp, head_of(message(REQUEST))).items if isinstance(item.message, Option)
    ]
    assert [(option.code, option.data) for option in ours] == list(theirs.opts)
    made = dpkt.dhcp.DHCP(xid=5, chaddr=CLIENT, opts=((53, b"\1"), (60, b"udhcp 1.30")))
    assert facts_of(head_of(bytes(made))).vendor_class == "udhcp 1.30"


@pytest.mark.parametrize(
    ("head", "is_dhcp"),
    [
        *((head, True) for head in EXAMPLES),
        (head_of(message(DISCOVER), ports=(40000, 40001)), True),
        (head_of(message(DISCOVER, cookie=bytes(4)), ports=(40000, 40001)), False),
        (udp((68, 67), (Direction.ORIGINATOR, b"GET / HTTP/1.1\r\n\r\n")), False),
        (udp((546, 547), (Direction.ORIGINATOR, b"\1\0\0\1" + bytes(60))), False),
    ],
)
def test_probe(head: Head, is_dhcp: bool) -> None:
    assert dhcp.probe(head) is is_dhcp


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS names no folder of captures")
def test_corpus_dhcp_is_well_formed() -> None:
    seen = 0
    for truth, found in whole_captures():
        for flow in found:
            if flow.protocol == "dhcp":
                seen += 1
                assert flow.dissection.malformed == (), truth["name"]
        if truth["protocols"].get("dhcp"):
            assert any(flow.protocol == "dhcp" for flow in found), truth["name"]
    assert seen > 10


def test_junk_first_does_not_hide_the_rest() -> None:
    found = dissect(udp((68, 67), (Direction.ORIGINATOR, b"junk"), (Direction.ORIGINATOR, message(DISCOVER))))
    assert (found.protocol, len(found.parse_errors)) == ("dhcp", 1)
    assert isinstance(found.facts, DhcpFacts) and found.facts.messages == {"DISCOVER": 1}
