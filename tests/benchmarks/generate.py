"""Write a capture of many base stations for measurements: the same arguments give the same bytes.

``python -m tests.benchmarks.generate OUT.pcap --stations 400 --packets 2000000``

A quarter of the stations each lives by IPsec, TLS, plain and Basics Station. What happens at start-up, pings, DNS,
NTP, DHCP and short connections is scripted packet by packet; the remaining packets go through the long flows (ESP,
IEC 104, LNS) and a transfer (software download) per station, computed as columns. ``--repeat K`` keeps the flows
and lets the long ones and the transfers run K times as long, with K times as many packets.

Two further kinds measure what one protocol costs: ``--kind tls-heads --flows 100000`` is nothing but TLS connections
that end with their handshake, no two with the same bytes; ``--kind dns --packets 1000000`` nothing but lookups, a
share of them of names that are never asked for again.
"""

from __future__ import annotations

import argparse
import random
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks import payloads as say

BEGIN = 1_795_327_200  # 2026-11-22T06:00:00Z
SECOND = 1_000_000  # times are microseconds since BEGIN
MSS = 1460
TCP, UDP, ICMP, ESP = 6, 17, 1, 50
FIN, SYN, PSH, ACK = 1, 2, 8, 16
CLIENT, SERVER = 0, 1
CHUNK = 1 << 15

CORE, SECOND_CORE = "10.0.9.1", "10.0.9.2"
RESOLVER, CLOCK, LEASES, BROADCAST, NOBODY = "10.0.9.53", "10.0.9.123", "10.0.9.67", "255.255.255.255", "0.0.0.0"
OUIS = ("7076ff", "000800", "001558", "647fda", "ac1f09", "24e124")

Column = npt.NDArray[Any]


def address(text: str) -> int:
    return int(IPv4Address(text))


@dataclass
class Pool:
    """All payload bytes, each stored once at an even place."""

    data: bytearray = field(default_factory=lambda: bytearray(2))
    known: dict[bytes, int] = field(default_factory=dict)

    def add(self, payload: bytes) -> int:
        """Where the payload stands."""
        place = self.known.get(payload)
        if place is None:
            place = self.known[payload] = len(self.data)
            self.data += payload + bytes(len(payload) % 2)
        return place


@dataclass
class Packets:
    """Columns of packets; ``lead`` bytes at the payload's beginning overwrite what the pool has there (zeros)."""

    time: array[int] = field(default_factory=lambda: array("q"))
    flow: array[int] = field(default_factory=lambda: array("i"))
    side: array[int] = field(default_factory=lambda: array("B"))
    place: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("i"))
    seq: array[int] = field(default_factory=lambda: array("I"))
    ack: array[int] = field(default_factory=lambda: array("I"))
    flags: array[int] = field(default_factory=lambda: array("B"))

    def add(
        self, time: float, flow: int, side: int, place: int, length: int, seq: int = 0, ack: int = 0, flags: int = 0
    ) -> None:
        self.time.append(int(time * SECOND))
        self.flow.append(flow)
        self.side.append(side)
        self.place.append(place)
        self.length.append(length)
        self.seq.append(seq & 0xFFFFFFFF)
        self.ack.append(ack & 0xFFFFFFFF)
        self.flags.append(flags)


@dataclass
class Step:
    """One packet of a long flow's pattern."""

    side: int
    place: int = 0
    length: int = 0


Lead = Callable[[npt.NDArray[np.int64], npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


@dataclass
class Bulk:
    """A long flow's packets: a pattern repeated between two times."""

    flow: int
    weight: float
    begin: float
    end: float
    pattern: Sequence[Step]
    seq: tuple[int, int] = (0, 0)
    lead: Lead | None = None
    """From the packets' index within their side, and their sides, to the bytes that lead each payload."""
    closing: tuple[int, int] | None = None
    """Places, in the scripted packets, of the first and behind the last packet that follow the bulk."""


@dataclass
class World:
    """Everything that is going to happen."""

    rng: random.Random
    duration: float
    pool: Pool = field(default_factory=Pool)
    packets: Packets = field(default_factory=Packets)
    bulks: list[Bulk] = field(default_factory=list)
    flows: list[tuple[int, int, int, int, int, bytes, bytes]] = field(default_factory=list)
    """(protocol, client, server, client port, server port, client MAC, server MAC)."""

    def flow(self, protocol: int, client: Station, server: str, sport: int = 0, dport: int = 0) -> int:
        self.flows.append((protocol, client.address, address(server), sport, dport, client.mac, server_mac(server)))
        return len(self.flows) - 1

    def datagram(self, time: float, flow: int, side: int, payload: bytes) -> None:
        self.packets.add(time, flow, side, self.pool.add(payload), len(payload))


def server_mac(server: str) -> bytes:
    return b"\xff" * 6 if server == BROADCAST else bytes.fromhex("5254000a") + IPv4Address(server).packed[2:]


@dataclass
class Station:
    number: int
    mode: str
    address: int
    mac: bytes
    port: int = 32768

    @property
    def lrr(self) -> int:
        return int.from_bytes(self.mac[2:], "big")

    def next_port(self) -> int:
        self.port += 1
        return self.port


class Connection:
    """A TCP connection that is scripted packet by packet."""

    def __init__(self, world: World, station: Station, server: str, port: int, begin: float) -> None:
        self.world = world
        self.flow = world.flow(TCP, station, server, station.next_port(), port)
        self.now = begin
        self.seq = [world.rng.getrandbits(32), world.rng.getrandbits(32)]
        options = world.pool.add(b"\x02\x04\x05\xb4\x01\x01\x04\x02")
        self.packet(CLIENT, SYN, options, 8)
        self.packet(SERVER, SYN | ACK, options, 8, 0.0003)
        self.packet(CLIENT, ACK, pause=0.03)

    def packet(self, side: int, flags: int, place: int = 0, length: int = 0, pause: float = 0.0) -> None:
        self.now += pause
        seq, other = self.seq[side], self.seq[1 - side]
        self.world.packets.add(self.now, self.flow, side, place, length, seq, other if flags & ACK else 0, flags)
        self.seq[side] += 1 if flags & (SYN | FIN) else length

    def send(self, side: int, payload: bytes, pause: float = 0.03) -> None:
        """A message in as many segments as it needs, and the acknowledgement."""
        place = self.world.pool.add(payload)
        for begin in range(0, len(payload), MSS):
            length = min(MSS, len(payload) - begin)
            last = begin + length == len(payload)
            self.packet(side, ACK | (PSH if last else 0), place + begin, length, pause if begin == 0 else 0.0001)
        self.packet(1 - side, ACK, pause=0.0004 if side == CLIENT else 0.03)

    def talk(self, messages: Sequence[tuple[int, bytes]], pause: float = 0.03) -> None:
        for side, payload in messages:
            self.send(side, payload, pause)

    def tls(self, server_chain: Sequence[bytes], client_chain: Sequence[bytes] | None) -> None:
        flights = say.tls_handshake(self.world.rng, server_chain, client_chain)
        self.talk(list(zip((CLIENT, SERVER, CLIENT, SERVER), flights, strict=True)))

    def bulk(self, weight: float, end: float, pattern: Sequence[Step], lead: Lead | None = None) -> Bulk:
        """Leave the rest of the time up to ``end`` to a pattern."""
        seq = (self.seq[0] & 0xFFFFFFFF, self.seq[1] & 0xFFFFFFFF)
        bulk = Bulk(self.flow, weight, self.now + 0.1, end, pattern, seq, lead)
        self.world.bulks.append(bulk)
        self.now = end
        return bulk

    def close(self, by: int = CLIENT) -> None:
        self.packet(by, FIN | ACK, pause=0.05)
        self.packet(1 - by, FIN | ACK, pause=0.03)
        self.packet(by, ACK, pause=0.001)


# -- what stations do -------------------------------------------------------------------------------------------


@dataclass
class Content:
    """Payload that all stations share: certificates and the patterns of long flows."""

    authority: say.Authority
    chain: tuple[bytes, bytes]
    records: Sequence[Step]
    """Uplinks, downlinks and acknowledgements inside TLS."""
    download: Sequence[Step]
    """TLS records of ten full segments each, from the server."""
    file: Sequence[Step]
    """A file in the clear, from the server."""

    @classmethod
    def made(cls, world: World) -> Content:
        rng, pool = world.rng, world.pool
        authority = say.Authority()

        def step(side: int, payload: bytes) -> Step:
            return Step(side, pool.add(payload), len(payload))

        records: list[Step] = []
        for turn in range(24):
            records += [step(CLIENT, say.tls_data(rng, rng.randrange(140, 240))), Step(SERVER)]
            if turn % 6 == 5:
                records += [step(SERVER, say.tls_data(rng, rng.randrange(110, 160))), Step(CLIENT)]
        stream = b"".join(say.tls_data(rng, 10 * MSS) for _ in range(8))
        return cls(
            authority,
            (authority.issue(say.CORE_NAME, 0x5E, 2), authority.certificate),
            records,
            segments(pool.add(stream), len(stream)),
            segments(pool.add(rng.randbytes(80 * MSS)), 80 * MSS),
        )


def segments(place: int, length: int) -> list[Step]:
    """A pattern of full segments from the server, every second one acknowledged."""
    steps: list[Step] = []
    for index, offset in enumerate(range(0, length, MSS)):
        steps.append(Step(SERVER, place + offset, MSS))
        if index % 2:
            steps.append(Step(CLIENT))
    return steps


def every(world: World, period: float) -> Iterator[float]:
    """Times about a period apart."""
    time = world.rng.uniform(0, period)
    while time < world.duration - 1:
        yield time
        time += period + world.rng.uniform(0, 0.5)


def housekeeping(world: World, station: Station) -> None:
    """DNS, NTP, DHCP and, where an LRR runs, pings."""
    rng = world.rng
    if station.mode != "basics":
        for time in every(world, 61):
            flow, identifier = world.flow(ICMP, station, CORE), rng.getrandbits(16)
            body = struct.pack("<QQ", int((BEGIN + time) * 1e6), 0) + bytes(range(16, 56))
            world.datagram(time, flow, CLIENT, say.icmp_echo(8, identifier, 1, body))
            world.datagram(time + 0.0003, flow, SERVER, say.icmp_echo(0, identifier, 1, body))
    for time in every(world, 60):
        flow = world.flow(UDP, station, RESOLVER, rng.randrange(32768, 61000), 53)
        name, identifiers = f"lrc{1 + station.number % 2}.example.com", (rng.getrandbits(16), rng.getrandbits(16))
        address_a = IPv4Address(CORE).packed
        for step, (identifier, kind, answer) in enumerate(zip(identifiers, (1, 28), (address_a, None), strict=True)):
            world.datagram(time + 0.0001 * step, flow, CLIENT, say.dns_query(identifier, name, kind))
            world.datagram(time + 0.002 + 0.0001 * step, flow, SERVER, say.dns_answer(identifier, name, kind, answer))
    clock = world.flow(UDP, station, CLOCK, 123, 123)
    for time in every(world, 64):
        world.datagram(time, clock, CLIENT, say.ntp_request(BEGIN + time))
        world.datagram(time + 0.0005, clock, SERVER, say.ntp_reply(BEGIN + time + 0.0005))
    lease(world, station)


def lease(world: World, station: Station) -> None:
    """A renewal; every fourth station also starts without an address."""
    own, server = station.address.to_bytes(4, "big"), IPv4Address(LEASES).packed
    transaction, renewal = world.rng.getrandbits(32), world.flow(UDP, station, LEASES, 68, 67)
    time = world.duration * world.rng.uniform(0.3, 0.9)
    world.datagram(time, renewal, CLIENT, say.dhcp(3, transaction, station.mac, own, bytes(4), server))
    world.datagram(time + 0.001, renewal, SERVER, say.dhcp(5, transaction, station.mac, own, own, server))
    if station.number % 4 == 0:
        nobody = Station(station.number, station.mode, address(NOBODY), station.mac)
        asking = world.flow(UDP, nobody, BROADCAST, 68, 67)
        time = world.duration * world.rng.uniform(0.0, 0.01)
        for kind, answer in ((1, 2), (3, 5)):
            question = say.dhcp(kind, transaction, station.mac, bytes(4), bytes(4), server)
            world.datagram(time, asking, CLIENT, question)
            reply = say.dhcp(answer, transaction, station.mac, bytes(4), own, server)
            world.datagram(time + 0.001, renewal, SERVER, reply)
            time += 0.05


def key_installer(world: World, station: Station, begin: float) -> None:
    """A short SFTP session before everything else."""
    session = ssh(world, station, begin)
    for _ in range(6):
        session.send(CLIENT, world.rng.randbytes(76))
        session.send(SERVER, world.rng.randbytes(1236))
    session.close(SERVER)


def reverse_ssh(world: World, station: Station, begin: float) -> None:
    """Near-silent, with bursts that the server begins."""
    session = ssh(world, station, begin)
    for _ in range(8):
        session.send(SERVER, world.rng.randbytes(108), pause=world.duration / 25)
        session.send(CLIENT, world.rng.randbytes(340))
    session.close()


def ssh(world: World, station: Station, begin: float) -> Connection:
    session = Connection(world, station, CORE, 22, begin)
    session.talk(say.ssh_opening(world.rng))
    for size in (44, 68, 60, 132):
        session.send(CLIENT, world.rng.randbytes(size))
        session.send(SERVER, world.rng.randbytes(size + 8))
    return session


def ipsec(world: World, station: Station, content: Content) -> None:
    """Certificate checks, key installer, IKE with MOBIKE; ESP raw, or in UDP for every second station."""
    rng, begin, end = world.rng, world.duration * world.rng.uniform(0, 0.02), world.duration
    key_installer(world, station, begin)
    for port in (3001, 3002, 3003):
        check = Connection(world, station, CORE, port, begin + 3 + (port - 3001))
        check.tls(content.chain, None)
        check.send(CLIENT, say.close_notify(rng))
        check.close()
    begin += 8
    nat = station.number // 4 % 2 == 1
    spis, marker = rng.randbytes(16), bytes(4)
    first, second = world.flow(UDP, station, CORE, 500, 500), world.flow(UDP, station, CORE, 4500, 4500)
    world.datagram(begin, first, CLIENT, say.ike_init(rng, spis, response=False))
    world.datagram(begin + 0.004, first, SERVER, say.ike_init(rng, spis, response=True))
    for number, exchange, size in ((1, 35, 1208), (2, 37, 60), (3, 37, 60), (4, 36, 260), (5, 37, 60)):
        begin += 0.05 if number == 1 else end / 8
        question = say.ike_encrypted(rng, spis, exchange, 0x08, number, size)
        answer = say.ike_encrypted(rng, spis, exchange, 0x20, number, size - 44 if size > 60 else size)
        world.datagram(begin, second, CLIENT, marker + question)
        world.datagram(begin + 0.01, second, SERVER, marker + answer)
    if nat:
        for time in every(world, 20):
            if time > world.duration * 0.03 + 10:
                world.datagram(time, second, CLIENT, b"\xff")
    tunnel = second if nat else world.flow(ESP, station, CORE)
    identifiers = np.array([rng.randrange(0xC0000000, 0xCFFFFFFF) for _ in range(2)], dtype=np.uint64)

    def lead(index: npt.NDArray[np.int64], side: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """SPI and sequence number."""
        head = identifiers[side] << np.uint64(32) | (index + 1).astype(np.uint64)
        return head.astype(">u8").view(np.uint8).reshape(-1, 8)

    def esp(side: int, inner: int) -> Step:
        """An AES-GCM packet with an inner packet of some bytes: IV, ciphertext padded to 4, tag."""
        size = 8 + 8 + (inner + 2 + 3) // 4 * 4 + 16
        return Step(side, world.pool.add(bytes(8) + rng.randbytes(size - 8)), size)

    pattern: list[Step] = []
    for turn in range(20):
        pattern += [esp(CLIENT, rng.randrange(150, 260)), esp(SERVER, 52)]
        if turn % 3 == 2:
            pattern += [esp(SERVER, 1400), esp(SERVER, 1400), esp(CLIENT, 52)]
    world.bulks.append(Bulk(tunnel, 1.0, world.duration * 0.02 + 9, end, pattern, lead=lead))


def tls(world: World, station: Station, content: Content) -> None:
    """IEC 104 in TLS on 3001, a download on 3002, uploads on 3003."""
    rng, begin, end = world.rng, world.duration * world.rng.uniform(0, 0.02), world.duration
    chain = (content.authority.issue(f"lrr-{station.lrr:08x}", 0x1000 + station.number, 3 + station.number),)
    key_installer(world, station, begin)
    link = Connection(world, station, CORE, 3001, begin + 3)
    link.tls(content.chain, chain)
    link.bulk(0.7, end, content.records)
    download = Connection(world, station, CORE, 3002, end * rng.uniform(0.1, 0.6))
    download.tls(content.chain, chain)
    download.bulk(0.3, download.now + end * 0.1, content.download)
    download.close()
    for _ in range(6):
        upload = Connection(world, station, CORE, 3003, end * rng.uniform(0.1, 0.95))
        upload.tls(content.chain, chain)
        for size in (60, 900, 900, 200):
            upload.send(CLIENT, say.tls_data(rng, 29 + size))
            upload.send(SERVER, say.tls_data(rng, 29 + 44))
        upload.send(CLIENT, say.close_notify(rng))
        upload.close()


def plain(world: World, station: Station, content: Content) -> None:
    """IEC 104 on 2404, FTP transfers, reverse SSH; every second station has a silent standby link."""
    rng, begin, end = world.rng, world.duration * world.rng.uniform(0, 0.02), world.duration
    lrr = station.lrr
    link = Connection(world, station, CORE, 2404, begin)
    link.talk([(CLIENT, say.TESTFR_ACT), (SERVER, say.TESTFR_CON)], pause=0.5)
    link.talk([(SERVER, say.STARTDT_ACT), (CLIENT, say.STARTDT_CON)])
    for number, (kind, size) in enumerate(((1, 32), (2, 40), (3, 60), (30, 264))):
        link.send(CLIENT, say.i_frame(number, 0, say.lrr_asdu(rng, lrr, kind, 0x8000, size)))
    link.send(SERVER, say.s_frame(4))
    pattern: list[Step] = []

    def frame(side: int, size: int) -> Step:
        asdu = say.lrr_asdu(rng, lrr, 0, 1 if side == CLIENT else 2, size)
        payload = bytes(6) + asdu  # start, length and counters come as the lead
        return Step(side, world.pool.add(payload), len(payload))

    for turn in range(8):  # eight uplinks and a downlink, which carries the acknowledgement
        pattern += [frame(CLIENT, 75 + rng.randrange(18, 60)), Step(SERVER)]
        if turn == 7:
            pattern += [frame(SERVER, 75 + 20), Step(CLIENT)]
    sizes = np.array([step.length for step in pattern])
    sides = np.array([step.side for step in pattern])

    def lead(index: npt.NDArray[np.int64], side: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Start byte, length and the two counters; ``index`` is of no use as empty segments count in it."""
        place = np.arange(len(index)) % len(pattern)
        full = sizes[place] > 0
        sent = [np.cumsum(full & (sides[place] == way)) - (full & (sides[place] == way)) for way in (CLIENT, SERVER)]
        send = np.where(side == CLIENT, sent[CLIENT] + 4, sent[SERVER]) % say.MODULUS
        receive = np.where(side == CLIENT, sent[SERVER], sent[CLIENT] + 4) % say.MODULUS
        out = np.zeros((len(index), 6), np.uint8)
        out[:, 0], out[:, 1] = 0x68, np.maximum(sizes[place] - 2, 0)
        out[:, 2:4] = (send << 1).astype("<u2").view(np.uint8).reshape(-1, 2)
        out[:, 4:6] = (receive << 1).astype("<u2").view(np.uint8).reshape(-1, 2)
        return out

    link.bulk(0.7, end, pattern, lead)
    if station.number // 4 % 2 == 1:
        standby = Connection(world, station, SECOND_CORE, 2404, begin + 0.01)
        while standby.now < end - 30:
            standby.talk([(CLIENT, say.TESTFR_ACT)], pause=21)
            standby.talk([(SERVER, say.TESTFR_CON)], pause=0.001)
    ftp(world, station, begin + 10, end, None)
    ftp(world, station, end * rng.uniform(0.1, 0.5), end, content.file)
    if rng.random() < 0.3:
        reverse_ssh(world, station, end * rng.uniform(0.2, 0.4))


def ftp(world: World, station: Station, begin: float, end: float, file: Sequence[Step] | None) -> None:
    """A download of ``file``, or without one a small upload."""
    rng, port = world.rng, world.rng.randrange(30000, 60000)
    control = Connection(world, station, CORE, 21, begin)
    login = "220 (vsFTPd 3.0.5)", "USER ftp", "331 Please specify the password.", "PASS ftp", "230 Login successful."
    rest = "TYPE I", "200 Switching to Binary mode.", "EPSV", f"229 Entering Extended Passive Mode (|||{port}|)"
    for index, line in enumerate(login + rest):
        control.send(SERVER if index % 2 == 0 else CLIENT, line.encode() + b"\r\n")
    data = Connection(world, station, CORE, port, control.now)
    if file is not None:
        control.send(CLIENT, b"RETR lrr-2.8.10-wirmaar.tar.gz\r\n")
        control.send(SERVER, b"150 Opening BINARY mode data connection.\r\n")
        data.now = control.now
        data.bulk(0.3, data.now + end * 0.1, file)
        data.close(SERVER)
    else:
        control.send(CLIENT, b"STOR UPLOAD_LRR/RFSCAN/rfscan_1.csv.gz\r\n")
        control.send(SERVER, b"150 Ok to send data.\r\n")
        data.now = control.now
        data.send(CLIENT, rng.randbytes(5000))
        data.close(CLIENT)
    control.now = data.now
    for side, line in ((SERVER, "226 Transfer complete."), (CLIENT, "QUIT"), (SERVER, "221 Goodbye.")):
        control.send(side, line.encode() + b"\r\n")
    control.close(SERVER)


def basics(world: World, station: Station, content: Content) -> None:
    """CUPS on 443, router-info and the LNS connection on 4443; the transfer is a firmware that CUPS brings."""
    rng, begin, end = world.rng, world.duration * world.rng.uniform(0, 0.02), world.duration
    chain = (content.authority.issue(f"bs-{station.lrr:08x}", 0x1000 + station.number, 3 + station.number),)
    cups = Connection(world, station, CORE, 443, begin)
    cups.tls(content.chain, chain)
    cups.send(CLIENT, say.tls_data(rng, 420))
    cups.bulk(0.3, cups.now + end * 0.1, content.download)
    cups.close()
    discovery = Connection(world, station, CORE, 4443, cups.now + 1)
    discovery.tls(content.chain, chain)
    for size in (240, 160, 90, 220, 35):
        discovery.send(CLIENT, say.tls_data(rng, size))
        discovery.send(SERVER, say.tls_data(rng, size + 20))
    discovery.close()
    link = Connection(world, station, CORE, 4443, discovery.now + 1)
    link.tls(content.chain, chain)
    link.bulk(0.7, end, content.records)


MODES: dict[str, Callable[[World, Station, Content], None]] = {
    "ipsec": ipsec,
    "tls": tls,
    "plain": plain,
    "basics": basics,
}


# -- from what happens to bytes ---------------------------------------------------------------------------------

RECORD = np.dtype(
    [
        *(("seconds", "<u4"), ("micros", "<u4"), ("captured", "<u4"), ("original", "<u4")),
        *(("to", "u1", 6), ("from", "u1", 6), ("ethertype", ">u2")),
        *(("version", "u1"), ("tos", "u1"), ("total", ">u2"), ("id", ">u2"), ("fragment", ">u2")),
        *(("ttl", "u1"), ("protocol", "u1"), ("ip_sum", ">u2"), ("source", ">u4"), ("destination", ">u4")),
        *(("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4")),
        *(("offset", "u1"), ("flags", "u1"), ("window", ">u2"), ("tcp_sum", ">u2"), ("urgent", ">u2")),
    ]
)
"""A pcap record's head, Ethernet, IPv4 and TCP. Of UDP, the two last fields stand in ``seq``."""
BEFORE_TRANSPORT = 16 + 14 + 20
HEADER = {TCP: 20, UDP: 8, ICMP: 0, ESP: 0}
FLOW = np.dtype(
    [
        *(("protocol", "u1"), ("client", "u4"), ("server", "u4"), ("sport", "u2"), ("dport", "u2")),
        *(("client_mac", "u1", 6), ("server_mac", "u1", 6)),
    ]
)


def script(stations: int, duration: float, seed: int) -> World:
    """Everything but the bulk of the long flows."""
    world = World(random.Random(seed), duration)
    content = Content.made(world)
    for number in range(stations):
        station = made_station(number)
        housekeeping(world, station)
        MODES[station.mode](world, station, content)
    return world


def spread(world: World, count: int, repeat: int, rng: np.random.Generator) -> dict[str, Column]:
    """All packets as columns: what was scripted, and ``count`` times ``repeat`` packets in the long flows."""
    shares = np.array([bulk.weight for bulk in world.bulks])
    edges = np.round(np.concatenate([[0], np.cumsum(shares) / shares.sum()]) * count).astype(int)
    parts: dict[str, list[Column]] = {name: [np.array(column)] for name, column in vars(world.packets).items()}
    parts["lead"] = [np.zeros((len(world.packets.time), 8), np.uint8)]
    parts["lead_length"] = [np.zeros(len(world.packets.time), np.uint8)]
    late = (repeat - 1) * world.duration
    last_bulk = {bulk.flow: bulk for bulk in world.bulks}
    for bulk, amount in zip(world.bulks, np.diff(edges) * repeat, strict=True):
        columns = long_flow(bulk, int(amount), bulk.end + late, rng)
        for name, column in columns.items():
            parts[name].append(column)
    whole = {name: np.concatenate(columns) for name, columns in parts.items()}
    after_bulk(whole, world, last_bulk, len(world.packets.time), late)
    order = np.argsort(whole["time"], kind="stable")
    return {name: column[order] for name, column in whole.items()}


def long_flow(bulk: Bulk, amount: int, end: float, rng: np.random.Generator) -> dict[str, Column]:
    index = np.arange(amount) % len(bulk.pattern)
    side = np.array([step.side for step in bulk.pattern], np.uint8)[index]
    length = np.array([step.length for step in bulk.pattern], np.int32)[index]
    sent = [np.where(side == way, length, 0).astype(np.int64) for way in (CLIENT, SERVER)]
    before = [np.cumsum(each) - each + bulk.seq[way] for way, each in enumerate(sent)]
    times = np.sort(rng.uniform(bulk.begin, max(end, bulk.begin + 1), amount)) * SECOND
    empty = np.flatnonzero((length == 0) & (np.arange(amount) > 0))
    times[empty] = np.minimum(times[empty], times[empty - 1] + 400)  # an acknowledgement comes soon
    lead, lead_length = np.zeros((amount, 8), np.uint8), np.zeros(amount, np.uint8)
    if bulk.lead is not None:
        within = np.where(side == CLIENT, np.cumsum(side == CLIENT), np.cumsum(side == SERVER)) - 1
        front = bulk.lead(within, side)
        lead[:, : front.shape[1]] = front
        lead_length[:] = np.where(length > 0, front.shape[1], 0)
    return {
        "time": times.astype(np.int64),
        "flow": np.full(amount, bulk.flow, np.int32),
        "side": side,
        "place": np.array([step.place for step in bulk.pattern], np.int64)[index],
        "length": length,
        "seq": np.where(side == CLIENT, before[CLIENT], before[SERVER]).astype(np.uint32),
        "ack": np.where(side == CLIENT, before[SERVER], before[CLIENT]).astype(np.uint32),
        "flags": np.where(length == MSS, ACK, ACK | np.where(length > 0, PSH, 0)).astype(np.uint8),
        "lead": lead,
        "lead_length": lead_length,
    }


def after_bulk(columns: dict[str, Column], world: World, bulks: dict[int, Bulk], scripted: int, late: float) -> None:
    """Move the scripted packets that follow a bulk (its FINs) behind it, in sequence numbers and in time."""
    flow, time, side = columns["flow"], columns["time"], columns["side"]
    sent = np.zeros((len(world.flows), 2), np.int64)
    np.add.at(sent, (flow[scripted:], side[scripted:]), columns["length"][scripted:])
    ends = np.full(len(world.flows), np.inf)
    for number, bulk in bulks.items():
        ends[number] = bulk.end * SECOND
    follow = np.flatnonzero((time[:scripted] >= ends[flow[:scripted]]) & (columns["flags"][:scripted] > 0))
    own, other = sent[flow[follow], side[follow]], sent[flow[follow], 1 - side[follow]]
    columns["seq"][follow] += own.astype(np.uint32)
    columns["ack"][follow] += other.astype(np.uint32)
    columns["time"][follow] += int(late * SECOND)


def fold(total: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """The Internet checksum (RFC 1071) of sums of 16-bit words."""
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return (total ^ np.uint64(0xFFFF)).astype(np.uint16)


def words(matrix: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The sum of each row's 16-bit words."""
    sums: npt.NDArray[np.uint64] = np.ascontiguousarray(matrix).view(">u2").sum(axis=1, dtype=np.uint64)
    return sums


class Assembler:
    """Turns columns of packets into pcap records."""

    def __init__(self, world: World) -> None:
        self.flows = np.array([tuple(map(plain_value, flow)) for flow in world.flows], FLOW)
        self.pool = np.frombuffer(bytes(world.pool.data), np.uint8)
        self.sums = np.concatenate([[0], np.cumsum(self.pool.view(">u2"), dtype=np.uint64)]).astype(np.uint64)

    def payload_sums(self, place: npt.NDArray[np.int64], length: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        half = self.sums[(place + length) // 2] - self.sums[place // 2]
        odd = np.where(length % 2, self.pool[np.minimum(place + length - 1, len(self.pool) - 1)], 0)
        sums: npt.NDArray[np.uint64] = half + (odd.astype(np.uint64) << np.uint64(8))
        return sums

    def records(self, columns: dict[str, Column], first: int) -> bytes:
        """The records of some packets; ``first`` is the number of packets before them."""
        flow, client = self.flows[columns["flow"]], columns["side"] == CLIENT
        time, place, length = columns["time"], columns["place"], columns["length"].astype(np.int64)
        count, protocol = len(time), flow["protocol"]
        is_tcp, is_udp = protocol == TCP, protocol == UDP
        header = np.where(is_tcp, 20, np.where(is_udp, 8, 0))
        padded = np.maximum(14 + 20 + header + length, 60)

        head = np.zeros(count, RECORD)
        head["seconds"], head["micros"] = BEGIN + time // SECOND, time % SECOND
        head["captured"] = head["original"] = padded
        head["from"] = np.where(client[:, None], flow["client_mac"], flow["server_mac"])
        head["to"] = np.where(client[:, None], flow["server_mac"], flow["client_mac"])
        head["ethertype"], head["version"] = 0x0800, 0x45
        head["total"], head["id"], head["fragment"] = 20 + header + length, (first + np.arange(count)) & 0xFFFF, 0x4000
        head["ttl"], head["protocol"] = np.where(client, 62, 64), protocol
        head["source"] = np.where(client, flow["client"], flow["server"])
        head["destination"] = np.where(client, flow["server"], flow["client"])
        raw = head.view(np.uint8).reshape(count, -1)
        head["ip_sum"] = fold(words(raw[:, 30:50]))

        head["sport"] = np.where(client, flow["sport"], flow["dport"])
        head["dport"] = np.where(client, flow["dport"], flow["sport"])
        head["seq"] = np.where(is_tcp, columns["seq"], (8 + length) << 16)
        options = np.where(columns["flags"] & SYN, length, 0)
        head["ack"], head["offset"] = columns["ack"], (20 + options) // 4 << 4
        head["flags"], head["window"] = columns["flags"], 0x7210
        total = self.payload_sums(place, length) + words(columns["lead"]) * (columns["lead_length"] > 0)
        total += words(raw[:, 42:50]) + protocol.astype(np.uint64) + (header + length).astype(np.uint64)
        head["tcp_sum"] = np.where(is_tcp, fold(total + words(raw[:, 50:70])), 0)
        udp_sum = fold(total + words(raw[:, 50:58]))
        head["seq"] |= np.where(is_udp, udp_sum, 0)

        begins = np.concatenate([[0], np.cumsum(16 + padded)])
        out = np.zeros(begins[-1], np.uint8)
        for kind, size in HEADER.items():
            chosen = np.flatnonzero(protocol == kind)
            scatter(out, begins[chosen], raw[chosen, : BEFORE_TRANSPORT + size])
        payload = begins[:-1] + BEFORE_TRANSPORT + header
        shift = np.repeat(place - np.concatenate([[0], np.cumsum(length)[:-1]]), length)
        target = np.repeat(payload - np.concatenate([[0], np.cumsum(length)[:-1]]), length)
        run = np.arange(len(shift))
        out[target + run] = self.pool[shift + run]
        for size in np.unique(columns["lead_length"]):
            chosen = np.flatnonzero(columns["lead_length"] == size)
            scatter(out, payload[chosen], columns["lead"][chosen, :size])
        return out.tobytes()


def plain_value(value: object) -> object:
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value


def scatter(out: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], rows: npt.NDArray[np.uint8]) -> None:
    """Write each row of bytes at its place."""
    if rows.size:
        out[begins[:, None] + np.arange(rows.shape[1])] = rows


def generate(
    path: Path,
    stations: int = 400,
    packets: int = 2_000_000,
    seed: int = 1,
    repeat: int = 1,
    duration: float | None = None,
) -> int:
    """Write the capture; returns the number of its packets. ``ValueError`` if ``packets`` are too few.

    ``duration`` in seconds: the shorter, the fewer of the flows that come anew every minute.
    """
    duration = duration or min(3600.0, max(300.0, 0.72 * packets / stations))
    world = script(stations, duration, seed)
    count = packets - len(world.packets.time)
    if count < 0:
        raise ValueError(f"{stations} stations need at least {len(world.packets.time)} packets")
    columns = spread(world, count, repeat, np.random.default_rng(seed))
    assembler = Assembler(world)
    total = len(columns["time"])
    with path.open("wb") as file:
        file.write(FILE_HEADER)
        for first in range(0, total, CHUNK):
            part = {name: column[first : first + CHUNK] for name, column in columns.items()}
            file.write(assembler.records(part, first))
    return total


BATCH = 2000
"""Flows of a batch: a capture of one kind is made batch by batch, so that memory does not follow its size."""
NEW_NAMES = 0.2
"""Share of lookups whose name nobody else asks for."""


def handshakes(world: World, stations: Sequence[Station], chain: Sequence[bytes], first: int) -> None:
    """TLS connections that are closed once the client went on: 12 packets each."""
    for number in range(first, first + BATCH):
        station = stations[number % len(stations)]
        begin = world.rng.uniform(0, world.duration)
        connection = Connection(world, station, CORE, (3001, 3002, 3003)[number % 3], begin)
        flights = say.tls_handshake(world.rng, chain, None)
        connection.talk(list(zip((CLIENT, SERVER, CLIENT), flights, strict=False)))
        connection.close()


def lookups(world: World, stations: Sequence[Station], chain: Sequence[bytes], first: int) -> None:
    """Questions for both kinds of addresses and their answers: 4 packets each."""
    rng = world.rng
    for number in range(first, first + BATCH):
        station = stations[number % len(stations)]
        begin = rng.uniform(0, world.duration)
        flow = world.flow(UDP, station, RESOLVER, station.next_port(), 53)
        name = f"node-{number}.example.com" if rng.random() < NEW_NAMES else f"lrc{1 + number % 2}.example.com"
        for step, (kind, answer) in enumerate(((1, IPv4Address(CORE).packed), (28, None))):
            identifier = rng.getrandbits(16)
            world.datagram(begin + 0.0001 * step, flow, CLIENT, say.dns_query(identifier, name, kind))
            world.datagram(begin + 0.002 + 0.0001 * step, flow, SERVER, say.dns_answer(identifier, name, kind, answer))


KINDS = {"tls-heads": handshakes, "dns": lookups}
PACKETS = {"tls-heads": 12, "dns": 4}
"""Of one flow."""


def generate_kind(path: Path, kind: str, stations: int, flows: int, seed: int) -> int:
    """Write a capture of nothing but one kind of flows, in whole batches; returns the number of its packets."""
    rng = random.Random(seed)
    authority = say.Authority()
    chain = (authority.issue(say.CORE_NAME, 0x5E, 2), authority.certificate)
    asking = [made_station(number) for number in range(stations)]
    total = 0
    with path.open("wb") as file:
        file.write(FILE_HEADER)
        for first in range(0, flows, BATCH):
            world = World(rng, BATCH / 100)
            KINDS[kind](world, asking, chain, first)
            columns = spread(world, 0, 1, np.random.default_rng(seed))
            columns["time"] += int(first / 100 * SECOND)
            file.write(Assembler(world).records(columns, total))
            total += len(columns["time"])
    return total


FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def made_station(number: int) -> Station:
    """The base station of a number."""
    mac = bytes.fromhex(OUIS[number % len(OUIS)]) + (0x100000 + number).to_bytes(3, "big")
    own = address("10.1.0.10") + number // 200 * 256 + number % 200
    return Station(number, tuple(MODES)[number % 4], own, mac)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a capture of many base stations for measurements.")
    parser.add_argument("out", type=Path, metavar="OUT.pcap")
    parser.add_argument("--kind", choices=("stations", *KINDS), default="stations")
    parser.add_argument("--stations", type=int, default=400)
    parser.add_argument("--flows", type=int, help="of one kind; without it, as many as make about --packets")
    parser.add_argument("--packets", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1, help="same flows, the long ones this many times as long")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="at most an hour, by the number of packets")
    arguments = parser.parse_args()
    try:
        if arguments.kind == "stations":
            total = generate(
                arguments.out,
                arguments.stations,
                arguments.packets,
                arguments.seed,
                arguments.repeat,
                arguments.duration,
            )
        else:
            flows = arguments.flows or arguments.packets // PACKETS[arguments.kind]
            total = generate_kind(arguments.out, arguments.kind, arguments.stations, flows, arguments.seed)
    except ValueError as error:
        parser.error(str(error))
    print(f"{arguments.out}: {total} packets, {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
