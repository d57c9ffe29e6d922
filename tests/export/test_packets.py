"""``Audit.packets``: the packets of a finding or flow, decoded by dpkt."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import CaptureError, anonymous, audit
from analyzer.expected import UsageError
from analyzer.export.packets import decode
from analyzer.heads import Frame
from analyzer.result import Audit
from tests import build, samples
from tests.build import SECOND, Packet
from tests.synthetic import NTP, STATION, TPE, Traffic

HTTP_ON_3001 = "tls-http-on-3001"
START = 1_700_000_000 * SECOND


def audit_of(folder: Path, frames: list[bytes], linktype: int = 1) -> tuple[Audit, Path]:
    path = folder / "capture.pcap"
    path.write_bytes(build.pcap(build.timed(frames), linktype=linktype))
    return audit(path), path


# -- selections ---------------------------------------------------------------------------------------------------


def test_finding_yields_its_frames_with_time_and_decoded_packet() -> None:
    result = samples.audit_of(HTTP_ON_3001)
    (finding,) = (finding for finding in result.findings if "i38" in finding.rows)
    packets = list(result.packets(finding))
    assert tuple(packet.frame for packet in packets) == finding.frames
    assert packets[0].time == finding.time
    for frame, time, ethernet in packets:
        assert isinstance(ethernet, dpkt.ethernet.Ethernet) and isinstance(time, int), frame
    assert packets[0].decoded.ip.tcp.data.startswith(b"GET ")


def test_flow_and_flow_id_yield_the_known_frames_of_the_flow() -> None:
    result = samples.audit_of(HTTP_ON_3001)
    for flow in result.flows:
        packets = list(result.packets(flow))
        assert packets[0].frame == flow.first_frame and packets[-1].frame == flow.last_frame
        assert packets[0].time == flow.first and packets[-1].time == flow.last
        frames = [packet.frame for packet in packets]
        assert frames == sorted(set(frames))
    assert [packet.frame for packet in result.packets(result.flows[0].id)] == [
        packet.frame for packet in result.packets(result.flows[0])
    ]


def test_frames_are_yielded_in_capture_order_once() -> None:
    result = samples.audit_of(HTTP_ON_3001)
    packets = result.packets([Frame(0, 9), Frame(0, 2), Frame(0, 9)])
    assert [packet.frame.number for packet in packets] == [2, 9]
    assert list(result.packets([])) == []


def test_flow_of_a_conversation_that_stands_for_several(tmp_path: Path) -> None:
    traffic = Traffic()
    for number in range(3):
        traffic.at(10.0 * number).exchange(STATION, 40000 + number, TPE, 123, NTP)
    result = traffic.audit(tmp_path)
    (conversation,) = result.conversations
    assert conversation.flow_count == 3
    assert [packet.decoded.ip.udp.sport for packet in result.packets(3)] == [40002, 123]
    assert [packet.frame.number for packet in result.packets(conversation)] == [1, 2, 3, 5]


def test_several_captures(tmp_path: Path) -> None:
    result = samples.audit_of("plain-ring-of-three-files")
    frames = [Frame(index, 1) for index in range(len(result.captures))]
    packets = list(result.packets(reversed(frames)))
    assert [packet.frame for packet in packets] == frames
    assert [packet.time for packet in packets] == [capture.first for capture in result.captures]


# -- link types ---------------------------------------------------------------------------------------------------

IP_PACKET = build.ip(STATION, TPE, 17, build.udp_datagram(40000, 123, bytes(48)))
IP6_PACKET = build.ip("fd00::2", "fd00::1", 17, build.udp_datagram(40000, 123, bytes(48)))


@pytest.mark.parametrize(
    ("linktype", "header", "packet", "kind"),
    [
        pytest.param(1, build.ethernet(IP_PACKET)[:14], IP_PACKET, dpkt.ethernet.Ethernet, id="Ethernet"),
        pytest.param(113, b"\0\0\0\1\0\6" + bytes(8) + b"\x08\x00", IP_PACKET, dpkt.sll.SLL, id="SLL"),
        pytest.param(276, b"\x08\0\0\0\0\0\0\2\0\1\0\6" + bytes(8), IP_PACKET, dpkt.sll2.SLL2, id="SLL2"),
        pytest.param(0, b"\2\0\0\0", IP_PACKET, dpkt.loopback.Loopback, id="BSD loopback"),
        pytest.param(108, b"\0\0\0\2", IP_PACKET, dpkt.loopback.Loopback, id="OpenBSD loopback"),
        pytest.param(101, b"", IP_PACKET, dpkt.ip.IP, id="raw IPv4"),
        pytest.param(101, b"", IP6_PACKET, dpkt.ip6.IP6, id="raw IPv6"),
        pytest.param(9, b"\x21", IP_PACKET, bytes, id="PPP"),
        pytest.param(147, b"private", IP_PACKET, bytes, id="private link type"),
    ],
)
def test_link_type_decides_the_dpkt_class(
    linktype: int, header: bytes, packet: bytes, kind: type, tmp_path: Path
) -> None:
    result, _ = audit_of(tmp_path, [header + packet], linktype)
    (found,) = result.packets([Frame(0, 1)])
    assert type(found.decoded) is kind
    if kind is bytes:
        assert found.decoded == header + packet
    else:
        assert (found.decoded if not header else found.decoded.data).udp.dport == 123


@given(st.binary(max_size=80), st.sampled_from((0, 1, 9, 12, 101, 108, 113, 276, 147)))
def test_any_bytes_are_decoded_or_returned(data: bytes, linktype: int) -> None:
    decoded = decode(data, linktype)
    assert decoded == data or isinstance(decoded, dpkt.Packet)


# -- captures that cannot be read again ---------------------------------------------------------------------------


def test_standard_input_is_a_usage_error() -> None:
    code = """
import sys
from analyzer import audit
result = audit("-")
try:
    result.packets(result.findings[0])
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=samples.capture(HTTP_ON_3001).read_bytes(), capture_output=True, check=True
    )
    message = "-: standard input cannot be read a second time: save the capture to a file and audit that\n"
    assert done.stdout.decode() == message


def test_vanished_capture_is_a_usage_error(tmp_path: Path) -> None:
    result, path = audit_of(tmp_path, [build.ethernet(IP_PACKET)])
    path.unlink()
    with pytest.raises(UsageError, match=r"capture\.pcap: no longer exists"):
        result.packets([Frame(0, 1)])
    os.mkfifo(path)
    with pytest.raises(UsageError, match=r"capture\.pcap: is not a file"):
        result.packets([Frame(0, 1)])


def test_shortened_capture_is_a_capture_error(tmp_path: Path) -> None:
    result, path = audit_of(tmp_path, [build.ethernet(IP_PACKET)] * 3)
    path.write_bytes(build.pcap(build.timed([build.ethernet(IP_PACKET)] * 2)))
    assert len(list(result.packets([Frame(0, 1), Frame(0, 2)]))) == 2
    with pytest.raises(CaptureError, match="has no packet 3 any more"):
        list(result.packets([Frame(0, 3)]))


def test_overwritten_capture_is_a_capture_error(tmp_path: Path) -> None:
    """As when a ring buffer reuses the file."""
    result, path = audit_of(tmp_path, [build.ethernet(IP_PACKET)] * 3)
    path.write_bytes(build.pcap([Packet(build.ethernet(IP_PACKET), START + 3600 * SECOND)] * 3))
    with pytest.raises(CaptureError, match="was changed since it was audited: packet 2 has another time"):
        list(result.packets([Frame(0, 2)]))


def test_capture_that_has_grown_is_read(tmp_path: Path) -> None:
    result, path = audit_of(tmp_path, [build.ethernet(IP_PACKET)])
    path.write_bytes(build.pcap(build.timed([build.ethernet(IP_PACKET)] * 5)))
    assert len(list(result.packets([Frame(0, 1)]))) == 1


def test_anonymised_audit_has_no_captures_to_read() -> None:
    result = anonymous(samples.audit_of(HTTP_ON_3001), bytes(32))
    with pytest.raises(UsageError, match="no longer exists, or not at this path"):
        result.packets(result.findings[0])


def test_unknown_flow_or_capture_is_a_usage_error() -> None:
    result = samples.audit_of(HTTP_ON_3001)
    with pytest.raises(UsageError, match="the audit has no flow 4711"):
        result.packets(4711)
    with pytest.raises(UsageError, match="the audit has no capture 1: it has 1"):
        result.packets([Frame(1, 1)])
    with pytest.raises(UsageError, match="the audit has no capture 0: it has 0"):
        replace(result, captures=()).packets(result.findings[0])


def test_an_audit_imports_dpkt_only_when_packets_are_asked_for() -> None:
    code = """
import sys
from analyzer import audit
result = audit(sys.argv[1])
print("dpkt" in sys.modules)
list(result.packets(result.findings[0]))
print("dpkt" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, samples.capture(HTTP_ON_3001)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]
