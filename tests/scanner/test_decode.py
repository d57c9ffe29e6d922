"""Link, network and transport headers; every packet is counted once, whatever its bytes are."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.conversations import format_address
from analyzer.flows import Flows
from analyzer.scanner import columns
from analyzer.scanner.decapsulation import LINKS
from tests import build
from tests.build import ACK, MAC, RESOLVER, ROUTER, SERVER, SERVER6, STATION, STATION6, SYN

UDP4 = build.ip4(STATION, RESOLVER, 17, build.udp_datagram(40000, 5353, b"question"))
UDP6 = build.ip6(STATION6, SERVER6, 17, build.udp_datagram(40000, 5353, b"question"))


def ends(found: Flows) -> list[tuple[int, str, int, str, int]]:
    """Protocol and both endpoints of each flow but those of tunnels, first sender first."""
    return [
        (
            int(row["protocol"]),
            format_address(int(row["high0"]), int(row["low0"]), int(row["version"])),
            int(row["port0"]),
            format_address(int(row["high1"]), int(row["low1"]), int(row["version"])),
            int(row["port1"]),
        )
        for row in found.flow
        if row["layer"] != columns.TUNNEL
    ]


def mac_of(found: Flows) -> int:
    return int(found.side["mac"][0, 0])


# -- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linktype", build.LINKS)
@pytest.mark.parametrize(("packet", "source", "destination"), [(UDP4, STATION, RESOLVER), (UDP6, STATION6, SERVER6)])
def test_link_layers(linktype: int, packet: bytes, source: str, destination: str) -> None:
    found = build.read([build.LINKS[linktype](packet)], linktype)
    assert ends(found) == [(17, source, 40000, destination, 5353)]
    assert found.side["payload"][0].tolist() == [8, 0]
    assert mac_of(found) == (int(MAC.replace(":", ""), 16) if linktype in (1, 113, 276) else -1)


def test_a_link_address_of_zeros_counts_as_none() -> None:
    """As on loopback devices, Ethernet or cooked."""
    zeros = "00:00:00:00:00:00"
    assert mac_of(build.read([build.ethernet(UDP4, source=zeros)])) == -1
    assert mac_of(build.read([build.cooked(UDP4, zeros)], 113)) == -1
    assert mac_of(build.read([build.cooked2(UDP6, zeros)], 276)) == -1


def test_bsd_loopback_in_both_byte_orders_with_every_address_family() -> None:
    assert len(build.read([build.null(UDP4, "<"), build.null(UDP4, ">")], 0)) == 1
    assert len(build.read([struct.pack("<I", family) + UDP6 for family in (10, 24, 28, 30)], 0)) == 1
    assert len(build.read([struct.pack(">I", 2) + UDP4], 108)) == 1


@pytest.mark.parametrize(
    ("tags", "outermost"),
    [
        ([(0x8100, 7)], 7),
        ([(0x88A8, 100), (0x8100, 7)], 100),
        ([(0x9100, 0xF00F), (0x8100, 7), (0x8100, 8)], 15),
        ([(0x8100, 0)], 0),
    ],
)
def test_vlan_tags(tags: list[tuple[int, int]], outermost: int) -> None:
    found = build.read([build.ethernet(UDP4, vlans=tags)])
    assert ends(found) == [(17, STATION, 40000, RESOLVER, 5353)]
    assert found.flow["vlan"].tolist() == [outermost]
    assert build.read([build.ethernet(UDP4)]).flow["vlan"].tolist() == [-1]


def test_frames_without_ip_are_counted_by_protocol() -> None:
    frames = [build.ethernet(bytes(46), number) for number in (0x0806, 0x0806, 0x88CC, 0x888E, 0x1234)]
    spanning_tree = build.ethernet(b"\x42\x42\x03" + bytes(35), 38)
    found = build.read([*frames, spanning_tree])
    assert found.counts.not_ip == {"802.1X": 1, "ARP": 2, "Ethernet type 0x1234": 1, "IEEE 802.2": 1, "LLDP": 1}
    assert len(found) == 0


def test_unreadable_frames_are_counted_by_reason() -> None:
    frames = [
        build.ethernet(UDP4)[:30],  # cut in the IP header
        build.ethernet(UDP4)[:40],  # cut in the UDP header
        build.ethernet(b"\x41" + UDP4[1:]),  # header length of 4 bytes
        build.ethernet(b"\x75" + UDP4[1:], 0x0800),  # IP version 7
        build.ethernet(UDP4[:2] + b"\0\x13" + UDP4[4:]),  # total length below the header's
    ]
    found = build.read(frames)
    assert found.counts.unreadable == {"contradictory IP header": 3, "headers cut by the snap length": 2}
    assert build.read([bytes(60)], 195).counts.unreadable == {
        "link type 195 (IEEE802_15_4_WITHFCS) is not supported": 1
    }
    assert build.read([bytes(60)], 9999).counts.unreadable == {"link type 9999 is not supported": 1}


# -- network and transport --------------------------------------------------------------------------------------


def test_ethernet_padding_is_not_payload() -> None:
    found = build.read([build.ethernet(UDP4) + bytes(18)])
    assert found.side["payload"][0, 0] == 8
    assert found.pieces["kept"].tolist() == [8]


def test_packets_without_a_length_end_with_the_frame() -> None:
    segment = build.tcp_header(50000, 443, ACK, 1) + b"x" * 100
    for packet in (build.ip4(STATION, SERVER, 6, segment, total=0), build.ip6(STATION6, SERVER6, 6, segment, length=0)):
        assert build.read([build.ethernet(packet)]).side["payload"][0, 0] == 100


def test_a_frame_length_claimed_by_the_capture_file_is_bounded() -> None:
    frame = build.ethernet(build.ip4(STATION, SERVER, 17, build.udp_datagram(1, 2, b"x", 0), total=0))
    found = build.read_files(build.pcap([build.Packet(frame, 0, 0xFFFFFFFF)]))
    assert 0 < found.pieces["length"][0] <= columns.LARGEST_PACKET


def test_the_shorter_of_udp_and_ip_length_counts() -> None:
    packet = build.ip4(STATION, SERVER, 17, build.udp_datagram(1, 2, b"abcdef", 12))
    assert build.read([build.ethernet(packet)]).side["payload"][0, 0] == 4


def test_ip_options_and_ipv6_extension_headers_are_skipped() -> None:
    udp = build.udp_datagram(40000, 5353, b"question")
    options = build.ip4(STATION, RESOLVER, 17, udp, options=b"\x94\x04\0\0")
    assert ends(build.read([build.ethernet(options)])) == [(17, STATION, 40000, RESOLVER, 5353)]
    chain = b"\x3c\0" + bytes(6) + b"\x2b\x01" + bytes(14) + b"\x2c\0" + bytes(6) + b"\x11\0" + bytes(6) + udp
    found = build.read([build.ethernet(build.ip6(STATION6, SERVER6, 0, chain))])  # atomic fragment: RFC 6946
    assert ends(found) == [(17, STATION6, 40000, SERVER6, 5353)]
    assert found.side["payload"][0, 0] == 8


def test_ipv6_headers_without_payload_are_flows_of_their_own() -> None:
    """Mobility and HIP headers may end a packet; if another header follows, that one counts."""
    for number in (135, 139, 140):
        bare = build.ip6(STATION6, SERVER6, number, b"\x3b\0" + bytes(6))
        assert ends(build.read([build.ethernet(bare)])) == [(number, STATION6, -1, SERVER6, -1)]
        carrying = build.ip6(STATION6, SERVER6, number, b"\x11\0" + bytes(6) + UDP6[40:])
        assert ends(build.read([build.ethernet(carrying)])) == [(17, STATION6, 40000, SERVER6, 5353)]


def test_jumbograms_and_frames_above_the_mtu_are_read() -> None:
    jumbo = b"\x11\0\xc2\x04" + (70000 + 16).to_bytes(4, "big") + build.udp_datagram(1, 2, bytes(70000), 0)
    found = build.read([build.ethernet(build.ip6(STATION6, SERVER6, 0, jumbo, length=0))])
    assert (ends(found), found.side["payload"][0, 0]) == ([(17, STATION6, 1, SERVER6, 2)], 70000)
    segment = build.tcp_header(50000, 443, ACK, 1) + bytes(60000)
    assert build.read([build.ethernet(build.ip4(STATION, SERVER, 6, segment))]).side["payload"][0, 0] == 60000


@pytest.mark.parametrize("packet", [UDP4, UDP6])
def test_wrong_checksums_are_accepted(packet: bytes) -> None:
    at = 10 if packet is UDP4 else 46
    wrong = packet[:at] + b"\x12\x34" + packet[at + 2 :]
    found = build.read([build.ethernet(packet), build.ethernet(wrong)])
    assert found.side["packets"].tolist() == [[2, 0]]


def test_an_icmp_error_finds_the_flow_of_a_packet_with_extension_headers() -> None:
    options = build.ip6(STATION6, SERVER6, 60, b"\x11\0" + bytes(6) + UDP6[40:])
    for quoted in (options, build.fragments(UDP6, 8)[0]):
        found = build.read([build.ethernet(UDP6), build.icmp_error(SERVER6, STATION6, 1, 4, build.ethernet(quoted))])
        assert (len(found), found.counts.icmp_errors) == (1, 1)


def test_endless_extension_headers_end() -> None:
    found = build.read([build.ethernet(build.ip6(STATION6, SERVER6, 60, (b"\x3c\0" + bytes(6)) * 100))])
    assert found.counts.unreadable == {"contradictory IP header": 1}


@pytest.mark.parametrize(("count", "notes"), [(16, ()), (17, ("more than 16 extension headers",)), (60, None)])
def test_many_extension_headers_are_read_and_noted(count: int, notes: tuple[str, ...] | None) -> None:
    udp = build.udp_datagram(40000, 5353, b"question")
    chain = (b"\x3c\0" + bytes(6)) * (count - 1) + b"\x11\0" + bytes(6) + udp
    (flow,) = build.conversations([build.ethernet(build.ip6(STATION6, SERVER6, 60, chain))])
    assert (flow.transport, flow.originator.port, flow.payload) == ("udp", 40000, (8, 0))
    assert flow.notes == (("more than 16 extension headers",) if notes is None else notes)


def test_ipv4_mapped_addresses_on_the_wire_are_a_flow_of_their_own() -> None:
    udp = build.udp_datagram(40000, 5353, b"question")
    mapped = build.ip6(f"::ffff:{STATION}", f"::ffff:{SERVER}", 17, udp)
    error = build.icmp_error("2001:db8::9", f"::ffff:{STATION}", 1, 4, build.ethernet(mapped))
    flows = build.conversations([build.ethernet(build.ip4(STATION, SERVER, 17, udp)), build.ethernet(mapped), error])
    assert [flow.originator.address for flow in flows] == [STATION, f"::ffff:{STATION}"]
    assert [flow.packets for flow in flows] == [(1, 0), (1, 0)]
    assert [len(flow.icmp_errors) for flow in flows] == [0, 1]


@pytest.mark.parametrize(("protocol", "inner"), [(41, UDP4), (4, UDP6)])
def test_a_tunnel_whose_protocol_contradicts_the_inner_version_is_not_opened(protocol: int, inner: bytes) -> None:
    assert [row[0] for row in ends(build.read([build.ethernet(build.ip4(STATION, SERVER, protocol, inner))]))] == [
        protocol
    ]


def test_esp_and_unknown_protocols_are_flows_by_address_pair() -> None:
    pairs = [(STATION, SERVER), (SERVER, STATION)]
    frames = [build.ethernet(build.ip4(*pair, number, bytes(60))) for number in (50, 51, 103) for pair in pairs]
    found = build.read(frames)
    assert [(row[0], row[2], row[4]) for row in ends(found)] == [(50, -1, -1), (51, -1, -1), (103, -1, -1)]
    assert found.side["packets"].tolist() == [[1, 1]] * 3


def test_echo_requests_and_replies_are_flows_by_identifier() -> None:
    frames = [
        frame
        for identifier in (1, 2, 0xFFFF)
        for frame in (build.echo(STATION, ROUTER, 8, identifier), build.echo(ROUTER, STATION, 0, identifier))
    ]
    found = build.read(frames)
    assert [row[2] for row in ends(found)] == [1, 2, 0xFFFF]
    assert found.side["packets"].tolist() == [[1, 1]] * 3
    assert len(build.read([build.echo(STATION6, SERVER6, 128, 5), build.echo(SERVER6, STATION6, 129, 5)])) == 1


def test_flows_of_a_host_with_itself() -> None:
    found = build.read([build.udp(STATION, 500, STATION, 500, b"a"), build.udp(STATION, 7, STATION, 8, b"b")] * 2)
    assert found.side["packets"].tolist() == [[2, 0], [2, 0]]


# -- laws -------------------------------------------------------------------------------------------------------

LINKTYPES = st.sampled_from([*LINKS, 189, 195, 999])


@given(LINKTYPES, st.lists(st.binary(max_size=90), max_size=12))
def test_every_random_packet_is_counted_once(linktype: int, frames: list[bytes]) -> None:
    found = build.read(frames, linktype)
    assert build.accounted(found)
    assert found.counts.packets == len(frames)


VXLAN = build.udp_datagram(9, 4789, b"\x08" + bytes(7) + build.ethernet(UDP6))
SOUND = [
    build.ethernet(UDP4),
    build.ethernet(UDP6),
    build.tcp(STATION, 50000, SERVER, 443, SYN, 9),
    build.tcp(SERVER, 443, STATION, 50000, ACK, 9, b"\x16\x03\x01" + bytes(40)),
    build.echo(STATION, ROUTER, 8, 1),
    build.icmp_error(ROUTER, STATION, 3, 1, build.ethernet(UDP4)),
    build.icmp_error(SERVER6, STATION6, 1, 4, build.ethernet(UDP6)),
    build.ethernet(build.ip4(STATION, SERVER, 4, UDP4)),
    build.ethernet(build.ip4(STATION, SERVER, 17, VXLAN)),
    *(build.ethernet(part) for part in build.fragments(build.ip6(STATION6, SERVER6, 17, bytes(60)), 24)),
    *(build.ethernet(part) for part in build.fragments(build.ip4(STATION, SERVER, 17, bytes(60)), 24)),
    build.ethernet(UDP4, vlans=[(0x8100, 3)]),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound frame with some bytes changed, or without its end."""
    frame = bytearray(draw(st.sampled_from(SOUND)))
    for _ in range(draw(st.integers(0, 3))):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(0, len(frame)))] if draw(st.booleans()) else frame)


@given(st.lists(damaged(), max_size=12))
def test_every_damaged_packet_is_counted_once(frames: list[bytes]) -> None:
    found = build.read(frames)
    assert build.accounted(found)
    assert found.counts.packets == len(frames)
    build.dissect_flows(found)


TRUNCATED = [
    *SOUND,
    build.tcp(STATION6, 50000, SERVER6, 443, ACK, 9, b"data"),
    build.udp(STATION, 4789, SERVER, 53, b"\x12\x34"),
    build.echo(STATION6, SERVER6, 129, 1, b""),
    build.icmp_error(ROUTER, STATION, 3, 1, build.echo(STATION, SERVER, 8, 7)),
    build.icmp_error(SERVER6, STATION6, 3, 1, build.ethernet(build.fragments(UDP6, 8)[0])),
    build.ethernet(build.ip4(STATION, SERVER, 6, build.tcp_header(1, 2, ACK), options=bytes([1]) * 40)),
    build.ethernet(build.ip4(STATION, SERVER, 1, b"\x0d\0\0\0")),  # a timestamp request without its body
    build.ethernet(build.ip4(STATION, SERVER, 1, b"\x08\0\0\0")) + bytes(22),  # likewise an echo, and padding
    build.ethernet(build.ip4(STATION, SERVER, 50, bytes(60))),
    build.ethernet(build.ip4(STATION, SERVER, 17, build.udp_datagram(1, 2, bytes(120)), total=0)),
    build.ethernet(build.ip6(STATION6, SERVER6, 17, build.udp_datagram(1, 2, bytes(120)), length=0)),
    *(
        build.ethernet(build.ip6(STATION6, SERVER6, number, b"\x11\x01" + bytes(14) + UDP6[40:]))
        for number in (0, 43, 60, 135, 139, 140)
    ),
    build.ethernet(build.ip6(STATION6, SERVER6, 135, b"\x3b\x01\x05\0" + bytes(12))),
    build.ethernet(build.ip6(STATION6, SERVER6, 44, b"\x11\0\0\0\0\0\0\x07" + UDP6[40:])),
]


@pytest.mark.deep
@pytest.mark.parametrize("frame", TRUNCATED, ids=range(len(TRUNCATED)))
def test_a_frame_truncated_at_any_byte_is_in_its_flow_or_counted_as_truncated(frame: bytes) -> None:
    """It is never in another flow, and never counted as malformed."""
    (whole,) = ends(build.read([frame]))
    for size in range(len(frame)):
        found = build.read_files(build.pcap([build.Packet(frame[:size], 0, len(frame))]))
        assert build.accounted(found)
        assert found.counts.truncated == 1
        assert ends(found) == [whole] or found.counts.unreadable == {"headers cut by the snap length": 1}
    whole_and_half = (frame, frame[: len(frame) // 2])
    packets = [build.Packet(captured, time, len(frame)) for time, captured in enumerate(whole_and_half)]
    assert set(ends(build.read_files(build.pcap(packets)))) == {whole}


@pytest.mark.parametrize("cut", [34, 38, 42, 54, 62, 66])
def test_an_icmp_error_with_a_truncated_quotation_opens_no_flow(cut: int) -> None:
    quoting = build.icmp_error(ROUTER, STATION, 3, 1, build.ethernet(UDP4))
    packets = [build.Packet(build.ethernet(UDP4), 0), build.Packet(quoting[:cut], 1, len(quoting))]
    found = build.read_files(build.pcap(packets))
    assert (len(found), found.counts.icmp_errors) == (1, int(cut == 66))
    assert sum(found.counts.unreadable.values()) == int(cut != 66)
