"""The traffic of base stations, scripted packet by packet, with long flows as repeated patterns.

Four modes: IPsec, TLS, plain and Basics Station. Times are seconds after :data:`BEGIN`.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import numpy as np
import numpy.typing as npt

from tests.benchmarks import payloads

BEGIN = 1_795_327_200  # 2026-11-22T06:00:00Z
SECOND = 1_000_000  # microseconds
MSS = 1460
TCP, UDP, ICMP, ESP = 6, 17, 1, 50
FIN, SYN, PSH, ACK = 1, 2, 8, 16
CLIENT, SERVER = 0, 1

CORE, SECOND_CORE = "10.0.9.1", "10.0.9.2"
RESOLVER, TIME_SERVER, DHCP_SERVER = "10.0.9.53", "10.0.9.123", "10.0.9.67"
BROADCAST, UNSPECIFIED = "255.255.255.255", "0.0.0.0"
OUIS = ("7076ff", "000800", "001558", "647fda", "ac1f09", "24e124")


def address(text: str) -> int:
    return int(IPv4Address(text))


@dataclass
class Pool:
    """All payload bytes. Equal payloads are stored once, at an even offset."""

    data: bytearray = field(default_factory=lambda: bytearray(2))
    known: dict[bytes, int] = field(default_factory=dict)

    def add(self, payload: bytes) -> int:
        """The offset of a payload."""
        offset = self.known.get(payload)
        if offset is None:
            offset = self.known[payload] = len(self.data)
            self.data += payload + bytes(len(payload) % 2)
        return offset


@dataclass
class Packets:
    """Columns of scripted packets. ``time``: microseconds after BEGIN; ``offset``: of the payload in the pool."""

    time: array[int] = field(default_factory=lambda: array("q"))
    flow: array[int] = field(default_factory=lambda: array("i"))
    side: array[int] = field(default_factory=lambda: array("B"))
    offset: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("i"))
    seq: array[int] = field(default_factory=lambda: array("I"))
    ack: array[int] = field(default_factory=lambda: array("I"))
    flags: array[int] = field(default_factory=lambda: array("B"))

    def add(
        self, time: float, flow: int, side: int, offset: int, length: int, seq: int = 0, ack: int = 0, flags: int = 0
    ) -> None:
        self.time.append(int(time * SECOND))
        self.flow.append(flow)
        self.side.append(side)
        self.offset.append(offset)
        self.length.append(length)
        self.seq.append(seq & 0xFFFFFFFF)
        self.ack.append(ack & 0xFFFFFFFF)
        self.flags.append(flags)


@dataclass
class Step:
    """One packet of the pattern of a long flow."""

    side: int
    offset: int = 0
    length: int = 0


Prefix = Callable[[npt.NDArray[np.int64], npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


@dataclass
class LongFlow:
    """Packets of a flow that repeat a pattern between two times. ``weight``: its share of all such packets."""

    flow: int
    weight: float
    begin: float
    end: float
    pattern: Sequence[Step]
    seq: tuple[int, int] = (0, 0)
    prefix: Prefix | None = None
    """Function from the index of packets within their side, and their sides, to the first bytes of each payload."""


@dataclass
class Schedule:
    """All packets of a capture: scripted ones, and long flows."""

    rng: random.Random
    duration: float
    pool: Pool = field(default_factory=Pool)
    packets: Packets = field(default_factory=Packets)
    long_flows: list[LongFlow] = field(default_factory=list)
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
    """A TCP connection, scripted packet by packet."""

    def __init__(self, schedule: Schedule, station: Station, server: str, port: int, begin: float) -> None:
        self.schedule = schedule
        self.flow = schedule.flow(TCP, station, server, station.next_port(), port)
        self.now = begin
        self.seq = [schedule.rng.getrandbits(32), schedule.rng.getrandbits(32)]
        options = schedule.pool.add(b"\x02\x04\x05\xb4\x01\x01\x04\x02")
        self.packet(CLIENT, SYN, options, 8)
        self.packet(SERVER, SYN | ACK, options, 8, 0.0003)
        self.packet(CLIENT, ACK, pause=0.03)

    def packet(self, side: int, flags: int, offset: int = 0, length: int = 0, pause: float = 0.0) -> None:
        self.now += pause
        seq, other = self.seq[side], self.seq[1 - side]
        self.schedule.packets.add(self.now, self.flow, side, offset, length, seq, other if flags & ACK else 0, flags)
        self.seq[side] += 1 if flags & (SYN | FIN) else length

    def send(self, side: int, payload: bytes, pause: float = 0.03) -> None:
        """Send a message in full segments, and its acknowledgement."""
        offset = self.schedule.pool.add(payload)
        for begin in range(0, len(payload), MSS):
            length = min(MSS, len(payload) - begin)
            last = begin + length == len(payload)
            self.packet(side, ACK | (PSH if last else 0), offset + begin, length, pause if begin == 0 else 0.0001)
        self.packet(1 - side, ACK, pause=0.0004 if side == CLIENT else 0.03)

    def exchange(self, messages: Sequence[tuple[int, bytes]], pause: float = 0.03) -> None:
        for side, payload in messages:
            self.send(side, payload, pause)

    def tls(self, server_chain: Sequence[bytes], client_chain: Sequence[bytes] | None) -> None:
        flights = payloads.tls_handshake(self.schedule.rng, server_chain, client_chain)
        self.exchange(list(zip((CLIENT, SERVER, CLIENT, SERVER), flights, strict=True)))

    def repeat(self, weight: float, end: float, pattern: Sequence[Step], prefix: Prefix | None = None) -> None:
        """Repeat a pattern until ``end``."""
        seq = (self.seq[0] & 0xFFFFFFFF, self.seq[1] & 0xFFFFFFFF)
        self.schedule.long_flows.append(LongFlow(self.flow, weight, self.now + 0.1, end, pattern, seq, prefix))
        self.now = end

    def close(self, by: int = CLIENT) -> None:
        self.packet(by, FIN | ACK, pause=0.05)
        self.packet(1 - by, FIN | ACK, pause=0.03)
        self.packet(by, ACK, pause=0.001)


# -- modes ------------------------------------------------------------------------------------------------------


@dataclass
class Content:
    """Payloads that all stations share: certificates, and the patterns of long flows."""

    authority: payloads.Authority
    chain: tuple[bytes, bytes]
    records: Sequence[Step]
    """Uplinks, downlinks and acknowledgements inside TLS."""
    download: Sequence[Step]
    """TLS records of ten full segments from the server."""
    file: Sequence[Step]
    """A file in clear text from the server."""

    @classmethod
    def create(cls, schedule: Schedule) -> Content:
        rng, pool = schedule.rng, schedule.pool
        authority = payloads.Authority()

        def step(side: int, payload: bytes) -> Step:
            return Step(side, pool.add(payload), len(payload))

        records: list[Step] = []
        for turn in range(24):
            records += [step(CLIENT, payloads.tls_data(rng, rng.randrange(140, 240))), Step(SERVER)]
            if turn % 6 == 5:
                records += [step(SERVER, payloads.tls_data(rng, rng.randrange(110, 160))), Step(CLIENT)]
        stream = b"".join(payloads.tls_data(rng, 10 * MSS) for _ in range(8))
        return cls(
            authority,
            (authority.issue(payloads.CORE_NAME, 0x5E, 2), authority.certificate),
            records,
            segments(pool.add(stream), len(stream)),
            segments(pool.add(rng.randbytes(80 * MSS)), 80 * MSS),
        )


def segments(offset: int, length: int) -> list[Step]:
    """A pattern of full segments from the server; every second one is acknowledged."""
    steps: list[Step] = []
    for index, start in enumerate(range(0, length, MSS)):
        steps.append(Step(SERVER, offset + start, MSS))
        if index % 2:
            steps.append(Step(CLIENT))
    return steps


def times(schedule: Schedule, period: float) -> Iterator[float]:
    """Times about one period apart."""
    time = schedule.rng.uniform(0, period)
    while time < schedule.duration - 1:
        yield time
        time += period + schedule.rng.uniform(0, 0.5)


def housekeeping(schedule: Schedule, station: Station) -> None:
    """DNS, NTP, DHCP, and pings of an LRR."""
    rng = schedule.rng
    if station.mode != "basics":
        for time in times(schedule, 61):
            flow, identifier = schedule.flow(ICMP, station, CORE), rng.getrandbits(16)
            body = struct.pack("<QQ", int((BEGIN + time) * 1e6), 0) + bytes(range(16, 56))
            schedule.datagram(time, flow, CLIENT, payloads.icmp_echo(8, identifier, 1, body))
            schedule.datagram(time + 0.0003, flow, SERVER, payloads.icmp_echo(0, identifier, 1, body))
    for time in times(schedule, 60):
        flow = schedule.flow(UDP, station, RESOLVER, rng.randrange(32768, 61000), 53)
        name, identifiers = f"lrc{1 + station.number % 2}.example.com", (rng.getrandbits(16), rng.getrandbits(16))
        address_a = IPv4Address(CORE).packed
        for step, (identifier, kind, answer) in enumerate(zip(identifiers, (1, 28), (address_a, None), strict=True)):
            schedule.datagram(time + 0.0001 * step, flow, CLIENT, payloads.dns_query(identifier, name, kind))
            schedule.datagram(
                time + 0.002 + 0.0001 * step, flow, SERVER, payloads.dns_answer(identifier, name, kind, answer)
            )
    flow = schedule.flow(UDP, station, TIME_SERVER, 123, 123)
    for time in times(schedule, 64):
        schedule.datagram(time, flow, CLIENT, payloads.ntp_request(BEGIN + time))
        schedule.datagram(time + 0.0005, flow, SERVER, payloads.ntp_reply(BEGIN + time + 0.0005))
    lease(schedule, station)


def lease(schedule: Schedule, station: Station) -> None:
    """Renew a DHCP lease; every fourth station first asks for an address."""
    own, server = station.address.to_bytes(4, "big"), IPv4Address(DHCP_SERVER).packed
    transaction, renewal = schedule.rng.getrandbits(32), schedule.flow(UDP, station, DHCP_SERVER, 68, 67)
    time = schedule.duration * schedule.rng.uniform(0.3, 0.9)
    schedule.datagram(time, renewal, CLIENT, payloads.dhcp(3, transaction, station.mac, own, bytes(4), server))
    schedule.datagram(time + 0.001, renewal, SERVER, payloads.dhcp(5, transaction, station.mac, own, own, server))
    if station.number % 4 == 0:
        unconfigured = Station(station.number, station.mode, address(UNSPECIFIED), station.mac)
        request = schedule.flow(UDP, unconfigured, BROADCAST, 68, 67)
        time = schedule.duration * schedule.rng.uniform(0.0, 0.01)
        for kind, answer in ((1, 2), (3, 5)):
            question = payloads.dhcp(kind, transaction, station.mac, bytes(4), bytes(4), server)
            schedule.datagram(time, request, CLIENT, question)
            reply = payloads.dhcp(answer, transaction, station.mac, bytes(4), own, server)
            schedule.datagram(time + 0.001, renewal, SERVER, reply)
            time += 0.05


def key_installer(schedule: Schedule, station: Station, begin: float) -> None:
    """A short SFTP session, before anything else."""
    session = ssh(schedule, station, begin)
    for _ in range(6):
        session.send(CLIENT, schedule.rng.randbytes(76))
        session.send(SERVER, schedule.rng.randbytes(1236))
    session.close(SERVER)


def reverse_ssh(schedule: Schedule, station: Station, begin: float) -> None:
    """A tunnel with few, short bursts, each begun by the server."""
    session = ssh(schedule, station, begin)
    for _ in range(8):
        session.send(SERVER, schedule.rng.randbytes(108), pause=schedule.duration / 25)
        session.send(CLIENT, schedule.rng.randbytes(340))
    session.close()


def ssh(schedule: Schedule, station: Station, begin: float) -> Connection:
    session = Connection(schedule, station, CORE, 22, begin)
    session.exchange(payloads.ssh_opening(schedule.rng))
    for size in (44, 68, 60, 132):
        session.send(CLIENT, schedule.rng.randbytes(size))
        session.send(SERVER, schedule.rng.randbytes(size + 8))
    return session


def ipsec(schedule: Schedule, station: Station, content: Content) -> None:
    """Certificate checks, key installer, IKE with MOBIKE, and ESP; every second station has it in UDP."""
    rng, begin, end = schedule.rng, schedule.duration * schedule.rng.uniform(0, 0.02), schedule.duration
    key_installer(schedule, station, begin)
    for port in (3001, 3002, 3003):
        check = Connection(schedule, station, CORE, port, begin + 3 + (port - 3001))
        check.tls(content.chain, None)
        check.send(CLIENT, payloads.close_notify(rng))
        check.close()
    begin += 8
    nat = station.number // 4 % 2 == 1
    spis, marker = rng.randbytes(16), bytes(4)
    first, second = schedule.flow(UDP, station, CORE, 500, 500), schedule.flow(UDP, station, CORE, 4500, 4500)
    schedule.datagram(begin, first, CLIENT, payloads.ike_init(rng, spis, response=False))
    schedule.datagram(begin + 0.004, first, SERVER, payloads.ike_init(rng, spis, response=True))
    for number, exchange, size in ((1, 35, 1208), (2, 37, 60), (3, 37, 60), (4, 36, 260), (5, 37, 60)):
        begin += 0.05 if number == 1 else end / 8
        question = payloads.ike_encrypted(rng, spis, exchange, 0x08, number, size)
        answer = payloads.ike_encrypted(rng, spis, exchange, 0x20, number, size - 44 if size > 60 else size)
        schedule.datagram(begin, second, CLIENT, marker + question)
        schedule.datagram(begin + 0.01, second, SERVER, marker + answer)
    if nat:
        for time in times(schedule, 20):
            if time > schedule.duration * 0.03 + 10:
                schedule.datagram(time, second, CLIENT, b"\xff")
    tunnel = second if nat else schedule.flow(ESP, station, CORE)
    identifiers = np.array([rng.randrange(0xC0000000, 0xCFFFFFFF) for _ in range(2)], dtype=np.uint64)

    def prefix(index: npt.NDArray[np.int64], side: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """SPI and sequence number of ESP."""
        head = identifiers[side] << np.uint64(32) | (index + 1).astype(np.uint64)
        return head.astype(">u8").view(np.uint8).reshape(-1, 8)

    def esp(side: int, inner: int) -> Step:
        """An AES-GCM packet around ``inner`` bytes: IV, ciphertext padded to 4 bytes, tag."""
        size = 8 + 8 + (inner + 2 + 3) // 4 * 4 + 16
        return Step(side, schedule.pool.add(bytes(8) + rng.randbytes(size - 8)), size)

    pattern: list[Step] = []
    for turn in range(20):
        pattern += [esp(CLIENT, rng.randrange(150, 260)), esp(SERVER, 52)]
        if turn % 3 == 2:
            pattern += [esp(SERVER, 1400), esp(SERVER, 1400), esp(CLIENT, 52)]
    schedule.long_flows.append(LongFlow(tunnel, 1.0, schedule.duration * 0.02 + 9, end, pattern, prefix=prefix))


def tls(schedule: Schedule, station: Station, content: Content) -> None:
    """IEC 104 in TLS on 3001, one download on 3002, six uploads on 3003."""
    rng, begin, end = schedule.rng, schedule.duration * schedule.rng.uniform(0, 0.02), schedule.duration
    chain = (content.authority.issue(f"lrr-{station.lrr:08x}", 0x1000 + station.number, 3 + station.number),)
    key_installer(schedule, station, begin)
    link = Connection(schedule, station, CORE, 3001, begin + 3)
    link.tls(content.chain, chain)
    link.repeat(0.7, end, content.records)
    download = Connection(schedule, station, CORE, 3002, end * rng.uniform(0.1, 0.6))
    download.tls(content.chain, chain)
    download.repeat(0.3, download.now + end * 0.1, content.download)
    download.close()
    for _ in range(6):
        upload = Connection(schedule, station, CORE, 3003, end * rng.uniform(0.1, 0.95))
        upload.tls(content.chain, chain)
        for size in (60, 900, 900, 200):
            upload.send(CLIENT, payloads.tls_data(rng, 29 + size))
            upload.send(SERVER, payloads.tls_data(rng, 29 + 44))
        upload.send(CLIENT, payloads.close_notify(rng))
        upload.close()


def plain(schedule: Schedule, station: Station, content: Content) -> None:
    """IEC 104 on 2404, FTP transfers, reverse SSH; every second station has an idle standby link."""
    rng, begin, end = schedule.rng, schedule.duration * schedule.rng.uniform(0, 0.02), schedule.duration
    lrr = station.lrr
    link = Connection(schedule, station, CORE, 2404, begin)
    link.exchange([(CLIENT, payloads.TESTFR_ACT), (SERVER, payloads.TESTFR_CON)], pause=0.5)
    link.exchange([(SERVER, payloads.STARTDT_ACT), (CLIENT, payloads.STARTDT_CON)])
    for number, (kind, size) in enumerate(((1, 32), (2, 40), (3, 60), (30, 264))):
        link.send(CLIENT, payloads.i_frame(number, 0, payloads.lrr_asdu(rng, lrr, kind, 0x8000, size)))
    link.send(SERVER, payloads.s_frame(4))
    pattern: list[Step] = []

    def frame(side: int, size: int) -> Step:
        asdu = payloads.lrr_asdu(rng, lrr, 0, 1 if side == CLIENT else 2, size)
        payload = bytes(6) + asdu  # the prefix fills in start byte, length and counters
        return Step(side, schedule.pool.add(payload), len(payload))

    for turn in range(8):  # eight uplinks and a downlink, which carries the acknowledgement
        pattern += [frame(CLIENT, 75 + rng.randrange(18, 60)), Step(SERVER)]
        if turn == 7:
            pattern += [frame(SERVER, 75 + 20), Step(CLIENT)]
    sizes = np.array([step.length for step in pattern])
    sides = np.array([step.side for step in pattern])

    def prefix(index: npt.NDArray[np.int64], side: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Start byte, length and the two counters. ``index`` counts empty segments too, so it cannot number frames."""
        position = np.arange(len(index)) % len(pattern)
        full = sizes[position] > 0
        sending = [full & (sides[position] == way) for way in (CLIENT, SERVER)]
        sent = [np.cumsum(frames) - frames for frames in sending]
        send = np.where(side == CLIENT, sent[CLIENT] + 4, sent[SERVER]) % payloads.MODULUS
        receive = np.where(side == CLIENT, sent[SERVER], sent[CLIENT] + 4) % payloads.MODULUS
        out = np.zeros((len(index), 6), np.uint8)
        out[:, 0], out[:, 1] = 0x68, np.maximum(sizes[position] - 2, 0)
        out[:, 2:4] = (send << 1).astype("<u2").view(np.uint8).reshape(-1, 2)
        out[:, 4:6] = (receive << 1).astype("<u2").view(np.uint8).reshape(-1, 2)
        return out

    link.repeat(0.7, end, pattern, prefix)
    if station.number // 4 % 2 == 1:
        standby = Connection(schedule, station, SECOND_CORE, 2404, begin + 0.01)
        while standby.now < end - 30:
            standby.exchange([(CLIENT, payloads.TESTFR_ACT)], pause=21)
            standby.exchange([(SERVER, payloads.TESTFR_CON)], pause=0.001)
    ftp(schedule, station, begin + 10, end, None)
    ftp(schedule, station, end * rng.uniform(0.1, 0.5), end, content.file)
    if rng.random() < 0.3:
        reverse_ssh(schedule, station, end * rng.uniform(0.2, 0.4))


def ftp(schedule: Schedule, station: Station, begin: float, end: float, file: Sequence[Step] | None) -> None:
    """Download ``file``; without one, upload a small file."""
    rng, port = schedule.rng, schedule.rng.randrange(30000, 60000)
    control = Connection(schedule, station, CORE, 21, begin)
    login = "220 (vsFTPd 3.0.5)", "USER ftp", "331 Please specify the password.", "PASS ftp", "230 Login successful."
    rest = "TYPE I", "200 Switching to Binary mode.", "EPSV", f"229 Entering Extended Passive Mode (|||{port}|)"
    for index, line in enumerate(login + rest):
        control.send(SERVER if index % 2 == 0 else CLIENT, line.encode() + b"\r\n")
    data = Connection(schedule, station, CORE, port, control.now)
    if file is not None:
        control.send(CLIENT, b"RETR lrr-2.8.10-wirmaar.tar.gz\r\n")
        control.send(SERVER, b"150 Opening BINARY mode data connection.\r\n")
        data.now = control.now
        data.repeat(0.3, data.now + end * 0.1, file)
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


def basics(schedule: Schedule, station: Station, content: Content) -> None:
    """CUPS on 443 with a firmware download; router-info and the LNS connection on 4443."""
    rng, begin, end = schedule.rng, schedule.duration * schedule.rng.uniform(0, 0.02), schedule.duration
    chain = (content.authority.issue(f"bs-{station.lrr:08x}", 0x1000 + station.number, 3 + station.number),)
    cups = Connection(schedule, station, CORE, 443, begin)
    cups.tls(content.chain, chain)
    cups.send(CLIENT, payloads.tls_data(rng, 420))
    cups.repeat(0.3, cups.now + end * 0.1, content.download)
    cups.close()
    discovery = Connection(schedule, station, CORE, 4443, cups.now + 1)
    discovery.tls(content.chain, chain)
    for size in (240, 160, 90, 220, 35):
        discovery.send(CLIENT, payloads.tls_data(rng, size))
        discovery.send(SERVER, payloads.tls_data(rng, size + 20))
    discovery.close()
    link = Connection(schedule, station, CORE, 4443, discovery.now + 1)
    link.tls(content.chain, chain)
    link.repeat(0.7, end, content.records)


MODES: dict[str, Callable[[Schedule, Station, Content], None]] = {
    "ipsec": ipsec,
    "tls": tls,
    "plain": plain,
    "basics": basics,
}


def station_of(number: int) -> Station:
    """The base station with a number."""
    mac = bytes.fromhex(OUIS[number % len(OUIS)]) + (0x100000 + number).to_bytes(3, "big")
    own = address("10.1.0.10") + number // 200 * 256 + number % 200
    return Station(number, tuple(MODES)[number % 4], own, mac)


def script(stations: int, duration: float, seed: int) -> Schedule:
    """The traffic of stations in all modes. ``duration``: seconds."""
    schedule = Schedule(random.Random(seed), duration)
    content = Content.create(schedule)
    for number in range(stations):
        station = station_of(number)
        housekeeping(schedule, station)
        MODES[station.mode](schedule, station, content)
    return schedule


# -- captures of one protocol -----------------------------------------------------------------------------------

BATCH = 2000
"""Flows that are made at once: memory is O(batch), not O(capture)."""
NEW_NAMES = 0.2
"""Share of lookups for names that no other lookup asks for."""


def handshakes(schedule: Schedule, stations: Sequence[Station], chain: Sequence[bytes], first: int) -> None:
    """TLS connections that close after the client's second flight: 12 packets each."""
    for number in range(first, first + BATCH):
        station = stations[number % len(stations)]
        begin = schedule.rng.uniform(0, schedule.duration)
        connection = Connection(schedule, station, CORE, (3001, 3002, 3003)[number % 3], begin)
        flights = payloads.tls_handshake(schedule.rng, chain, None)
        connection.exchange(list(zip((CLIENT, SERVER, CLIENT), flights, strict=False)))
        connection.close()


def lookups(schedule: Schedule, stations: Sequence[Station], chain: Sequence[bytes], first: int) -> None:
    """Lookups of A and AAAA records with their answers: 4 packets each."""
    rng = schedule.rng
    for number in range(first, first + BATCH):
        station = stations[number % len(stations)]
        begin = rng.uniform(0, schedule.duration)
        flow = schedule.flow(UDP, station, RESOLVER, station.next_port(), 53)
        name = f"node-{number}.example.com" if rng.random() < NEW_NAMES else f"lrc{1 + number % 2}.example.com"
        for step, (kind, answer) in enumerate(((1, IPv4Address(CORE).packed), (28, None))):
            identifier = rng.getrandbits(16)
            schedule.datagram(begin + 0.0001 * step, flow, CLIENT, payloads.dns_query(identifier, name, kind))
            schedule.datagram(
                begin + 0.002 + 0.0001 * step, flow, SERVER, payloads.dns_answer(identifier, name, kind, answer)
            )


KINDS: dict[str, Callable[[Schedule, Sequence[Station], Sequence[bytes], int], None]] = {
    "tls-heads": handshakes,
    "dns": lookups,
}
PACKETS = {"tls-heads": 12, "dns": 4}
"""Packets per flow."""
