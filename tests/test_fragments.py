"""IP fragments: in every order, missing, doubled, overlapping, and in floods."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import fragments
from analyzer.conversations import Conversation
from analyzer.heads import Datagram
from tests import build
from tests.build import RESOLVER, SERVER, SERVER6, STATION, STATION6

PAYLOAD = bytes(range(256)) * 12
PACKETS = {
    4: build.ip4(STATION, SERVER, 17, build.udp_datagram(500, 500, PAYLOAD)),
    6: build.ip6(STATION6, SERVER6, 17, build.udp_datagram(500, 500, PAYLOAD)),
}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def parts(version: int, size: int = 1024, identification: int = 1) -> list[bytes]:
    """Ethernet frames with the fragments of a datagram: 3080 bytes in pieces."""
    return [build.ethernet(part) for part in build.fragments(PACKETS[version], size, identification)]


def only_datagram(found: Conversation) -> Datagram:
    (datagram,) = found.head.datagrams
    return datagram


@VERSIONS
def test_every_order_gives_the_whole_datagram_once(version: int) -> None:
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
def test_copies_of_fragments_stay_in_their_flow(version: int) -> None:
    """As on a bridge, where a capture of all interfaces sees each frame twice."""
    doubled = [frame for frame in parts(version) for _ in range(2)]
    found = build.conversation(doubled)
    assert only_datagram(found).data == PAYLOAD
    assert found.packets == (8, 0)
    assert found.notes == ("fragments",)


@VERSIONS
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_datagram_that_lacks_a_fragment_is_cut_and_not_contradictory(version: int, lost: int) -> None:
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


def test_a_fragment_that_the_capture_cut_ends_the_datagram() -> None:
    frames = [build.Packet(frame[:100], index, len(frame)) for index, frame in enumerate(parts(4))]
    found = build.converse(build.read_files(build.pcap(frames)))
    assert [each.packets for each in found] == [(4, 0)]
    datagram = only_datagram(found[0])
    assert (datagram.data, datagram.length) == (PAYLOAD[: 100 - 42], len(PAYLOAD))


def fragment(offset: int, data: bytes, more: bool, protocol: int = 17) -> bytes:
    return build.ethernet(
        build.ip4(STATION, SERVER, protocol, data, identification=9, fragment=more << 13 | offset // 8)
    )


def test_of_overlapping_fragments_the_first_bytes_win() -> None:
    datagram = build.udp_datagram(500, 500, b"A" * 40)
    found = build.conversation(
        [fragment(0, datagram[:24], True), fragment(16, b"B" * 16, True), fragment(32, b"C" * 16, False)]
    )
    assert only_datagram(found).data == b"A" * 16 + b"B" * 8 + b"C" * 16
    assert found.notes == ("overlapping fragments",)


def test_a_teardrop_is_survived() -> None:
    datagram = build.udp_datagram(500, 500, b"A" * 28)
    found = build.conversation([fragment(0, datagram, True), fragment(24, b"B" * 4, False)])
    assert found.packets == (2, 0)
    assert only_datagram(found).data == b"A" * 20


def test_a_tiny_first_fragment_hides_no_tcp_flags() -> None:
    """RFC 1858: eight bytes of TCP header in the first fragment, the flags in the second."""
    segment = build.tcp_header(50000, 443, build.SYN, 7)
    found = build.conversation([fragment(0, segment[:8], True, 6), fragment(8, segment[8:], False, 6)])
    assert (found.responder.port, found.originator_certain, found.packets) == (443, True, (2, 0))


def test_a_datagram_that_is_too_long_is_no_crash() -> None:
    """The ping of death: offsets beyond what a length field can say."""
    frames = [fragment(0, build.udp_datagram(500, 500, bytes(1000)), True), fragment(65528, bytes(1400), False)]
    found = build.read(frames)
    assert build.accounted(found)
    assert len(found) == 1


def test_evidence_names_the_file_of_each_fragment() -> None:
    packets = build.timed(parts(4))
    found = build.converse(build.read_files(build.pcap(packets[:1]), build.pcap(packets[1:3]), build.pcap(packets[3:])))
    assert [(each.first_frame, each.last_frame, each.packets) for each in found] == [((0, 1), (2, 1), (4, 0))]
    left = build.converse(build.read_files(build.pcap(packets[:2]), build.pcap(packets[2:3])))
    assert [(each.first_frame, each.last_frame, each.packets) for each in left] == [((0, 1), (1, 1), (3, 0))]


def test_vlan_is_told_once() -> None:
    frames = [frame[:12] + b"\x81\0\0\x07" + frame[12:] for frame in parts(4)]
    assert build.conversation(frames).notes == ("vlan 7", "fragments")


def test_a_flood_of_incomplete_datagrams_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    add = fragments.Fragments.add

    def watched(self: fragments.Fragments, *arguments: object) -> object:
        nonlocal most
        result = add(self, *arguments)  # type: ignore[arg-type]
        most = max(most, len(self.pending))
        return result

    monkeypatch.setattr(fragments.Fragments, "add", watched)
    frames = (
        build.ethernet(build.ip4(STATION, SERVER, 17, bytes(16), identification=number, fragment=1 << 13))
        for number in range(10_000)
    )
    found = build.read(frames)
    assert most <= fragments.PENDING + 1
    assert build.accounted(found)
    assert found.tally.in_flows == 10_000


def test_endless_fragments_of_one_datagram_take_no_time() -> None:
    part = fragment(8, bytes(8), True)
    frames = [fragment(65520, bytes(8), False), *(fragment(16 * (1 + n % 2000), bytes(8), True) for n in range(6000))]
    began = time.monotonic()
    found = build.read([fragment(0, bytes(8), True), part, *frames])
    assert time.monotonic() - began < 5
    assert build.accounted(found)


def test_large_incomplete_datagrams_do_not_pile_up() -> None:
    pending = fragments.Fragments()
    packet = build.ip4(STATION, SERVER, 17, bytes(60000), fragment=1 << 13)
    for number in range(3000):
        identified = packet[:4] + number.to_bytes(2, "big") + packet[6:]
        pending.add(identified, None, 0, ())  # type: ignore[arg-type]
    assert pending.held <= fragments.PENDING_BYTES + 65536
    assert pending.held == sum(datagram.held for datagram in pending.pending.values())


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
    assert found.tally.packets == len(frames)
