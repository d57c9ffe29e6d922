"""Kept datagrams: what is unlike the others is kept and counted, wherever in a flow it comes."""

from __future__ import annotations

import random
import struct

import pytest

from analyzer.conversations import Conversation
from analyzer.heads import Direction
from analyzer.scanner import columns
from tests import build
from tests.build import SERVER, STATION
from tests.protocols import ike_messages, test_dhcp, test_dns
from tests.protocols.test_ntp import REQUEST

NOISE = random.Random(768)
DPD = ike_messages.encrypted(37, 2)[4:]
WEAK = ike_messages.offer((1, 12, 256), (3, 2, None), (2, 2, None), (4, 14, None))


def sent(*payloads: bytes, port: int = 53) -> Conversation:
    """A UDP flow of the station's datagrams."""
    return build.conversation([build.udp(STATION, 40000, SERVER, port, payload) for payload in payloads])


def kept(found: Conversation) -> list[bytes]:
    return [datagram.data for datagram in found.head.datagrams]


def query(name: str, kind: int = 1, identifier: int = 0x1234) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack(">6H", identifier, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


@pytest.mark.parametrize(
    ("port", "harmless", "other"),
    [
        (53, test_dns.ASKED_A, b"plaintext shell" * 80),
        (53, test_dns.ASKED_A, query("0123456789abcdef.t.evil.example")),
        (53, test_dns.ASKED_A, query("lns.lab.example", kind=16)),
        (500, DPD, WEAK),
        (4500, bytes(4) + DPD, bytes(4) + WEAK),
        (500, ike_messages.offer(), WEAK),
        (500, ike_messages.offer(), ike_messages.AGGRESSIVE[0]),
        (500, DPD, ike_messages.message(34, ike_messages.notify(14), flags=0x20)),
        (500, ike_messages.offer(), b"no IKE at all, but some other protocol"),
        (67, test_dhcp.message(test_dhcp.DISCOVER), test_dhcp.message(test_dhcp.DISCOVER + b"\xe0\x04data")),
        (123, REQUEST, b"\x16\x02" + bytes(40)),
    ],
)
@pytest.mark.parametrize("count", [64, 1000])
def test_a_datagram_of_a_new_class_is_kept_after_any_number(
    port: int, harmless: bytes, other: bytes, count: int
) -> None:
    found = sent(*(harmless[:-1] + bytes((harmless[-1],)) for _ in range(count)), other, port=port)
    assert kept(found)[-1] == other
    assert found.unlike == (2, 0)
    assert len(kept(found)) <= columns.MAX_OPENINGS + 1


def test_every_name_is_a_class_of_its_own_whatever_its_case() -> None:
    found = sent(*(query(f"{number}.example", identifier=number) for number in range(10) for _ in range(3)))
    assert found.unlike == (10, 0)
    assert sent(query("a.example"), query("A.eXample"), query("a.example", identifier=9)).unlike == (1, 0)


def test_kept_datagrams_of_new_classes_are_bounded_and_what_is_dropped_is_counted() -> None:
    frames = [build.udp(STATION, 40000, SERVER, 53, query(f"{number}.example")) for number in range(500)]
    found = build.read(frames)
    assert found.counts.unlike_dropped == 500 - columns.MAX_UNLIKE
    (conversation,) = build.conversations(frames)
    assert len(kept(conversation)) == columns.MAX_UNLIKE and conversation.unlike == (500, 0)


def pings(*data: bytes, kind: int = 8, version: int = 4) -> list[bytes]:
    """Frames of pings with one identifier."""
    if version == 4:
        return [build.echo(STATION, SERVER, kind, 7, content) for content in data]
    protocol, ends = 58, ("2001:db8::1", "2001:db8::2")
    bodies = [struct.pack(">BBHHH", kind, 0, 0, 7, 1) + content for content in data]
    return [build.ethernet(build.ip6(*ends, protocol, body)) for body in bodies]


@pytest.mark.parametrize(("kind", "version"), [(8, 4), (128, 6)])
def test_pings_with_other_data_are_counted_and_the_first_of_them_kept(kind: int, version: int) -> None:
    usual = [NOISE.randbytes(columns.ECHO_STAMP) + bytes(range(32)) for _ in range(100)]
    other = [NOISE.randbytes(56) for _ in range(2000)]
    found = build.conversation(pings(*usual, *other, kind=kind, version=version))
    assert found.unlike == (2001, 0)
    assert [data[8:] for data in kept(found)][-1] in other


def test_only_what_lies_behind_the_kept_sample_differs() -> None:
    data = [bytes(600) + NOISE.randbytes(600) for _ in range(50)]
    assert build.conversation(pings(*data)).unlike == (50, 0)


def test_replies_are_compared_with_all_requests() -> None:
    request = bytes(56)
    frames = [
        frame
        for number in range(200)
        for frame in (
            build.echo(STATION, SERVER, 8, 7, request),
            build.echo(SERVER, STATION, 0, 7, request if number < 100 else NOISE.randbytes(56)),
        )
    ]
    assert build.conversation(frames).mismatched == 100
    assert build.conversation(frames[:200]).mismatched == 0
    assert build.conversation(frames[1:2]).mismatched == 0  # its request may lie before the capture


def test_the_longest_run_of_datagrams_in_quick_succession_is_counted() -> None:
    second = 10**9
    times = [0, *range(10 * second, 20 * second, second), 100 * second]
    packets = [build.Packet(build.udp(STATION, 123, SERVER, 123, REQUEST), build.SECOND + time) for time in times]
    (found,) = build.read_files(build.pcap(packets)).side["rapid"]
    assert found.tolist() == [9, 0]


# -- ESP --------------------------------------------------------------------------------------------------------


def esp(spi: int, sequence: int, payload: bytes) -> bytes:
    return build.ethernet(build.ip4(STATION, SERVER, 50, struct.pack(">II", spi, sequence) + payload))


def inner(size: int = 60) -> bytes:
    """An IPv4 packet in clear, with a trailer and an ICV of 16 bytes."""
    return build.ip4("10.1.0.1", "10.1.0.2", 17, bytes(size - 20)) + bytes((1, 2, 2, 4)) + NOISE.randbytes(16)


def secrets(spi: int, count: int) -> list[bytes]:
    return [esp(spi, number, NOISE.randbytes(100)) for number in range(1, count + 1)]


def test_first_packets_of_every_spi_are_kept() -> None:
    frames = [*secrets(0x1000, 100), *secrets(0x2000, 100)]
    spis = [data[:4] for data in kept(build.conversation(frames))]
    assert spis == [b"\0\0\x10\0"] * columns.MAX_ESP_PACKETS + [b"\0\0\x20\0"] * columns.MAX_ESP_PACKETS


@pytest.mark.parametrize(
    "payload",
    [
        inner(),
        NOISE.randbytes(8) + inner(),
        NOISE.randbytes(16) + inner(),
        build.ip6("2001:db8::1", "2001:db8::2", 17, bytes(40)) + bytes(20),
        b"some text that anybody can read" * 3,
        b"A" * 92,
    ],
    ids=["IPv4", "behind 8 bytes", "behind 16 bytes", "IPv6", "text", "one value"],
)
def test_readable_payload_is_found_after_any_number_of_packets(payload: bytes) -> None:
    readable = [esp(0x1000, number, payload) for number in range(1001, 1021)]
    found = build.conversation([*secrets(0x1000, 1000), *readable])
    (association,) = found.head.associations
    assert (association.packets, association.readable) == (1020, 20)
    assert len(kept(found)) == columns.MAX_ESP_PACKETS + columns.MAX_READABLE
    assert kept(found)[-1][8:40] == payload[:32]


def test_readable_payload_is_found_behind_all_spis_that_are_told_apart() -> None:
    frames = [frame for spi in range(0x1000, 0x1100) for frame in secrets(spi, 2)]
    found = build.conversation([*frames, *(esp(0x2000, number, inner()) for number in range(5))])
    folded = found.head.associations[-1]
    assert folded.folded and folded.readable == 5
    assert found.head.datagrams[-1].direction is Direction.ORIGINATOR and kept(found)[-1][8] == 0x45


def test_random_bytes_are_hardly_ever_readable() -> None:
    found = build.conversation(secrets(0x1000, 20_000))
    assert found.head.associations[0].readable < 3
