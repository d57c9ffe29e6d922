"""TLS and SSH over the whole TCP stream: records are followed, ciphertext is sampled."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from analyzer.heads import SecureConnection, SecureDirection
from analyzer.scanner.columns import RECORD_BREAK
from tests import build
from tests.build import SERVER, STATION
from tests.protocols import test_ssh
from tests.protocols.tls_messages import RESUMED, TLS13, record

TEXT = b"GET /secret HTTP/1.1\r\nHost: example\r\nCookie: not a word of this is encrypted\r\n\r\n"
CLEAN = SecureDirection(0, 0, 0, 0, 0, 0, 0, 0, 0)
Segment = tuple[int, bytes]
"""Offset in the client's stream, and payload."""


def ciphertext(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def data(size: int = 300, seed: int = 1) -> bytes:
    """A record of application data."""
    return record(23, ciphertext(size, seed))


HANDSHAKE = TLS13.streams[0].data
DATA = b"".join(data(200 + seed, seed) for seed in range(40))
STREAM = HANDSHAKE + DATA
"""What a client sends: a handshake of TLS 1.3, then 40 records."""


def frames(segments: Sequence[Segment], answer: bytes = TLS13.streams[1].data, begins: bool = True) -> list[bytes]:
    """The frames of a connection to 3001 with an answer after the client's first segment."""
    found = []
    if begins:
        found = [
            build.tcp(STATION, 4000, SERVER, 3001, 2, 999),
            build.tcp(SERVER, 3001, STATION, 4000, 18, 4999),
            build.tcp(STATION, 4000, SERVER, 3001, 16, 1000),
        ]
    for index, (offset, payload) in enumerate(segments):
        found.append(build.tcp(STATION, 4000, SERVER, 3001, 24, 1000 + offset, payload))
        if index == 0 and answer:
            found.append(build.tcp(SERVER, 3001, STATION, 4000, 24, 5000, answer))
    return found


def found_in(segments: Sequence[Segment], begins: bool = True) -> SecureDirection:
    """What the scanner found in the client's direction."""
    secure = secure_of(frames(segments, begins=begins))
    return secure.directions[0] if secure else CLEAN


def secure_of(captured: Sequence[bytes]) -> SecureConnection | None:
    return build.conversation(captured).head.secure


def cut(stream: bytes, *sizes: int) -> list[Segment]:
    """A stream in segments of some sizes, in turn."""
    segments, offset = [], 0
    while offset < len(stream):
        size = sizes[len(segments) % len(sizes)]
        segments.append((offset, stream[offset : offset + size]))
        offset += size
    return segments


@pytest.mark.parametrize("sizes", [(1460,), (1,), (3, 2), (4, 1, 700), (5, 1300), (64000,)])
def test_sound_records_are_read_however_they_are_cut(sizes: tuple[int, ...]) -> None:
    assert found_in(cut(STREAM, *sizes)) == CLEAN


def test_retransmissions_with_other_borders_change_nothing() -> None:
    segments = cut(STREAM, 1000)
    again = [(max(0, offset - 300), STREAM[max(0, offset - 300) : offset + 500]) for offset, _ in segments]
    assert found_in([part for pair in zip(segments, again, strict=True) for part in pair]) == CLEAN


@pytest.mark.parametrize("place", range(len(cut(STREAM, 900))))
def test_a_lost_segment_breaks_nothing(place: int) -> None:
    segments = cut(STREAM, 900)
    found = found_in(segments[:place] + segments[place + 1 :])
    assert (found.breaks, found.clear, found.short, found.losses) == (0, 0, 0, 0)


@pytest.mark.parametrize("place", range(1, len(cut(STREAM, 900)) - 1))
def test_segments_out_of_order_break_nothing(place: int) -> None:
    segments = cut(STREAM, 900)
    segments[place], segments[place + 1] = segments[place + 1], segments[place]
    found = found_in(segments)
    assert (found.breaks, found.clear, found.short, found.losses) == (0, 0, 0, 0)


@pytest.mark.parametrize("snap", [54, 60, 64, 70, 96, 128, 200])
def test_frames_that_are_cut_break_nothing(snap: int) -> None:
    whole = build.timed(frames(cut(STREAM, 700)))
    packets = [packet._replace(frame=packet.frame[:snap], wire=len(packet.frame)) for packet in whole]
    flows = build.read_files(build.pcap(packets))
    for stream in flows.secure_streams.reshape(-1):
        assert not stream["breaks"] and not stream["clear"] and not stream["short"] and not stream["losses"]


def test_a_stream_without_its_beginning_is_read_from_the_next_record_on() -> None:
    found = found_in(cut(STREAM[len(HANDSHAKE) + 100 :], 333), begins=False)
    assert (found.breaks, found.clear, found.short, found.losses) == (0, 0, 0, 0)


@pytest.mark.parametrize("records", [0, 1, 39])
@pytest.mark.parametrize("size", [3, 700, 100_000])
def test_text_after_records_breaks_the_framing_at_its_first_byte(records: int, size: int) -> None:
    before = HANDSHAKE + b"".join(data(seed=seed) for seed in range(records))
    secure = secure_of(frames(cut(before + TEXT * 20, size)))
    assert secure is not None
    (first,) = (event for event in secure.events if event.kind == RECORD_BREAK)
    assert (first.offset, first.value >> 32) == (len(before), TEXT[0])


@pytest.mark.parametrize("records", [0, 1, 39])
@pytest.mark.parametrize("size", [333, 1460, 100_000])
def test_text_inside_of_a_record_is_found(records: int, size: int) -> None:
    before = HANDSHAKE + b"".join(data(seed=seed) for seed in range(records))
    found = found_in(cut(before + record(23, TEXT) + DATA, size))
    assert found.clear and not found.breaks


def test_text_in_short_records_is_found() -> None:
    assert found_in(cut(STREAM + b"".join(record(23, b"ls -la\r\n") for _ in range(3)), 700)).short == 3
    found = found_in(cut(STREAM + b"".join(record(23, b"cat /etc/passwd; id\r\n") for _ in range(90)), 700))
    assert found.clear or 8 * found.high < found.sampled


def test_bytes_that_no_cipher_makes_are_found_after_much_ciphertext() -> None:
    much = b"".join(data(1000, seed) for seed in range(500))
    binary = b"".join(record(23, bytes(range(100)) * 8) for _ in range(60))
    assert found_in(cut(HANDSHAKE + much + binary, 1460)).clear


def test_text_is_found_though_a_decoy_made_a_gap() -> None:
    decoy = (len(STREAM) + 10_000, b"\0")
    text = [(len(STREAM) + offset, part) for offset, part in cut(TEXT * 8, len(TEXT))]
    assert found_in([*cut(STREAM, 1460), decoy, *text]).clear


def test_much_content_without_a_record_is_lost() -> None:
    gap = [(len(STREAM) + 40, part) for part in [ciphertext(1000)]]
    rest = [(len(STREAM) + 1040 + offset, part) for offset, part in cut(b"\x80" * 120_000, 1460)]
    assert found_in([*cut(STREAM, 1460), *gap, *rest]).losses == 1


def test_heartbeats_are_counted() -> None:
    assert found_in(cut(HANDSHAKE + record(24, b"\1\0\x10" + b"x" * 40) * 2, 1460)).heartbeats == 2


def test_a_counter_as_nonce_is_ciphertext() -> None:
    records = b"".join(record(23, bytes(8) + ciphertext(25, seed)) for seed in range(2000))
    handshake = RESUMED.streams[0].data
    secure = secure_of(frames(cut(handshake + records, 1460), RESUMED.streams[1].data))
    assert secure is None


def test_ssh_is_sampled_after_its_head() -> None:
    client, server = (stream.data for stream in test_ssh.EXAMPLES[0].streams)
    sound = client + ciphertext(40_000)
    assert secure_of(frames(cut(sound, 1460), server)) is None
    secure = secure_of(frames([*cut(sound + TEXT, 1460), (len(sound + TEXT), TEXT)], server))
    assert secure is not None and secure.directions[0].clear


@pytest.mark.parametrize("first", [1, 2, 3, 5])
def test_content_is_told_though_the_first_segment_has_few_bytes(first: int) -> None:
    client, server = (stream.data for stream in test_ssh.EXAMPLES[0].streams)
    ssh = client + ciphertext(40_000) + TEXT * 40
    for stream, answer in ((STREAM + TEXT, TLS13.streams[1].data), (ssh, server)):
        secure = secure_of(frames([(0, stream[:first]), (first, stream[first:])], answer))
        assert secure is not None or stream is ssh
        segments = [(first + offset, part) for offset, part in cut(stream[first:], 1460)]
        assert secure_of(frames([(0, stream[:first]), *segments], answer)) is not None
