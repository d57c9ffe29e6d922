"""Both ends of an LRR's IEC 104 link, in the LRR's own dialect: ``lrr.py station|server ADDRESS PORT [ODDITY…]``.

Unlike IEC 60870-5-104: the server sends STARTDT; APDUs whose ASDU has 250 bytes or more begin with 0x69 and a length
of two bytes, most significant first; sequence numbers count modulo 32767; what an I frame carries is the LRR's own
little-endian header of 20 bytes and a structure, never an ASDU of the standard. Contents are invented, shapes are not.

Oddities of the station: ``wrap`` sends so many empty I frames at first that the numbers soon start over; ``gap`` skips
send numbers; ``unknown-type`` reports something of type 99; ``burst`` sends sixteen uplinks at once; ``relay`` hands on
a report of another LRR; ``idle`` has no uplinks; ``sleeps`` does nothing for 75 seconds; ``breaks`` sends something on
each link that is no APDU, each time something else.
Of the server: ``stopped`` never starts the link; ``miscounts`` acknowledges what was never sent; ``hangs`` does
nothing any more after ten seconds.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import sys
import time
from collections.abc import Collection, Iterator

MODULUS = 32767
STARTDT, STARTDT_CON, TESTFR, TESTFR_CON = 0x07, 0x0B, 0x43, 0x83
SHORT, LONG = 0x68, 0x69

INFRASTRUCTURE, UPLINK, DOWNLINK = 0x8000, 1, 2
RADIO, LRR_ID, GPS, CAPABILITIES, STATISTICS, RF_CELL, CONFIGURATION, WAN, SENT, VERSIONS = (
    0,
    1,
    2,
    3,
    5,
    11,
    12,
    14,
    24,
    30,
)

PHY_UPLINK = bytes.fromhex("40 8b2a0126 80 0100 0a 5f11c09e27d4a1b3 9c44e0d1")
PHY_DOWNLINK = bytes.fromhex("60 8b2a0126 a0 0100 1d77b2c4")


T1, T3 = 60, 20
"""Seconds: a side that receives nothing for T3 tests the link, and closes it if no answer comes for T1."""

MINE, ANOTHER = 0x00AA1010, 0x00AA2020
"""LRR-IDs."""


def payload(kind: int, flags: int, size: int, content: bytes = b"", lrr_id: int = MINE) -> bytes:
    """An ASDU: the LRR's header, then ``size`` bytes of structure, then content."""
    header = struct.pack("<BBHHHIIHBB", 1, 0, 20 + size, flags, kind, lrr_id, 0, 0x7076, 0xFF, 0)
    return header + bytes(i * 7 & 0x3F for i in range(size)) + content


class Link:
    """One end of a link: frames out, frames in, acknowledgements."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._sent_number = 0
        self._expected_number = 0
        self._unacknowledged = 0
        self._first_unacknowledged = 0.0
        self._tested = 0.0
        self.last_heard = 0.0

    def _send(self, control: bytes, asdu: bytes = b"") -> None:
        length = len(control + asdu)
        start = struct.pack(">BB", SHORT, length) if len(asdu) < 250 else struct.pack(">BH", LONG, length)
        self.say(start + control + asdu)

    def say(self, content: bytes) -> None:
        self._connection.sendall(content)

    def unnumbered(self, function: int) -> None:
        self._send(bytes([function, 0, 0, 0]))

    def skip(self, count: int) -> None:
        """Leave out send numbers."""
        self._sent_number += count

    def information(self, asdu: bytes) -> None:
        self._send(struct.pack("<HH", self._sent_number << 1, self._expected_number << 1), asdu)
        self._sent_number = (self._sent_number + 1) % MODULUS
        self._unacknowledged = 0

    def acknowledge(self, beyond: int = 0) -> None:
        """Send an S frame, if it is time for one: after 8 I frames, or 10 seconds after the first.

        ``beyond``: acknowledge that many frames that were never received, and at once.
        """
        waited = time.monotonic() - self._first_unacknowledged
        if beyond or self._unacknowledged >= 8 or (self._unacknowledged and waited > 10):
            self._send(struct.pack("<HH", 1, self._expected_number + beyond << 1))
            self._unacknowledged = 0

    def test(self) -> None:
        """Send TESTFR, if it is time for it: nothing received yet, or not for T3. ``ConnectionError``: no answer."""
        now = time.monotonic()
        if self._tested > self.last_heard:
            if now - self._tested > T1:
                raise ConnectionError("TESTFR is not answered")
        elif now - self.last_heard > T3:
            self.unnumbered(TESTFR)
            self._tested = now

    def frames(self, seconds: float) -> Iterator[tuple[int | None, bytes]]:
        """What arrives within a time: (U function, b"") or (None, ASDU). Ends when the peer closes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._connection], [], [], left)[0]:
                return
            chunk = self._connection.recv(65536)
            if not chunk:
                raise ConnectionError("closed by the peer")
            self._received += chunk
            self.last_heard = time.monotonic()
            while self._received and (frame := self._cut()) is not None:
                control, asdu = frame[:4], frame[4:]
                if control[0] & 1 == 0:
                    self._expected_number = ((int.from_bytes(control[:2], "little") >> 1) + 1) % MODULUS
                    if not self._unacknowledged:
                        self._first_unacknowledged = time.monotonic()
                    self._unacknowledged += 1
                    yield None, asdu
                elif control[0] & 2:
                    if control[0] not in (STARTDT, STARTDT_CON, TESTFR, TESTFR_CON):
                        raise ConnectionError(f"function {control[0]:#x}")
                    yield control[0], b""

    def _cut(self) -> bytes | None:
        head = {SHORT: 2, LONG: 3}.get(self._received[0])
        if head is None:
            raise ConnectionError(f"start byte {self._received[0]:#x}")
        if len(self._received) < head:
            return None
        length = int.from_bytes(self._received[1:head], "big")
        if length < 4:
            raise ConnectionError(f"length {length}")
        end = head + length
        if len(self._received) < end:
            return None
        frame, self._received = self._received[head:end], self._received[end:]
        return frame


def station(address: str, port: int, *oddities: str) -> None:
    """The LRR: connects, waits for STARTDT, reports itself, then sends uplinks; starts over when the link breaks."""
    nonsense = NONSENSE if "breaks" in oddities else [b""]
    for each in itertools.cycle(nonsense):
        try:
            with socket.create_connection((address, port), timeout=6) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _serve_station(Link(connection), oddities, each)
        except OSError as broken:
            print(broken, flush=True)
            time.sleep(3)


WRAP = 32740
"""I frames that ``wrap`` sends before anything else."""


NONSENSE = [
    bytes.fromhex("99 04 43 00 00 00"),  # another start byte
    bytes.fromhex("68 03 01 00 00"),  # a length that not even the control field has
    bytes.fromhex("68 04 0f 00 00 00"),  # two functions in one U frame
    b"STARTDT\r\n",
]
"""What is no APDU, one for each link."""


def _serve_station(link: Link, oddities: Collection[str], nonsense: bytes) -> None:
    reports = [
        payload(LRR_ID, INFRASTRUCTURE, 32),
        payload(GPS, INFRASTRUCTURE, 24),
        payload(CAPABILITIES, INFRASTRUCTURE, 40),
        payload(CONFIGURATION, INFRASTRUCTURE, 330),
        payload(VERSIONS, INFRASTRUCTURE, 461),
        payload(STATISTICS, INFRASTRUCTURE, 180),
        payload(RF_CELL, INFRASTRUCTURE, 60),
        payload(WAN, INFRASTRUCTURE, 294),
    ]
    if "unknown-type" in oddities:
        reports.insert(0, payload(99, INFRASTRUCTURE, 20))
    started = False
    turns = 0
    while True:
        for function, asdu in link.frames(1.0):
            if function == STARTDT:
                link.unnumbered(STARTDT_CON)
                started = True
                for _ in range(WRAP if "wrap" in oddities else 0):
                    link.information(b"")
            elif function == TESTFR:
                link.unnumbered(TESTFR_CON)
            elif asdu:
                link.information(payload(SENT, INFRASTRUCTURE, 28))
        link.test()
        link.acknowledge()
        if started and reports:
            link.information(reports.pop(0))
        if started and "idle" not in oddities:
            turns += 1
            for _ in range(16 if "burst" in oddities and turns % 6 == 2 else 1):
                link.information(payload(RADIO, UPLINK, 75, PHY_UPLINK))
            if "gap" in oddities and turns % 3 == 0:
                link.skip(5)
            if "relay" in oddities and turns == 5:
                link.information(payload(STATISTICS, INFRASTRUCTURE, 180, lrr_id=ANOTHER))
            if nonsense and turns == 2:
                link.say(nonsense)
            if "sleeps" in oddities and turns == 5:
                time.sleep(75)


def server(address: str, port: int, *oddities: str) -> None:
    """The LRC: one link at a time; starts it, acknowledges, and sends a downlink now and then."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        while True:
            connection, peer = listener.accept()
            print("link from", peer, flush=True)
            with connection:
                try:
                    _serve_server(Link(connection), oddities)
                except OSError as broken:
                    print(broken, flush=True)


def _serve_server(link: Link, oddities: Collection[str]) -> None:
    if "stopped" not in oddities:
        link.unnumbered(STARTDT)
    uplinks = 0
    hanging = time.monotonic() + 10
    while True:
        if "hangs" in oddities and time.monotonic() > hanging:
            time.sleep(3600)
        for function, asdu in link.frames(0.4):
            if function == TESTFR:
                link.unnumbered(TESTFR_CON)
            uplinks += len(asdu) == 95 + len(PHY_UPLINK)
        link.acknowledge()
        if uplinks >= 4:
            link.information(payload(RADIO, DOWNLINK, 60, PHY_DOWNLINK))
            uplinks = 0
            if "miscounts" in oddities:
                link.acknowledge(beyond=40)


if __name__ == "__main__":
    {"station": station, "server": server}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
