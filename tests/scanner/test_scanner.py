"""The compiled scanner: what it reads from each link layer, and that no packet is lost whatever its bytes are."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.conversations import format_address
from analyzer.flows import Flows
from analyzer.scanner import columns, driver
from analyzer.scanner.decapsulation import LINKS
from tests import build
from tests.build import ACK, MAC, RESOLVER, ROUTER, SERVER, SERVER6, STATION, STATION6, SYN

UDP4 = build.ip4(STATION, RESOLVER, 17, build.udp_datagram(40000, 5353, b"question"))
UDP6 = build.ip6(STATION6, SERVER6, 17, build.udp_datagram(40000, 5353, b"question"))


def ends(found: Flows) -> list[tuple[int, str, int, str, int]]:
    """Protocol and both endpoints of each flow, first sender first."""
    return [
        (
            int(row["protocol"]),
            format_address(int(row["high0"]), int(row["low0"]), int(row["version"])),
            int(row["port0"]),
            format_address(int(row["high1"]), int(row["low1"]), int(row["version"])),
            int(row["port1"]),
        )
        for row in found.flow
    ]


def mac_of(found: Flows) -> int:
    return int(found.side["mac"][0, 0])


# -- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linktype", build.LINKS)
@pytest.mark.parametrize(("packet", "source", "destination"), [(UDP4, STATION, RESOLVER), (UDP6, STATION6, SERVER6)])
def test_links(linktype: int, packet: bytes, source: str, destination: str) -> None:
    found = build.read([build.LINKS[linktype](packet)], linktype)
    assert ends(found) == [(17, source, 40000, destination, 5353)]
    assert found.side["payload"][0].tolist() == [8, 0]
    assert mac_of(found) == (int(MAC.replace(":", ""), 16) if linktype in (1, 113, 276) else -1)


def test_a_link_address_of_zeros_is_nobodys() -> None:
    """As on loopback devices, Ethernet or cooked."""
    zeros = "00:00:00:00:00:00"
    assert mac_of(build.read([build.ethernet(UDP4, source=zeros)])) == -1
    assert mac_of(build.read([build.cooked(UDP4, zeros)], 113)) == -1
    assert mac_of(build.read([build.cooked2(UDP6, zeros)], 276)) == -1


def test_bsd_loopback_in_either_byte_order_and_with_every_ipv6_number() -> None:
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


def test_what_carries_no_ip_is_counted_by_its_name() -> None:
    frames = [build.ethernet(bytes(46), number) for number in (0x0806, 0x0806, 0x88CC, 0x888E, 0x1234)]
    spanning_tree = build.ethernet(b"\x42\x42\x03" + bytes(35), 38)
    found = build.read([*frames, spanning_tree])
    assert found.counts.not_ip == {"802.1X": 1, "ARP": 2, "Ethernet type 0x1234": 1, "IEEE 802.2": 1, "LLDP": 1}
    assert len(found) == 0


def test_what_cannot_be_read_is_counted_by_its_reason() -> None:
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


def test_padding_is_no_payload() -> None:
    found = build.read([build.ethernet(UDP4) + bytes(18)])
    assert found.side["payload"][0, 0] == 8
    assert found.pieces["kept"].tolist() == [8]


def test_offloaded_packets_without_a_length() -> None:
    segment = build.tcp_header(50000, 443, ACK, 1) + b"x" * 100
    for packet in (build.ip4(STATION, SERVER, 6, segment, total=0), build.ip6(STATION6, SERVER6, 6, segment, length=0)):
        assert build.read([build.ethernet(packet)]).side["payload"][0, 0] == 100


def test_a_length_that_only_the_capture_file_claims_is_bounded() -> None:
    frame = build.ethernet(build.ip4(STATION, SERVER, 17, build.udp_datagram(1, 2, b"x", 0), total=0))
    found = build.read_files(build.pcap([build.Packet(frame, 0, 0xFFFFFFFF)]))
    assert 0 < found.pieces["length"][0] <= columns.LARGEST_PACKET


def test_a_udp_length_below_the_ip_length_counts() -> None:
    packet = build.ip4(STATION, SERVER, 17, build.udp_datagram(1, 2, b"abcdef", 12))
    assert build.read([build.ethernet(packet)]).side["payload"][0, 0] == 4


def test_ip_options_and_ipv6_extension_headers() -> None:
    udp = build.udp_datagram(40000, 5353, b"question")
    options = build.ip4(STATION, RESOLVER, 17, udp, options=b"\x94\x04\0\0")
    assert ends(build.read([build.ethernet(options)])) == [(17, STATION, 40000, RESOLVER, 5353)]
    chain = b"\x3c\0" + bytes(6) + b"\x2b\x01" + bytes(14) + b"\x2c\0" + bytes(6) + b"\x11\0" + bytes(6) + udp
    found = build.read([build.ethernet(build.ip6(STATION6, SERVER6, 0, chain))])  # atomic fragment: RFC 6946
    assert ends(found) == [(17, STATION6, 40000, SERVER6, 5353)]
    assert found.side["payload"][0, 0] == 8


def test_ipv6_headers_that_carry_nothing_are_flows_of_their_own() -> None:
    """Mobility and HIP end their packets; where a header stands behind them, that counts."""
    for number in (135, 139, 140):
        bare = build.ip6(STATION6, SERVER6, number, b"\x3b\0" + bytes(6))
        assert ends(build.read([build.ethernet(bare)])) == [(number, STATION6, -1, SERVER6, -1)]
        carrying = build.ip6(STATION6, SERVER6, number, b"\x11\0" + bytes(6) + UDP6[40:])
        assert ends(build.read([build.ethernet(carrying)])) == [(17, STATION6, 40000, SERVER6, 5353)]


def test_jumbograms_and_frames_above_the_mtu() -> None:
    jumbo = b"\x11\0\xc2\x04" + (70000 + 16).to_bytes(4, "big") + build.udp_datagram(1, 2, bytes(70000), 0)
    found = build.read([build.ethernet(build.ip6(STATION6, SERVER6, 0, jumbo, length=0))])
    assert (ends(found), found.side["payload"][0, 0]) == ([(17, STATION6, 1, SERVER6, 2)], 70000)
    segment = build.tcp_header(50000, 443, ACK, 1) + bytes(60000)
    assert build.read([build.ethernet(build.ip4(STATION, SERVER, 6, segment))]).side["payload"][0, 0] == 60000


@pytest.mark.parametrize("packet", [UDP4, UDP6])
def test_check_sums_are_neither_trusted_nor_demanded(packet: bytes) -> None:
    at = 10 if packet is UDP4 else 46
    wrong = packet[:at] + b"\x12\x34" + packet[at + 2 :]
    found = build.read([build.ethernet(packet), build.ethernet(wrong)])
    assert found.side["packets"].tolist() == [[2, 0]]


def test_an_icmp_error_finds_the_flow_behind_extension_headers() -> None:
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


def test_a_second_syn_ack_with_another_number_moves_the_stream_only_until_the_first_is_acknowledged() -> None:
    def server(flags: int, sequence: int, payload: bytes = b"") -> bytes:
        segment = build.tcp_header(80, 4000, flags, sequence, 101) + payload
        return build.ethernet(build.ip4(SERVER, STATION, 6, segment))

    def client(flags: int, sequence: int, acknowledgement: int = 0) -> bytes:
        return build.ethernet(
            build.ip4(STATION, SERVER, 6, build.tcp_header(4000, 80, flags, sequence, acknowledgement))
        )

    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    opening = [client(2, 100), server(18, 500)]
    late = [*opening, client(16, 101, 501), server(18, 7_000_000), server(24, 501, answer)]
    (flow,) = build.conversations(late)
    assert flow.head.streams[1].data == answer
    early = [*opening, server(18, 7_000_000), client(16, 101, 7_000_001), server(24, 7_000_001, answer)]
    (flow,) = build.conversations(early)
    assert flow.head.streams[1].data == answer


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


def test_a_host_that_talks_to_itself() -> None:
    found = build.read([build.udp(STATION, 500, STATION, 500, b"a"), build.udp(STATION, 7, STATION, 8, b"b")] * 2)
    assert found.side["packets"].tolist() == [[2, 0], [2, 0]]


# -- growth -----------------------------------------------------------------------------------------------------


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "INITIAL_FLOWS", 1 << 8)


@pytest.mark.usefixtures("little_room")
def test_ten_thousand_flows() -> None:
    frames = [build.udp(f"10.{n >> 8 & 255}.{n & 255}.1", 1024 + n, SERVER, 7000, b"hello") for n in range(10_000)]
    replies = [build.udp(SERVER, 7000, f"10.{n >> 8 & 255}.{n & 255}.1", 1024 + n, b"answer") for n in range(10_000)]
    found = build.read(frames + replies)
    assert len(found) == 10_000
    assert (found.side["packets"] == 1).all()
    assert found.flow["port0"].tolist() == list(range(1024, 11_024))
    assert found.flow["first_frame"].tolist() == list(range(1, 10_001))
    assert np.diff(found.piece_starts).tolist() == [2] * 10_000
    assert found.payload(int(found.pieces["arena"][19_999]), 6) == b"answer"


@pytest.mark.usefixtures("little_room")
def test_the_arena_and_the_pieces_grow() -> None:
    noise = random.Random(3)
    payloads = [noise.randbytes(1400) for _ in range(20_000)]
    frames = [build.udp(STATION, 1024 + n // 40, SERVER, 7000, payload) for n, payload in enumerate(payloads)]
    found = build.read(frames)
    assert len(found.arena) > 3
    kept = [found.payload(int(row["arena"]), int(row["kept"])) for row in found.pieces]
    assert len(kept) == 20_000
    assert kept == payloads


# -- laws -------------------------------------------------------------------------------------------------------

LINKTYPES = st.sampled_from([*LINKS, 189, 195, 999])


@given(LINKTYPES, st.lists(st.binary(max_size=90), max_size=12))
def test_random_packets_are_all_accounted_for(linktype: int, frames: list[bytes]) -> None:
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
    """A sound frame of which some bytes are others, or the end is missing."""
    frame = bytearray(draw(st.sampled_from(SOUND)))
    for _ in range(draw(st.integers(0, 3))):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    return bytes(frame[: draw(st.integers(0, len(frame)))] if draw(st.booleans()) else frame)


@given(st.lists(damaged(), max_size=12))
def test_damaged_packets_are_all_accounted_for(frames: list[bytes]) -> None:
    found = build.read(frames)
    assert build.accounted(found)
    assert found.counts.packets == len(frames)
    build.dissect_flows(found)


CUT = [
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
@pytest.mark.parametrize("frame", CUT)
def test_a_frame_cut_at_every_byte_is_its_flow_or_cut(frame: bytes) -> None:
    """Never another flow, and nothing that the sender is to blame for."""
    (whole,) = ends(build.read([frame]))
    for size in range(len(frame)):
        found = build.read_files(build.pcap([build.Packet(frame[:size], 0, len(frame))]))
        assert build.accounted(found)
        assert found.counts.truncated == 1
        assert ends(found) == [whole] or found.counts.unreadable == {"headers cut by the snap length": 1}
    reported = [build.Packet(each, at, len(frame)) for at, each in enumerate((frame, frame[: len(frame) // 2]))]
    assert set(ends(build.read_files(build.pcap(reported)))) == {whole}


@pytest.mark.parametrize("cut", [34, 38, 42, 54, 62, 66])
def test_an_icmp_error_whose_quotation_is_cut_opens_no_flow(cut: int) -> None:
    quoting = build.icmp_error(ROUTER, STATION, 3, 1, build.ethernet(UDP4))
    packets = [build.Packet(build.ethernet(UDP4), 0), build.Packet(quoting[:cut], 1, len(quoting))]
    found = build.read_files(build.pcap(packets))
    assert (len(found), found.counts.icmp_errors) == (1, int(cut == 66))
    assert sum(found.counts.unreadable.values()) == int(cut != 66)


def shifted(frame: bytes, ttl: int | None = None, identification: int | None = None) -> bytes:
    """An Ethernet frame of an IPv4 packet on another stretch of its way, or another packet of the same content."""
    changed = bytearray(frame)
    if identification is not None:
        changed[18:20] = identification.to_bytes(2, "big")
    if ttl is not None:
        changed[22] = ttl
    return bytes(changed)


PING = build.ethernet(build.ip4("10.0.0.2", "10.0.9.1", 17, build.udp_datagram(4000, 53, b"the same")))


def test_a_packet_captured_on_two_interfaces_counts_once() -> None:
    """On its way through a router a packet is seen with another time to live within an instant."""
    found = build.read_files(
        build.pcap(build.timed([shifted(PING, 64), shifted(PING, 63), shifted(PING, 62)], step=100_000))
    )
    assert found.side["packets"].tolist() == [[1, 0]]
    assert (found.counts.packets, found.counts.in_flows, found.counts.copies) == (3, 1, 2)
    assert build.accounted(found)


def test_one_mirror_may_show_a_packet_twice() -> None:
    found = build.read_files(build.pcap(build.timed([shifted(PING, 64, 77)] * 2, step=100_000)))
    assert (found.counts.in_flows, found.counts.copies) == (1, 1)


@pytest.mark.parametrize("at", [0, 7, 31, 32, 40, 100, 511, 1000, -1])
@pytest.mark.parametrize(("transport", "offset"), [("udp", 0), ("icmp", 0), ("tcp", 0), ("tcp", 3000)])
def test_what_is_forged_to_look_like_a_packet_is_no_copy(transport: str, offset: int, at: int) -> None:
    """It comes within the instant, with the identification and length of the true one, and differs in one byte."""
    genuine = bytes(1024)
    forged = bytearray(genuine)
    forged[at] ^= 0x80
    before: list[bytes] = []
    if transport == "tcp":
        before = [build.tcp("10.0.0.2", 4000, "10.0.9.1", 80, flags, 100) for flags in (2, 16)]
        before += [build.tcp("10.0.0.2", 4000, "10.0.9.1", 80, 24, 101, bytes(offset))] if offset else []
        first, second = (
            build.tcp("10.0.0.2", 4000, "10.0.9.1", 80, 24, 101 + offset, bytes(each)) for each in (genuine, forged)
        )
    elif transport == "udp":
        first, second = (build.udp("10.0.0.2", 4000, "10.0.9.1", 53, bytes(each)) for each in (genuine, forged))
    else:
        first, second = (build.echo("10.0.0.2", "10.0.9.1", 8, 1, bytes(each)) for each in (genuine, forged))
    copied = build.read_files(build.pcap(build.timed([*before, first, shifted(first, 63)], step=100_000)))
    assert copied.counts.copies == 1
    found = build.read_files(build.pcap(build.timed([*before, first, shifted(second, 63)], step=100_000)))
    assert (found.counts.in_flows, found.counts.copies) == (len(before) + 2, 0)
    assert build.accounted(found)


def test_copies_of_all_packets_of_a_conversation_are_known() -> None:
    """Also of those after which less of it is kept, or nothing."""
    data = b"\x16\x03\x03\x00\x03abc" + b"\x17\x03\x03\x02\0" + bytes(512)
    segments = [(2, 100, b""), (24, 101, data[:8]), (24, 109, data[8:]), (24, 109 + len(data), bytes(1400))]
    frames = [build.tcp("10.0.0.2", 4000, "10.0.9.1", 3001, *each) for each in segments]
    frames += [build.udp("10.0.0.2", 4000, "10.0.9.1", 53, number.to_bytes(4, "big")) for number in range(200)]
    twice = [copy for each in frames for copy in (each, shifted(each, 63))]
    found = build.read_files(build.pcap(build.timed(twice, step=1000)))
    assert (found.counts.in_flows, found.counts.copies) == (len(frames), len(frames))


def test_copies_that_come_after_many_other_packets_are_known() -> None:
    """A capture of two interfaces holds what each has received, a batch after the other."""
    frames = [
        build.tcp("10.0.0.2", 4000, "10.0.9.1", 3001, 24, 101 + 10 * number, number.to_bytes(10, "big"))
        for number in range(300)
    ]
    batches = [frames[start : start + 50] for start in range(0, len(frames), 50)]
    captured = [frame for batch in batches for frame in [*batch, *(shifted(frame, 63) for frame in batch)]]
    found = build.read_files(build.pcap(build.timed(captured, step=10_000)))
    assert (found.counts.in_flows, found.counts.copies) == (len(frames), len(frames))


def test_every_vlan_is_another_path() -> None:
    """VLANs 1 and 257 differ only above their low eight bits."""
    tagged = [PING[:12] + b"\x81\0" + vlan.to_bytes(2, "big") + PING[12:] for vlan in (1, 257)]
    unnumbered = [frame[:22] + b"\0\0" + frame[24:] for frame in tagged]
    found = build.read_files(build.pcap(build.timed(unnumbered, step=5_000_000)))
    assert (found.counts.in_flows, found.counts.copies) == (1, 1)


def test_what_a_sender_repeats_is_no_copy() -> None:
    again = [shifted(PING, 64, 77), shifted(PING, 64, 78)]
    assert build.read_files(build.pcap(build.timed(again, step=100_000))).counts.copies == 0
    later = [shifted(PING, 64, 77), shifted(PING, 64, 77)]
    assert build.read_files(build.pcap(build.timed(later, step=50_000_000))).counts.copies == 0
    unnumbered = [shifted(PING, 64, 0), shifted(PING, 64, 0)]
    assert build.read_files(build.pcap(build.timed(unnumbered, step=100_000))).counts.copies == 0
