"""Both ends of an LRR's IEC 104 link in its dialect: ``lrr.py station|server ADDRESS PORT [DEVIATION…]``.

The dialect differs from IEC 60870-5-104: the server sends STARTDT; an APDU whose ASDU has 250 bytes or more begins with
0x69 and a length of two bytes, big-endian; sequence numbers count modulo 32767; an I frame carries the LRR's own
little-endian header of 20 bytes and a structure, not an ASDU of the standard. Shapes are those of real links; contents
are invented.

Deviations of the station: ``wrap`` first sends so many empty I frames that the sequence numbers soon wrap; ``gap``
skips send numbers; ``unknown-type`` sends a report of type 99; ``burst`` sends sixteen uplinks at once; ``relay``
forwards a report of another LRR; ``idle`` sends no uplinks; ``sleeps`` pauses for 75 seconds; ``breaks`` sends bytes
that are no APDU, different ones on every link.
Deviations of the server: ``stopped`` never starts the link; ``miscounts`` acknowledges frames that were never sent;
``hangs`` stops after ten seconds.
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
"""Seconds. A side that receives nothing for T3 tests the link, and closes it without an answer for T1."""

LRR, OTHER_LRR = 0x00AA1010, 0x00AA2020
"""LRR-IDs."""


def payload(kind: int, flags: int, size: int, content: bytes = b"", lrr_id: int = LRR) -> bytes:
    """An ASDU: the header, ``size`` bytes of structure, and content."""
    header = struct.pack("<BBHHHIIHBB", 1, 0, 20 + size, flags, kind, lrr_id, 0, 0x7076, 0xFF, 0)
    return header + bytes(i * 7 & 0x3F for i in range(size)) + content


class Link:
    """One end of a link, with its sequence numbers and timers."""

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
        self.send(start + control + asdu)

    def send(self, content: bytes) -> None:
        self._connection.sendall(content)

    def unnumbered(self, function: int) -> None:
        self._send(bytes([function, 0, 0, 0]))

    def skip(self, count: int) -> None:
        """Skip send numbers."""
        self._sent_number += count

    def information(self, asdu: bytes) -> None:
        self._send(struct.pack("<HH", self._sent_number << 1, self._expected_number << 1), asdu)
        self._sent_number = (self._sent_number + 1) % MODULUS
        self._unacknowledged = 0

    def acknowledge(self, beyond: int = 0) -> None:
        """Send an S frame if one is due: after 8 I frames, or 10 seconds after the first of them.

        ``beyond``: send it now, and acknowledge that many frames more than were received.
        """
        waited = time.monotonic() - self._first_unacknowledged
        if beyond or self._unacknowledged >= 8 or (self._unacknowledged and waited > 10):
            self._send(struct.pack("<HH", 1, self._expected_number + beyond << 1))
            self._unacknowledged = 0

    def test(self) -> None:
        """Send TESTFR if nothing was received for T3. ``ConnectionError`` without an answer for T1."""
        now = time.monotonic()
        if self._tested > self.last_heard:
            if now - self._tested > T1:
                raise ConnectionError("TESTFR is not answered")
        elif now - self.last_heard > T3:
            self.unnumbered(TESTFR)
            self._tested = now

    def frames(self, seconds: float) -> Iterator[tuple[int | None, bytes]]:
        """Frames received within some seconds: (U function, b"") or (None, ASDU).

        ``ConnectionError`` if the peer closes or sends no APDU.
        """
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


def station(address: str, port: int, *deviations: str) -> None:
    """The LRR: connects, waits for STARTDT, sends its reports, then uplinks; reconnects when the link breaks."""
    for invalid in itertools.cycle(INVALID if "breaks" in deviations else [b""]):
        try:
            with socket.create_connection((address, port), timeout=6) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _serve_station(Link(connection), deviations, invalid)
        except OSError as error:
            print(error, flush=True)
            time.sleep(3)


WRAP = 32740
"""Number of I frames that ``wrap`` sends first."""


INVALID = [
    bytes.fromhex("99 04 43 00 00 00"),  # another start byte
    bytes.fromhex("68 03 01 00 00"),  # a length below that of the control field
    bytes.fromhex("68 04 0f 00 00 00"),  # two functions in one U frame
    b"STARTDT\r\n",
]
"""Bytes that are no APDU, one item for each link."""


def _serve_station(link: Link, deviations: Collection[str], invalid: bytes) -> None:
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
    if "unknown-type" in deviations:
        reports.insert(0, payload(99, INFRASTRUCTURE, 20))
    started = False
    turns = 0
    while True:
        for function, asdu in link.frames(1.0):
            if function == STARTDT:
                link.unnumbered(STARTDT_CON)
                started = True
                for _ in range(WRAP if "wrap" in deviations else 0):
                    link.information(b"")
            elif function == TESTFR:
                link.unnumbered(TESTFR_CON)
            elif asdu:
                link.information(payload(SENT, INFRASTRUCTURE, 28))
        link.test()
        link.acknowledge()
        if started and reports:
            link.information(reports.pop(0))
        if started and "idle" not in deviations:
            turns += 1
            for _ in range(16 if "burst" in deviations and turns % 6 == 2 else 1):
                link.information(payload(RADIO, UPLINK, 75, PHY_UPLINK))
            if "gap" in deviations and turns % 3 == 0:
                link.skip(5)
            if "relay" in deviations and turns == 5:
                link.information(payload(STATISTICS, INFRASTRUCTURE, 180, lrr_id=OTHER_LRR))
            if invalid and turns == 2:
                link.send(invalid)
            if "sleeps" in deviations and turns == 5:
                time.sleep(75)


def server(address: str, port: int, *deviations: str) -> None:
    """The LRC: one link at a time; starts it, acknowledges, and sends a downlink for every four uplinks."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:
        while True:
            connection, peer = listener.accept()
            print("link from", peer, flush=True)
            with connection:
                try:
                    _serve_server(Link(connection), deviations)
                except OSError as error:
                    print(error, flush=True)


def _serve_server(link: Link, deviations: Collection[str]) -> None:
    if "stopped" not in deviations:
        link.unnumbered(STARTDT)
    uplinks = 0
    hanging = time.monotonic() + 10
    while True:
        if "hangs" in deviations and time.monotonic() > hanging:
            time.sleep(3600)
        for function, asdu in link.frames(0.4):
            if function == TESTFR:
                link.unnumbered(TESTFR_CON)
            uplinks += len(asdu) == 95 + len(PHY_UPLINK)
        link.acknowledge()
        if uplinks >= 4:
            link.information(payload(RADIO, DOWNLINK, 60, PHY_DOWNLINK))
            uplinks = 0
            if "miscounts" in deviations:
                link.acknowledge(beyond=40)


if __name__ == "__main__":
    {"station": station, "server": server}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
