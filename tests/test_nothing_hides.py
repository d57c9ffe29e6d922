"""Nothing hides: flows that are added to a compliant capture are found, and rows without answers are not present.

``TPE_PCAP_PROPERTIES=50000`` makes that many examples of added flows; it takes ten minutes.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer import Audit, audit
from analyzer.conversations import Conversation
from analyzer.expected import ExpectedFlow, load
from analyzer.findings import Finding, Severity
from analyzer.verdicts import Status
from tests import build, samples
from tests.build import ACK, FIN, PSH, SYN

COMPLIANT = tuple(name for name in samples.names() if "compliant" in name)

EXAMPLES = int(os.environ.get("TPE_PCAP_PROPERTIES", "0"))
"""Examples of added flows; 0: 2,000 with ``CI=true``, and few without."""
DEEP = os.environ.get("CI") == "true"
SHARES = {"unlisted": 9, "row-shaped": 1}
"""Tenths of the examples that each property gets."""
QUICK = {"unlisted": 12, "row-shaped": 4}

STRANGERS = ("203.0.113.66", "198.51.100.7", "192.0.2.200", "10.99.1.2")
STRANGERS6 = ("2001:db8:66::66", "2a02:1:2:3::9")
STATION6 = "2001:db8:1::10"
"""Another address of the base station, with its MAC address."""
OTHER_PROTOCOLS = (2, 4, 41, 46, 47, 51, 89, 94, 97, 103, 112, 132, 137, 253, 254)
"""IP protocols that no row has."""
DISCOVERY = {137, 138, 1900, 5353, 5355}
DHCP_PORTS = {67, 68, 546, 547}


def examples(share: str) -> settings:
    """How many examples a property gets."""
    total = EXAMPLES or (2000 if DEEP else 0)
    return settings(max_examples=total * SHARES[share] // 10 if total else QUICK[share], deadline=None)


TIME_TO_ANSWER = 10 * build.SECOND
"""Before the end of the capture: a row that was tried later is undecided."""


# -- captures ---------------------------------------------------------------------------------------------------


class Capture(NamedTuple):
    """A compliant capture, and what its audit says of its only base station."""

    packets: tuple[build.Packet, ...]
    station: str
    mac: str
    router: str
    """MAC address behind which strangers are."""
    tpe: tuple[str, ...]
    rows: tuple[ExpectedFlow, ...]
    result: Audit


@cache
def capture(name: str) -> Capture:
    (path,) = samples.files(name)
    content = io.BytesIO(path.read_bytes())
    reader = dpkt.pcap.UniversalReader(content)
    packets = tuple(build.Packet(bytes(frame), round(time * 1e9), 0) for time, frame in reader)
    result = audit(path, **samples.options(name))
    (verdict,) = result.base_stations
    station = verdict.station
    sent = [frame for frame, _, _ in packets if frame[6:12] == build.hardware(station.mac or "")]
    routers = [frame[:6] for frame in sent if frame[12:14] == b"\x08\0" and not frame[0] & 1]
    router = max(set(routers), key=routers.count).hex(":")
    rows = load()[verdict.mode].flows
    return Capture(packets, station.address, station.mac or "", router, tuple(verdict.tpe), rows, result)


def audited(packets: Sequence[build.Packet], name: str) -> Audit:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.pcap"
        path.write_bytes(build.pcap(sorted(packets, key=lambda packet: packet.time), nanoseconds=True))
        return audit(path, **samples.options(name))


def naming(result: Audit, *strangers: str) -> list[Finding]:
    """The findings that name a stranger."""
    return [
        finding
        for finding in result.findings
        if finding.peer in strangers or any(stranger in finding.summary for stranger in strangers)
    ]


# -- added flows ------------------------------------------------------------------------------------------------


class Added(NamedTuple):
    """A flow between the base station and a stranger."""

    peer: str
    outbound: bool
    transport: int
    client_port: int
    service_port: int
    answered: bool
    handshake: bool
    contents: tuple[bytes, ...]
    place: float
    """Where in the capture it begins, from 0 to 1."""


def frames_of(flow: Added, found: Capture, identification: int = 1) -> list[bytes]:
    """The frames of a flow: what its originator sends, and the answers."""
    own = STATION6 if ":" in flow.peer else found.station
    ends = (own, flow.peer) if flow.outbound else (flow.peer, own)
    frames: list[bytes] = []

    def send(way: int, payload: bytes) -> None:
        source, destination = ends if not way else ends[::-1]
        packet = bytearray(build.ip(source, destination, flow.transport, payload))
        if packet[0] >> 4 == 4:
            packet[4:6] = struct.pack(">H", identification + len(frames))
            packet[10:12] = bytes(2)
            packet[10:12] = struct.pack(">H", build.checksum(bytes(packet[:20])))
        sender, receiver = (found.mac, found.router) if source == own else (found.router, found.mac)
        frames.append(build.ethernet(bytes(packet), source=sender, destination=receiver))

    ports = flow.client_port, flow.service_port
    if flow.transport == 6:
        sequences = [1000, 5000]

        def segment(way: int, flags: int, payload: bytes = b"") -> None:
            pair = ports if not way else ports[::-1]
            acknowledged = sequences[1 - way] if flags & ACK else 0
            send(way, build.tcp_header(*pair, flags, sequences[way], acknowledged) + payload)
            sequences[way] += len(payload) + bool(flags & SYN) + bool(flags & FIN)

        if flow.handshake:
            segment(0, SYN)
            if not flow.answered:
                return frames
            segment(1, SYN | ACK)
            segment(0, ACK)
        for content in flow.contents:
            segment(0, ACK | PSH, content)
            if flow.answered:
                segment(1, ACK | PSH, content[::-1])
        return frames
    for content in flow.contents:
        for way in range(1 + flow.answered):
            body = content if not way else content[::-1]
            if flow.transport == 17:
                body = build.udp_datagram(*(ports if not way else ports[::-1]), body)
            send(way, body)
    return frames


def with_flow(flow: Added, found: Capture) -> list[build.Packet]:
    """The capture with a flow added."""
    first, last = found.packets[0].time, found.packets[-1].time
    start = first + round((last - first) * flow.place)
    added = [build.Packet(frame, start + 20_000_000 * number, 0) for number, frame in enumerate(frames_of(flow, found))]
    return [*found.packets, *added]


CONTENTS = st.lists(
    st.one_of(
        st.binary(min_size=8, max_size=300),
        st.sampled_from(
            [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", b"id;uname -a\n", b"\x16\x03\x01\0\x05hello"]
        ),
    ),
    min_size=1,
    max_size=4,
).map(tuple)


def service_ports(found: Capture, transport: str) -> set[int]:
    return {port for row in found.rows if row.transport == transport for port in row.ports}


@st.composite
def unlisted(draw: st.DrawFn, found: Capture) -> Added:
    """A flow that fits no row by transport, port and direction, and is no name discovery."""
    transport = draw(st.sampled_from((6, 6, 17, 17, *OTHER_PROTOCOLS)))
    outbound = draw(st.booleans())
    peer = draw(st.sampled_from(STRANGERS + STRANGERS6))
    if transport not in (6, 17):
        return Added(
            peer, outbound, transport, 0, 0, draw(st.booleans()), False, draw(CONTENTS), draw(st.floats(0, 0.99))
        )
    name = "tcp" if transport == 6 else "udp"
    listed = service_ports(found, name) | (DISCOVERY | DHCP_PORTS if name == "udp" else set())
    low = st.integers(1, 65535).filter(lambda port: port not in listed)
    return Added(
        peer,
        outbound,
        transport,
        draw(st.integers(1024, 65535).filter(lambda port: port not in listed)),
        draw(low),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(CONTENTS),
        draw(st.floats(0, 0.99)),
    )


@given(st.data())
@examples("unlisted")
def test_a_flow_that_fits_no_row_fails_the_audit_and_names_the_stranger(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(COMPLIANT))
    flow = data.draw(unlisted(capture(name)))
    result = audited(with_flow(flow, capture(name)), name)
    named = naming(result, flow.peer)
    assert result.fails()
    assert any(finding.severity >= Severity.MEDIUM for finding in named), (flow, [str(f.summary) for f in named])


@st.composite
def row_shaped(draw: st.DrawFn, found: Capture) -> Added:
    """A flow that fits a row by transport, port and direction, and goes to a stranger: no sound DNS, NTP or DHCP."""
    row = draw(st.sampled_from([row for row in found.rows if row.protocol not in ("dns", "ntp", "dhcp")]))
    transport = {"tcp": 6, "udp": 17, "esp": 50, "icmp": 1}[row.transport]
    contents = draw(CONTENTS)
    if row.transport == "icmp":
        contents = tuple(b"\x08\0\0\0" + content.ljust(16) for content in contents)
    elif row.transport == "esp":
        contents = tuple(struct.pack(">II", 0x12345678, number + 1) + bytes(64) for number in range(len(contents)))
    port = draw(st.sampled_from(row.ports)) if row.ports else 0
    client = draw(st.integers(1024, 65535).filter(lambda value: value not in service_ports(found, row.transport)))
    return Added(
        draw(st.sampled_from(STRANGERS)), True, transport, client, port, draw(st.booleans()), True, contents, 0.5
    )


@given(st.data())
@examples("row-shaped")
def test_a_flow_that_fits_a_row_but_for_its_peer_is_named(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(COMPLIANT))
    flow = data.draw(row_shaped(capture(name)))
    assert naming(audited(with_flow(flow, capture(name)), name), flow.peer), flow


# -- removed answers --------------------------------------------------------------------------------------------


def is_between(
    frame: bytes, source: tuple[str, int | None], destination: tuple[str, int | None], protocol: int
) -> bool:
    """Whether a frame goes from one end of a flow to the other."""
    packet = dpkt.ethernet.Ethernet(frame).data
    if not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6) or packet.p != protocol:
        return False
    inside = packet.data
    ports = (getattr(inside, "sport", None), getattr(inside, "dport", None))
    ends = tuple(dpkt.utils.inet_to_str(address) for address in (packet.src, packet.dst))
    return ends == (source[0], destination[0]) and ports == (source[1], destination[1])


PROTOCOLS: Mapping[str, int] = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "esp": 50}


def without_answers(found: Capture, flows: Sequence[Conversation]) -> list[build.Packet]:
    """The capture without the answers of some flows; of TCP also without what only an answered client sends."""
    removed: set[int] = set()
    for conversation in flows:
        protocol = PROTOCOLS[conversation.transport]
        client, server = tuple(conversation.originator), tuple(conversation.responder)
        for index, (frame, _, _) in enumerate(found.packets):
            answer = is_between(frame, server, client, protocol)
            established = protocol == 6 and is_between(frame, client, server, protocol) and not is_opening(frame)
            if answer or established:
                removed.add(index)
    return [packet for index, packet in enumerate(found.packets) if index not in removed]


def is_opening(frame: bytes) -> bool:
    """Whether a TCP segment is a SYN."""
    inside: Any = dpkt.ethernet.Ethernet(frame).data.data
    return int(inside.flags) & (SYN | ACK) == SYN


ANSWERED_ROWS = [
    (name, row)
    for name in COMPLIANT
    for row in (
        "i1",
        "i2",
        "i3",
        "i4",
        "i5",
        "i6",
        "i7",
        "i8",
        "i38",
        "i39",
        "i40",
        "i42",
        "i43",
        "n1",
        "n2",
        "n3",
        "n4",
    )
]


def check_answers(name: str, row_id: str) -> None:
    found = capture(name)
    (before,) = found.result.base_stations
    verdict = next((row for row in before.rows if row.row.id == row_id and row.flows), None)
    if verdict is None:
        pytest.skip("the capture has no flow of the row")
    flows = [flow for flow in found.result.flows if flow.id in verdict.flows]
    packets = without_answers(found, flows)
    result = audited(packets, name)
    (after,) = (station for station in result.base_stations if station.station.address == found.station)
    status = next(row for row in after.rows if row.row.id == row_id)
    tried = max(packet.time for packet in packets) - min(flow.first for flow in flows) >= TIME_TO_ANSWER
    assert status.status is (Status.BLOCKED if tried else Status.UNDECIDED), (status.status, status.reason)


@pytest.mark.parametrize(("name", "row"), ANSWERED_ROWS)
def test_a_row_whose_answers_are_removed_is_blocked_or_undecided(name: str, row: str) -> None:
    check_answers(name, row)
