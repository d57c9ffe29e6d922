"""Captures made to exhaust time or memory of their reader. Each function writes one file that grows with ``scale``.

``python -m tests.resource_limits NAME FILE [SCALE]`` writes one by hand.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import NameOID

from tests import build
from tests.benchmarks import payloads
from tests.build import ACK, FIN, SERVER, STATION, SYN

HEADER = build.pcap([])
BOMB = 500 * 16 * 65016
"""Bytes of an unpacked compression bomb at scale 1."""
SEGMENT = 1400
"""Payload bytes of a TCP segment."""


def write_frames(path: Path, frames: Iterable[bytes], linktype: int = 1) -> None:
    """Write a capture of frames, one per millisecond."""
    with path.open("wb") as file:
        file.write(build.pcap([], linktype))
        for number, frame in enumerate(frames):
            seconds, rest = divmod(number, 1000)
            file.write(struct.pack("<IIII", 1_700_000_000 + seconds, rest * 1000, len(frame), len(frame)) + frame)


def write_varied(path: Path, frame: bytes, count: int, fields: dict[int, npt.NDArray[np.uint32]]) -> None:
    """Write ``count`` copies of a frame; ``fields``: 32-bit numbers of every copy, by their offset in the frame."""
    with path.open("wb") as file:
        file.write(HEADER)
        record = np.frombuffer(build.pcap([build.Packet(frame, 1_700_000_000 * build.SECOND)])[len(HEADER) :], np.uint8)
        for start in range(0, count, 1 << 16):
            stop = min(count, start + (1 << 16))
            records = np.tile(record, (stop - start, 1))
            numbers = np.arange(start, stop, dtype=np.uint32)
            records[:, 0:4] = (1_700_000_000 + numbers // 1000).astype("<u4").view(np.uint8).reshape(-1, 4)
            records[:, 4:8] = (numbers % 1000 * 1000).astype("<u4").view(np.uint8).reshape(-1, 4)
            for offset, values in fields.items():
                at = 16 + offset
                records[:, at : at + 4] = values[start:stop].astype(">u4").view(np.uint8).reshape(-1, 4)
            file.write(records.tobytes())


def scattered(count: int, seed: int = 1) -> npt.NDArray[np.uint32]:
    """Distinct 32-bit numbers in no order."""
    return (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(seed)).astype(np.uint32)


def connection(
    port: int, payload: bytes, service: int, greeting: bytes = b"", station: str = STATION, segment: int = SEGMENT
) -> list[bytes]:
    """A TCP connection: an optional greeting of the server, payload of the client, and its FIN."""
    frames = [
        build.tcp(station, port, SERVER, service, SYN, 100),
        build.tcp(SERVER, service, station, port, SYN | ACK, 900),
        build.tcp(station, port, SERVER, service, ACK, 101),
    ]
    if greeting:
        frames.append(build.tcp(SERVER, service, station, port, ACK, 901, greeting))
    for at in range(0, len(payload), segment):
        frames.append(build.tcp(station, port, SERVER, service, ACK, 101 + at, payload[at : at + segment]))
    frames.append(build.tcp(station, port, SERVER, service, FIN | ACK, 101 + len(payload)))
    return frames


# -- framing ----------------------------------------------------------------------------------------------------


def declared_lengths(path: Path, scale: int = 1) -> None:
    """A record that declares 4 GB, after valid ones."""
    good = build.pcap(build.timed([build.tcp(STATION, 1, SERVER, 3001, SYN)] * 3))
    path.write_bytes(good + struct.pack("<IIII", 1, 1, 0xFFFFFFFF, 0xFFFFFFFF) + bytes(1000 * scale))


def declared_wire_lengths(path: Path, scale: int = 1) -> None:
    """Packets of 4 GB cut by the snap length, in IP packets whose length field is 0."""
    frame = build.ethernet(build.ip4(STATION, SERVER, 6, build.tcp_header(1, 3001, ACK), total=0))
    path.write_bytes(build.pcap(build.Packet(frame, number, 0xFFFFFFFF) for number in range(1000 * scale)))


def declared_blocks(path: Path, scale: int = 1) -> None:
    """A pcapng block that declares 4 GB."""
    good = build.section() + build.interface() + build.enhanced(build.tcp(STATION, 1, SERVER, 3001, SYN))
    path.write_bytes(good + struct.pack("<II", 6, 0xFFFFFFFC) + bytes(1000 * scale))


def empty_blocks(path: Path, scale: int = 1) -> None:
    """Blocks of unknown types without content."""
    path.write_bytes(
        build.section() + build.interface() + b"".join(build.block(77 + n, b"") for n in range(2)) * (50_000 * scale)
    )


def interfaces(path: Path, scale: int = 1) -> None:
    """Sections with a thousand interfaces of different link types each."""
    one = b"".join(build.interface(number) for number in range(1000))
    path.write_bytes((build.section() + one + build.enhanced(bytes(60), number=999)) * (20 * scale))


def sections(path: Path, scale: int = 1) -> None:
    """Very many sections with one packet each."""
    frame = build.tcp(STATION, 1, SERVER, 3001, SYN)
    path.write_bytes((build.section() + build.interface() + build.enhanced(frame)) * (20_000 * scale))


def option_lists(path: Path, scale: int = 1) -> None:
    """Interface descriptions of a million options each."""
    body = struct.pack("<HHI", 1, 0, 0) + build.option(2, b"") * 1_000_000
    path.write_bytes(build.section() + build.block(1, body) * (2 * scale) + build.enhanced(bytes(60)))


def name_records(path: Path, scale: int = 1) -> None:
    """Name resolution blocks of very many records."""
    body = b"".join(build.option(1, struct.pack(">I", number) + b"a\0b\0") for number in range(100_000))
    path.write_bytes(
        build.section() + build.interface() + build.block(4, body) * (3 * scale) + build.enhanced(bytes(60))
    )


def empty_records(path: Path, scale: int = 1) -> None:
    """Packets without bytes."""
    path.write_bytes(HEADER + bytes(16) * (1_000_000 * scale))


# -- compression ------------------------------------------------------------------------------------------------


def write_bomb(open_packed: Callable[[Path], Any], path: Path, scale: int) -> None:
    """Write a compressed capture of packets of zeros: half a gigabyte unpacked."""
    frame = build.tcp(STATION, 1, SERVER, 3001, SYN).ljust(65000, b"\0")
    piece = build.pcap([build.Packet(frame)])[len(HEADER) :] * 16
    with open_packed(path) as file:
        file.write(HEADER)
        for _ in range(BOMB // len(piece) * scale):
            file.write(piece)


def open_gzip(path: Path) -> Any:
    return gzip.open(path, "wb")


def open_bzip2(path: Path) -> Any:
    return bz2.open(path, "wb")


def open_xz(path: Path) -> Any:
    return lzma.open(path, "wb", preset=0)


def open_zstd(path: Path) -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.open(path, "wb")


def open_lz4(path: Path) -> Any:
    from lz4 import frame

    return frame.open(str(path), "wb")


# -- flows ------------------------------------------------------------------------------------------------------


def flood(path: Path, scale: int = 1) -> None:
    """Flows of one packet each, from forged addresses."""
    count = 400_000 * scale
    frame = build.udp(STATION, 1, SERVER, 9, b"x")
    write_varied(path, frame, count, {26: scattered(count)})


def port_scan(path: Path, scale: int = 1) -> None:
    """SYNs from forged addresses to the port of IEC 104 over TLS."""
    count = 60_000 * scale
    write_varied(
        path, build.tcp(STATION, 40000, SERVER, 3001, SYN, 1), count, {26: scattered(count), 38: scattered(count)}
    )


def many_stations(path: Path, scale: int = 1) -> None:
    """Hosts that all look like base stations."""
    frames: list[bytes] = []
    for number in range(4000 * scale):
        station = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        for service in (3001, 3002):
            frames += [
                build.tcp(station, 40000, SERVER, service, SYN, 100),
                build.tcp(SERVER, service, station, 40000, SYN | ACK, 900),
                build.tcp(station, 40000, SERVER, service, ACK, 101, HELLO),
            ]
    write_frames(path, frames)


def reopened(path: Path, scale: int = 1) -> None:
    """One connection opened again and again."""

    def frames() -> Iterator[bytes]:
        for number in range(100_000 * scale):
            yield build.tcp(STATION, 40000, SERVER, 3001, SYN, number)
            yield build.tcp(STATION, 40000, SERVER, 3001, ACK, number + 1)

    write_frames(path, frames())


# -- streams ----------------------------------------------------------------------------------------------------


HELLO = payloads.record(22, payloads.handshake(1, b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + b"\0\0"))
"""A ClientHello."""


def tls_records(path: Path, scale: int = 1) -> None:
    """TLS records of one byte, as many in each connection as its head holds: parts of one long handshake message."""
    message = payloads.handshake(11, bytes(3900))
    payload = HELLO + b"".join(payloads.record(22, message[at : at + 1]) for at in range(len(message)))
    stations = (f"10.1.{n >> 8}.{n & 255}" for n in range(256 * scale))
    write_frames(path, (f for station in stations for f in connection(40000, payload, 3001, station=station)))


def tls_alerts(path: Path, scale: int = 1) -> None:
    """TLS connections of nothing but alerts."""
    payload = HELLO + payloads.record(21, b"\1\0") * 3400
    stations = (f"10.1.{n >> 8}.{n & 255}" for n in range(320 * scale))
    write_frames(path, (f for station in stations for f in connection(40000, payload, 3001, station=station)))


def one_byte_segments(path: Path, scale: int = 1) -> None:
    """A stream of segments of one byte, the last first."""
    payload = payloads.record(22, b"\x0e") * 4096

    def frames() -> Iterator[bytes]:
        for n in range(10 * scale):
            yield from connection(2000 + n, b"", 3001)[:-1]
            for at in reversed(range(len(payload))):
                yield build.tcp(STATION, 2000 + n, SERVER, 3001, ACK, 101 + at, payload[at : at + 1])

    write_frames(path, frames())


def overlapping_segments(path: Path, scale: int = 1) -> None:
    """Segments that overlap with different data, before the first bytes of their stream arrive."""
    payload = b"\x16" + random.Random(1).randbytes(20000)

    def frames() -> Iterator[bytes]:
        for n in range(20 * scale):
            yield from connection(2000 + n, b"", 3001)[:-1]
            for at in range(2000):
                yield build.tcp(STATION, 2000 + n, SERVER, 3001, ACK, 102 + at * 7 % 2000, payload[at : at + 1200])
            yield build.tcp(STATION, 2000 + n, SERVER, 3001, ACK, 101, b"\x16\3\3")

    write_frames(path, frames())


GREETING = b"220 ready\r\n"


def ftp_control(path: Path, scale: int = 1) -> None:
    """One endless FTP control connection."""
    write_frames(path, connection(2000, b"NOOP\r\n" * (1_000_000 * scale), 21, GREETING))


def ftp_controls(path: Path, scale: int = 1) -> None:
    """FTP control connections with as many commands as are read of each."""
    payload = b"NOOP\r\n" * 43690
    write_frames(path, (f for n in range(16 * scale) for f in connection(2000 + n, payload, 21, GREETING)))


def ftp_transfers(path: Path, scale: int = 1) -> None:
    """One port that an FTP server announces five thousand times, and ten thousand connections to it."""
    frames = connection(2000, b"", 21)[:-1]
    reply = b"227 Entering Passive Mode (198,51,100,1,100,0)\r\n"
    text = b"".join(b"PASV\r\n" for n in range(5000 * scale))
    replies = b"220 x\r\n" + reply * 5000 * scale
    for at in range(0, max(len(text), len(replies)), SEGMENT):
        if text[at : at + SEGMENT]:
            frames.append(build.tcp(STATION, 2000, SERVER, 21, ACK, 101 + at, text[at : at + SEGMENT]))
        frames.append(build.tcp(SERVER, 21, STATION, 2000, ACK, 901 + at, replies[at : at + SEGMENT]))
    for n in range(10000 * scale):
        frames += [
            build.tcp(STATION, 10000 + n, SERVER, 25600, SYN, 100),
            build.tcp(SERVER, 25600, STATION, 10000 + n, SYN | ACK, 900),
            build.tcp(STATION, 10000 + n, SERVER, 25600, ACK, 101, b"%d" % n),
        ]
    frames.append(build.tcp(STATION, 2000, SERVER, 21, FIN | ACK, 101 + len(text)))
    write_frames(path, frames)


def http_requests(path: Path, scale: int = 1) -> None:
    """Connections with as many requests as a head holds."""
    write_frames(
        path, (f for n in range(200 * scale) for f in connection(2000 + n, b"GET / HTTP/1.1\r\n\r\n" * 500, 80))
    )


def iec104_frames(path: Path, scale: int = 1) -> None:
    """Connections full of the shortest APDUs."""
    write_frames(path, (f for n in range(500 * scale) for f in connection(2000 + n, payloads.s_frame(0) * 400, 2404)))


def certificate(path: Path, scale: int = 1) -> None:
    """Certificates of ten megabytes."""
    body = b"\x30\x84" + struct.pack(">I", 10_000_000) + bytes(10_000_000)
    chain = (len(body) + 3).to_bytes(3, "big") + len(body).to_bytes(3, "big") + body
    message = b"\x0b" + len(chain).to_bytes(3, "big") + chain
    records = b"".join(payloads.record(22, message[at : at + 16000]) for at in range(0, len(message), 16000))
    write_frames(path, (f for n in range(scale) for f in connection(2000 + n, records, 3001)))


def certificates(path: Path, scale: int = 1) -> None:
    """Chains of as many certificates as a head holds."""
    own = payloads.Authority().certificate
    chain = payloads.chain([own] * (20000 // (len(own) + 3)))
    records = SERVER_HELLO + b"".join(payloads.record(22, chain[at : at + 16000]) for at in range(0, len(chain), 16000))
    write_frames(path, (f for n in range(500 * scale) for f in connection(2000 + n, HELLO, 3001, records)))


SERVER_HELLO = payloads.record(22, payloads.handshake(2, b"\3\1" + bytes(32) + b"\0" + b"\0\5\0"))
"""A ServerHello of TLS 1.0 with a cipher suite of RC4."""


def wrong_certificates(path: Path, scale: int = 1) -> None:
    """Different certificates with several defects each: much to read and many findings."""
    key, name = rsa.generate_private_key(65537, 1024), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "0" * 12)])
    building = x509.CertificateBuilder(name, name, key.public_key(), 1)
    building = building.not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2027, 1, 1))
    own = building.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    def frames() -> Iterator[bytes]:
        for n in range(10_000 * scale):
            chain = payloads.chain([own.replace(b"0" * 12, b"%012d" % n)])
            station = f"10.4.{n // 32 >> 8 & 255}.{n // 32 & 255}"
            yield from connection(2000 + n % 32, HELLO, 3001, SERVER_HELLO + payloads.record(22, chain), station)

    write_frames(path, frames())


# -- tunnels and fragments --------------------------------------------------------------------------------------


def extension_headers(path: Path, scale: int = 1) -> None:
    """IPv6 packets of extension headers only."""
    chain = (b"\x3c\0" + bytes(6)) * 15 + b"\x3b\0" + bytes(6)
    frame = build.ethernet(build.ip6(build.STATION6, build.SERVER6, 60, chain))
    write_varied(path, frame, 30_000 * scale, {22: scattered(30_000 * scale)})


def nested_tunnels(path: Path, scale: int = 1) -> None:
    """60 levels of IP in IP."""
    packet = build.udp_datagram(1, 2, b"x")
    for _ in range(60):
        packet = build.ip4(STATION, SERVER, 4, packet)
    write_varied(path, build.ethernet(packet), 30_000 * scale, {26: scattered(30_000 * scale)})


def different_tunnels(path: Path, scale: int = 1) -> None:
    """VXLAN in VXLAN, in tunnels that differ in every packet."""
    count = 50_000 * scale
    packet = build.ip4(STATION, SERVER, 17, build.udp_datagram(5000, 9, b"x"))
    for _ in range(3):
        vxlan = b"\x08\0\0\0\0\0\x01\0" + build.ethernet(packet)
        packet = build.ip4(STATION, SERVER, 17, build.udp_datagram(4000, 4789, vxlan))
    write_varied(path, build.ethernet(packet), count, {46: scattered(count) & 0xFFFFFF00, 96: scattered(count, 7)})


def incomplete_fragments(path: Path, scale: int = 1) -> None:
    """First fragments of datagrams that are never completed."""
    count = 30_000 * scale
    packet = build.ip4(STATION, SERVER, 17, build.udp_datagram(1, 2, bytes(1200)), fragment=0x2000)
    write_varied(path, build.ethernet(packet), count, {16: scattered(count), 26: scattered(count)})


def small_fragments(path: Path, scale: int = 1) -> None:
    """Datagrams in fragments of eight bytes, in reverse order, the first one missing."""

    def frames() -> Iterator[bytes]:
        for n in range(20 * scale):
            packet = build.ip4(STATION, SERVER, 17, build.udp_datagram(1, 2, bytes(60000)), identification=n)
            yield from map(build.ethernet, reversed(build.fragments(packet, 8, n)[1:]))

    write_frames(path, frames())


# -- datagrams --------------------------------------------------------------------------------------------------


def associations(path: Path, scale: int = 1) -> None:
    """ESP packets between few hosts, each with its own SPI."""
    count = 200_000 * scale
    frame = build.ethernet(build.ip4(STATION, SERVER, 50, bytes(40)))
    hosts = (0x0A000000 + np.arange(count) // 64).astype(np.uint32)
    write_varied(path, frame, count, {26: hosts, 34: scattered(count) | 1})


def links(path: Path, scale: int = 1) -> None:
    """IEC 104 links whose segments leave a gap before them."""

    def frames() -> Iterator[bytes]:
        for n in range(20_000 * scale):
            station = f"10.2.{n >> 8}.{n & 255}"
            yield build.tcp(station, 40000, SERVER, 2404, SYN, 100)
            yield build.tcp(SERVER, 2404, station, 40000, SYN | ACK, 900)
            yield build.tcp(station, 40000, SERVER, 2404, ACK, 103, payloads.s_frame(0))
            yield build.tcp(SERVER, 2404, station, 40000, ACK, 903, payloads.s_frame(0))

    write_frames(path, frames())


def compression_pointers(path: Path, scale: int = 1) -> None:
    """DNS messages with names of maximum length, by pointers to pointers."""
    labels = b"\1a" * 120 + b"\0"
    message = struct.pack(">HHHHHH", 1, 0x8180, 1, 320, 0, 0) + labels + b"\0\1\0\1"
    for n in range(320):
        message += (
            struct.pack(">H", 0xC00C + 2 * (n % 100)) + struct.pack(">HHIH", 5, 1, 60, 2) + struct.pack(">H", 0xC00C)
        )
    write_frames(
        path,
        (
            build.udp(SERVER, 53, STATION, 2000 + n % 60000, struct.pack(">H", n & 0xFFFF) + message[2:4000])
            for n in range(500 * scale)
        ),
    )


def dns_queries(path: Path, scale: int = 1) -> None:
    """Questions for different names in as many flows as the flow table holds."""
    count = 200_000 * scale
    frame = build.udp(STATION, 2000, SERVER, 53, payloads.dns_query(1, "aaaaaaaa.example.org", 1))
    hosts = (0x0A000000 + np.arange(count) // 48).astype(np.uint32)
    letters = (scattered(count) & 0x0F0F0F0F) + np.uint32(0x61616161)
    write_varied(path, frame, count, {26: hosts, 55: letters})


def ike_payloads(path: Path, scale: int = 1) -> None:
    """IKE messages of the shortest payloads only."""
    chain = b"\x2b\0\0\4" * 1000
    message = (
        bytes(8).replace(b"\0", b"\7") + bytes(8) + struct.pack(">BBBBII", 43, 0x20, 34, 8, 0, 28 + len(chain)) + chain
    )
    count = 1000 * scale
    write_frames(path, (build.udp(f"10.3.{n >> 14}.{n >> 6 & 255}", 500, SERVER, 500, message) for n in range(count)))


def ike_proposals(path: Path, scale: int = 1) -> None:
    """IKE messages of the shortest transforms only."""
    transforms = b"\3\0\0\x08\1\0\0\x0c" * 250 + b"\0\0\0\x08\1\0\0\x0c"
    proposal = struct.pack(">BBHBBBB", 0, 0, 8 + len(transforms), 1, 1, 0, 251) + transforms
    payload = struct.pack(">BBH", 0, 0, 4 + len(proposal)) + proposal
    message = b"\7" * 8 + bytes(8) + struct.pack(">BBBBII", 33, 0x20, 34, 8, 0, 28 + len(payload)) + payload
    count = 1000 * scale
    write_frames(path, (build.udp(f"10.3.{n >> 14}.{n >> 6 & 255}", 500, SERVER, 500, message) for n in range(count)))


def gzip_bomb(path: Path, scale: int = 1) -> None:
    """A capture of zeros in gzip."""
    write_bomb(open_gzip, path, scale)


def bzip2_bomb(path: Path, scale: int = 1) -> None:
    """The same in bzip2, which expands it a million times."""
    write_bomb(open_bzip2, path, scale)


def xz_bomb(path: Path, scale: int = 1) -> None:
    """The same in xz."""
    write_bomb(open_xz, path, scale)


def zstd_bomb(path: Path, scale: int = 1) -> None:
    """The same in zstd."""
    write_bomb(open_zstd, path, scale)


def lz4_bomb(path: Path, scale: int = 1) -> None:
    """The same in lz4."""
    write_bomb(open_lz4, path, scale)


WRITERS: dict[Callable[..., None], str | None] = {
    declared_lengths: "TPE001",
    declared_wire_lengths: "TPE003",
    declared_blocks: "TPE001",
    empty_blocks: "TPE013",
    interfaces: "TPE002",
    sections: None,
    option_lists: "TPE001",
    name_records: "TPE001",
    empty_records: "TPE002",
    gzip_bomb: "TPE001",
    bzip2_bomb: "TPE001",
    xz_bomb: "TPE001",
    zstd_bomb: "TPE001",
    lz4_bomb: None,
    flood: "TPE002",
    port_scan: "TPE017",
    many_stations: None,
    reopened: None,
    tls_records: "TPE122",
    tls_alerts: "TPE016",
    one_byte_segments: None,
    overlapping_segments: None,
    ftp_control: "TPE315",
    ftp_controls: None,
    ftp_transfers: None,
    http_requests: None,
    iec104_frames: None,
    certificate: None,
    certificates: "TPE270",
    wrong_certificates: "TPE272",
    extension_headers: None,
    nested_tunnels: "TPE002",
    different_tunnels: None,
    incomplete_fragments: "TPE009",
    small_fragments: "TPE009",
    associations: "TPE016",
    links: "TPE016",
    compression_pointers: None,
    dns_queries: None,
    ike_payloads: "TPE122",
    ike_proposals: "TPE203",
}
"""Every capture, with the check that must fire on it: it reports what was dropped, or proves that content was read."""


def main() -> None:
    name, path, *scale = sys.argv[1:]
    next(writer for writer in WRITERS if writer.__name__ == name)(Path(path), *map(int, scale))


if __name__ == "__main__":
    main()
