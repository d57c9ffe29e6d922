"""IP fragments: in any order, missing, duplicated, overlapping, and in floods."""

from __future__ import annotations

import itertools
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.conversations import Conversation
from analyzer.heads import Datagram
from analyzer.scanner import columns, fragments
from tests import build
from tests.build import RESOLVER, SERVER, SERVER6, STATION, STATION6

PAYLOAD = bytes(range(256)) * 12
PACKETS = {
    4: build.ip4(STATION, SERVER, 17, build.udp_datagram(500, 500, PAYLOAD)),
    6: build.ip6(STATION6, SERVER6, 17, build.udp_datagram(500, 500, PAYLOAD)),
}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def parts(version: int, size: int = 1024, identification: int = 1) -> list[bytes]:
    """Ethernet frames with the fragments of a datagram of 3080 bytes."""
    return [build.ethernet(part) for part in build.fragments(PACKETS[version], size, identification)]


def only_datagram(found: Conversation) -> Datagram:
    (datagram,) = found.head.datagrams
    return datagram


@VERSIONS
def test_fragments_in_any_order_give_the_datagram_once(version: int) -> None:
    for order in itertools.permutations(parts(version)):
        found = build.conversation(order)
        datagram = only_datagram(found)
        assert (datagram.data, datagram.length) == (PAYLOAD, len(PAYLOAD))
        assert (found.transport, found.originator.port, found.responder.port) == ("udp", 500, 500)
        assert (found.packets, found.bytes) == ((4, 0), (sum(map(len, order)), 0))
        assert found.payload == (len(PAYLOAD), 0)
        assert found.notes == ("fragments",)
        assert (found.first_frame.number, found.last_frame.number, datagram.frame.number) == (1, 4, 4)


@VERSIONS
def test_interleaved_datagrams_are_kept_apart(version: int) -> None:
    other = build.fragments(PACKETS[version][:-1] + b"!", 1024, 2)
    frames = [frame for pair in zip(parts(version), map(build.ethernet, other), strict=True) for frame in pair]
    found = build.conversation(frames)
    assert [datagram.data for datagram in found.head.datagrams] == [PAYLOAD, PAYLOAD[:-1] + b"!"]
    assert found.packets == (8, 0)


@VERSIONS
def test_copies_of_fragments_count_in_their_flow(version: int) -> None:
    """A capture of all interfaces of a bridge has every frame twice."""
    doubled = [frame for frame in parts(version) for _ in range(2)]
    found = build.conversation(doubled)
    assert only_datagram(found).data == PAYLOAD
    assert found.packets == (8, 0)
    assert found.notes == ("fragments",)


@VERSIONS
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_datagram_that_lacks_a_fragment_is_truncated_not_malformed(version: int, lost: int) -> None:
    frames = parts(version)
    del frames[lost]
    found = build.conversation(frames)
    datagram = only_datagram(found)
    assert datagram.data == PAYLOAD[: lost * 1024 - 8]
    assert datagram.length == len(PAYLOAD)
    assert found.packets == (3, 0)
    assert not found.dissection.malformed


@VERSIONS
def test_fragments_without_the_first_have_no_ports(version: int) -> None:
    found = build.conversation(parts(version)[1:])
    assert (found.transport, found.originator.port, found.responder.port) == ("udp", 0, 0)
    assert (found.packets, found.head.datagrams) == ((3, 0), ())
    assert found.notes == ("fragments without their first",)


def test_a_truncated_fragment_truncates_the_datagram() -> None:
    frames = [build.Packet(frame[:100], index, len(frame)) for index, frame in enumerate(parts(4))]
    found = build.dissect_flows(build.read_files(build.pcap(frames)))
    assert [conversation.packets for conversation in found] == [(4, 0)]
    datagram = only_datagram(found[0])
    assert (datagram.data, datagram.length) == (PAYLOAD[: 100 - 42], len(PAYLOAD))


def fragment(offset: int, data: bytes, more: bool, protocol: int = 17, version: int = 4) -> bytes:
    if version == 6:
        header = struct.pack(">BBHI", protocol, 0, offset | more, 9)
        return build.ethernet(build.ip6(STATION6, SERVER6, 44, header + data))
    return build.ethernet(
        build.ip4(STATION, SERVER, protocol, data, identification=9, fragment=more << 13 | offset // 8)
    )


DATAGRAM = build.udp_datagram(500, 500, b"A" * 40)
TRICKS = {
    "other bytes": [(0, DATAGRAM[:24], True), (16, b"B" * 16, True), (32, DATAGRAM[32:], False)],
    "the same bytes": [(0, DATAGRAM[:24], True), (16, DATAGRAM[16:32], True), (32, DATAGRAM[32:], False)],
    "longer": [(0, DATAGRAM[:16], True), (0, DATAGRAM[:24], True), (24, DATAGRAM[24:], False)],
    "shorter": [(0, DATAGRAM[:24], True), (0, DATAGRAM[:16], True), (24, DATAGRAM[24:], False)],
    "around": [(16, b"B" * 8, True), (0, DATAGRAM[:40], True), (40, DATAGRAM[40:], False)],
    "within": [(32, DATAGRAM[32:], False), (0, DATAGRAM[:40], True)],
    "two ends": [(24, b"B" * 24, False), (40, b"C" * 16, False), (0, DATAGRAM[:24], True)],
    "behind the end": [(40, b"B" * 16, True), (24, DATAGRAM[24:], False), (0, DATAGRAM[:24], True)],
}


@VERSIONS
@pytest.mark.parametrize("trick", TRICKS)
def test_overlaps_are_noted_and_counted(trick: str, version: int) -> None:
    found = build.read([fragment(*part, version=version) for part in TRICKS[trick]])
    assert (found.counts.overlapping_datagrams, found.counts.incomplete_datagrams) == (1, 0)
    (only,) = build.dissect_flows(found)
    assert only.notes == ("overlapping fragments",)
    assert (only.transport, only.originator.port, only.responder.port) == ("udp", 500, 500)
    assert only.packets == (len(TRICKS[trick]), 0)
    assert len(only.head.datagrams) == (version == 4)  # receivers drop such an IPv6 datagram (RFC 5722)


def test_the_note_of_an_overlap_remains_with_the_flow() -> None:
    later = [build.ethernet(part) for part in build.fragments(PACKETS[4], 1024, 77)]
    found = build.conversation([fragment(*part) for part in TRICKS["around"]] + later)
    assert found.notes == ("overlapping fragments", "fragments")


@VERSIONS
def test_copies_and_reused_identifications_are_no_overlap(version: int) -> None:
    """Identifications wrap around: a later datagram has that of one whose fragments were lost."""
    copies = build.read([frame for frame in parts(version) for _ in range(3)])
    assert (copies.counts.overlapping_datagrams, copies.counts.incomplete_datagrams) == (0, 0)
    other = [build.ethernet(part) for part in build.fragments(PACKETS[version][:-2000] + bytes(2000), 1024)]
    packets = [build.Packet(frame, at * 10**6) for at, frame in enumerate(parts(version)[:3])]
    packets += [build.Packet(frame, fragments.TIMEOUT * 2 + at * 10**6) for at, frame in enumerate(other)]
    found = build.read_files(build.pcap(packets))
    assert (found.counts.overlapping_datagrams, found.counts.incomplete_datagrams) == (0, 1)
    (only,) = build.dissect_flows(found)
    assert (only.packets, len(only.head.datagrams)) == ((7, 0), 2)


def test_a_reused_identification_after_the_timeout_is_another_datagram() -> None:
    packets = [
        build.Packet(frame, later + at * 10**6)
        for later in (0, fragments.TIMEOUT * 2)
        for at, frame in enumerate(parts(4))
    ]
    (only,) = build.dissect_flows(build.read_files(build.pcap(packets)))
    assert [datagram.data for datagram in only.head.datagrams] == [PAYLOAD, PAYLOAD]


def test_only_the_first_ipv6_fragment_declares_the_protocol() -> None:
    """RFC 8200, section 4.5: the next header of the others may differ and does not count."""
    found = build.conversation([fragment(24, DATAGRAM[24:], False, 6, 6), fragment(0, DATAGRAM[:24], True, 17, 6)])
    assert (found.transport, found.responder.port, found.notes) == ("udp", 500, ("fragments",))
    assert only_datagram(found).data == b"A" * 40


def test_options_before_and_after_the_fragment_header_are_skipped() -> None:
    options, udp = b"\x11\0\x01\x04\0\0\0\0", build.udp_datagram(500, 500, b"A" * 24)
    whole = build.ip6(STATION6, SERVER6, 60, options + udp)
    frames = []
    for part in build.fragments(whole, 16):
        extended = b"\x2c\0\x01\x04\0\0\0\0" + part[40:]
        frames.append(build.ethernet(build.ip6(STATION6, SERVER6, 0, extended)))
    found = build.conversation(frames)
    assert (found.transport, found.responder.port, found.packets) == ("udp", 500, (3, 0))
    assert only_datagram(found).data == b"A" * 24


@VERSIONS
def test_atomic_fragments_are_whole_packets(version: int) -> None:
    """RFC 6946; also on the slow path, inside a tunnel."""
    atomic = fragment(0, DATAGRAM, False, version=version)
    tunnel = build.ethernet(
        build.ip4("10.0.0.1", "10.0.0.2", 47, struct.pack(">HH", 0, 0x800 if version == 4 else 0x86DD) + atomic[14:])
    )
    found = build.conversation([atomic, tunnel])
    assert (found.packets, found.notes) == ((2, 0), ("gre",))
    assert [datagram.data for datagram in found.head.datagrams] == [b"A" * 40] * 2


@VERSIONS
@pytest.mark.parametrize("protocol", [6, 17])
def test_an_incomplete_transport_header_has_ports(version: int, protocol: int) -> None:
    segment = build.tcp_header(500, 443, build.SYN, 7) if protocol == 6 else build.udp_datagram(500, 443, bytes(8))
    found = build.read([fragment(0, segment[:8], True, protocol, version)])
    assert (found.counts.unreadable, found.counts.incomplete_datagrams) == ({}, 1)
    (only,) = build.dissect_flows(found)
    assert (only.originator.port, only.responder.port, only.notes) == (500, 443, ("fragments",))


@VERSIONS
def test_a_first_fragment_truncated_at_every_byte(version: int) -> None:
    frame = parts(version)[0]
    for size in range(100):
        found = build.read_files(build.pcap([build.Packet(frame[:size], 0, len(frame))]))
        assert build.accounted(found)
        if len(found):
            (only,) = build.dissect_flows(found)
            assert (only.transport, only.originator.port, only.responder.port) == ("udp", 500, 500)
        else:
            assert found.counts.unreadable == {"headers cut by the snap length": 1}


def test_of_overlapping_fragments_the_first_to_arrive_win() -> None:
    found = build.conversation(
        [fragment(0, DATAGRAM[:24], True), fragment(16, b"B" * 16, True), fragment(32, b"C" * 16, False)]
    )
    assert only_datagram(found).data == b"A" * 16 + b"B" * 8 + b"C" * 16
    assert found.notes == ("overlapping fragments",)


def test_a_teardrop_is_read_up_to_the_overlap() -> None:
    datagram = build.udp_datagram(500, 500, b"A" * 28)
    found = build.conversation([fragment(0, datagram, True), fragment(24, b"B" * 4, False)])
    assert found.packets == (2, 0)
    assert only_datagram(found).data == b"A" * 20


def test_tcp_flags_in_the_second_fragment_are_read() -> None:
    """RFC 1858: eight bytes of TCP header in the first fragment, the flags in the second."""
    segment = build.tcp_header(50000, 443, build.SYN, 7)
    found = build.conversation([fragment(0, segment[:8], True, 6), fragment(8, segment[8:], False, 6)])
    assert (found.responder.port, found.originator_certain, found.packets) == (443, True, (2, 0))


def test_fragments_past_the_largest_datagram_are_noted() -> None:
    """The ping of death: offsets above what a length field can declare."""
    for version in (4, 6):
        frames = [
            fragment(0, build.udp_datagram(500, 500, bytes(1000)), True, version=version),
            fragment(65528, bytes(1400), False, version=version),
        ]
        found = build.read(frames)
        assert build.accounted(found)
        assert (found.counts.overlapping_datagrams, found.counts.incomplete_datagrams) == (1, 1)
        (only,) = build.dissect_flows(found)
        assert (only.packets, only.notes) == ((2, 0), ("fragments past the largest datagram",))


def test_the_largest_datagram_is_read() -> None:
    for version, room in ((4, 65515), (6, 65535)):
        payload = bytes(room - 8)
        whole = build.ip(
            *((STATION, SERVER) if version == 4 else (STATION6, SERVER6)), 17, build.udp_datagram(500, 500, payload, 0)
        )
        found = build.conversation(map(build.ethernet, build.fragments(whole, 1400)))
        assert (found.payload, found.notes) == ((len(payload), 0), ("fragments",))


def test_frames_name_the_file_of_their_fragment() -> None:
    packets = build.timed(parts(4))
    found = build.dissect_flows(
        build.read_files(build.pcap(packets[:1]), build.pcap(packets[1:3]), build.pcap(packets[3:]))
    )
    assert [(conversation.first_frame, conversation.last_frame, conversation.packets) for conversation in found] == [
        ((0, 1), (2, 1), (4, 0))
    ]
    left = build.dissect_flows(build.read_files(build.pcap(packets[:2]), build.pcap(packets[2:3])))
    assert [(conversation.first_frame, conversation.last_frame, conversation.packets) for conversation in left] == [
        ((0, 1), (1, 1), (3, 0))
    ]


def test_the_vlan_is_noted_once() -> None:
    frames = [frame[:12] + b"\x81\0\0\x07" + frame[12:] for frame in parts(4)]
    assert build.conversation(frames).notes == ("vlan 7", "fragments")


def test_pending_datagrams_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    add = fragments.Reassembler.add

    def counting(self: fragments.Reassembler, *arguments: object) -> object:
        nonlocal most
        result = add(self, *arguments)  # type: ignore[arg-type]
        most = max(most, len(self.pending))
        return result

    monkeypatch.setattr(fragments.Reassembler, "add", counting)
    frames = (
        build.ethernet(build.ip4(STATION, SERVER, 17, bytes(16), identification=number, fragment=1 << 13))
        for number in range(10_000)
    )
    found = build.read(frames)
    assert most <= fragments.MAX_PENDING + 1
    assert build.accounted(found)
    assert found.counts.in_flows == 10_000
    assert found.counts.incomplete_datagrams == 10_000
    assert found.counts.abandoned_datagrams == 10_000 - fragments.MAX_PENDING


def test_fragments_of_one_datagram_are_limited() -> None:
    part = fragment(8, bytes(8), True)
    frames = [fragment(65520, bytes(8), False), *(fragment(16 * (1 + n % 2000), bytes(8), True) for n in range(6000))]
    began = time.monotonic()
    found = build.read([fragment(0, bytes(8), True), part, *frames])
    assert time.monotonic() - began < 5
    assert build.accounted(found)


def test_memory_of_pending_datagrams_is_limited() -> None:
    pending = fragments.Reassembler()
    packet = build.ip4(STATION, SERVER, 17, bytes(60000), fragment=1 << 13)
    carriers = (fragments.Carrier(np.zeros(1, columns.PACKET)[0], 0),)
    for number in range(3000):
        pending.add(fragments.IpPacket(packet[:4] + number.to_bytes(2, "big") + packet[6:], carriers, ()))
    assert pending.held <= fragments.MAX_PENDING_BYTES
    assert pending.abandoned == pending.incomplete == 3000 - len(pending.pending)
    waiting = pending.pending.values()
    assert pending.held == sum(
        datagram.held + fragments.FRAGMENT_OVERHEAD * len(datagram.carriers) for datagram in waiting
    )
    pending.flush()
    assert (pending.held, pending.pending) == (0, {})


def test_memory_of_empty_fragments_is_limited() -> None:
    pending = fragments.Reassembler()
    packet = build.ip4(STATION, SERVER, 17, b"", fragment=1 << 13 | 1)
    carriers = (fragments.Carrier(np.zeros(1, columns.PACKET)[0], 0),)
    for number in range(150_000):
        pending.add(fragments.IpPacket(packet[:4] + (number % 3000).to_bytes(2, "big") + packet[6:], carriers, ()))
    assert (
        sum(len(datagram.carriers) for datagram in pending.pending.values())
        <= fragments.MAX_PENDING_BYTES / fragments.FRAGMENT_OVERHEAD
    )


PIECES = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5), st.booleans()), max_size=12)


@given(PIECES)
def test_reassembly_equals_a_model_of_single_bytes(drawn: list[tuple[int, int, bool]]) -> None:
    """The model stores one byte per offset."""
    datagram = fragments.PartialDatagram(0, 17, ())
    model: dict[int, int] = {}
    total = None
    for number, (offset, words, last) in enumerate(drawn):
        data = bytes([number]) * (8 * words)
        one = fragments.Fragment((b"", 0, 0), 17, 8 * offset, data, last, False, b"E", 65515)
        datagram.add(one)
        if last and total is None:
            total = 8 * offset + len(data)
        for at, byte in enumerate(data, 8 * offset):
            model.setdefault(at, byte)
        model = {at: byte for at, byte in model.items() if total is None or at < total}
    assert datagram.held == len(model)
    assert datagram.complete == (total is not None and sorted(model) == list(range(total)))
    size = next(at for at in itertools.count() if at not in model)
    assert datagram.payload() == bytes(model[at] for at in range(size))
    assert datagram.offsets == sorted(datagram.parts)


@given(st.lists(st.tuples(st.integers(0, 12), st.binary(max_size=40), st.booleans(), st.integers(0, 2)), max_size=25))
def test_any_fragments_are_accounted_for(drawn: list[tuple[int, bytes, bool, int]]) -> None:
    frames = [
        build.ethernet(
            build.ip4(STATION, RESOLVER, 17, data, identification=number, fragment=more << 13 | offset or 1 << 13)
        )
        for offset, data, more, number in drawn
    ]
    found = build.read(frames)
    assert build.accounted(found)
    assert found.counts.packets == len(frames)
