"""Synthetic traffic: small captures made packet by packet, and what their audits found."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dpkt

from analyzer.conversations import Conversations, dissect_flows
from analyzer.expected import load, services
from analyzer.findings import Finding
from analyzer.flows import read
from analyzer.pipeline import audit
from analyzer.result import Audit
from tests.protocols import ike_messages, test_dhcp, test_dns, test_ftp, test_iec104, test_ntp, test_ssh, tls_messages

STATION, TPE, OTHER = "10.0.0.2", "10.0.9.1", "192.0.2.80"
START = 1_795_329_420.0
"""2026-11-22T06:37:00Z, in seconds."""
TICK = 0.01
"""Seconds from one packet to the next."""

TLS = tuple(stream.data for stream in tls_messages.EXAMPLES[1].streams)
"""A handshake of TLS 1.3: bytes of the client, bytes of the server. Likewise for the other protocols below."""
SSH = tuple(stream.data for stream in test_ssh.EXAMPLES[0].streams)
IEC104 = tuple(stream.data for stream in test_iec104.EXAMPLES[0].streams)
HTTP = (b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
NTP = (test_ntp.REQUEST, test_ntp.ANSWER)
DNS = (test_dns.ASKED_A, test_dns.ANSWERED_A)
DNS_CUT = (test_dns.ASKED_A, test_dns.message(b"", flags=0x8380))
"""A question, and its truncated answer (TC)."""
DNS_TCP = (test_dns.framed(test_dns.ASKED_A), test_dns.framed(test_dns.ANSWERED_A))
IKE_INIT = (ike_messages.INIT_REQUEST, ike_messages.INIT_RESPONSE)
IKE_AUTH = ike_messages.MARKED_AUTH
ESP = ike_messages.ESP_BYTES
DISCOVER, REQUEST = test_dhcp.message(test_dhcp.DISCOVER), test_dhcp.message(test_dhcp.REQUEST)
OFFER = test_dhcp.offer(test_dhcp.OFFER)
RIVAL_OFFER = OFFER.replace(bytes([54, 4, 10, 20, 30, 2]), bytes([54, 4, 10, 20, 30, 66]))


def ftp(*lines: tuple[str, str]) -> list[tuple[str, bytes]]:
    """An FTP dialogue for :meth:`Traffic.dialogue`: a login, and these lines of client (``C``) and server (``S``)."""
    return [({"C": ">", "S": "<"}[side], line.encode() + b"\r\n") for side, line in (*test_ftp.LOGIN, *lines)]


class Traffic:
    """Packets of a synthetic capture, one :data:`TICK` apart. Methods append packets and return the traffic itself.

    Directions: ``">"`` from the client, ``"<"`` from the server.
    """

    def __init__(self, macs: Mapping[str, str] | None = None, times_to_live: Mapping[str, int] | None = None) -> None:
        """``macs``: MAC addresses by IP address, where they are not derived from it. ``times_to_live``: those of
        packets by source address, where they are not 64."""
        self.packets: list[tuple[float, bytes]] = []
        """Time in seconds since the epoch, and frame."""
        self.macs = dict(macs or {})
        self.times_to_live = dict(times_to_live or {})
        self.clock = 0.0
        """Seconds from :data:`START` to the next packet."""

    def at(self, seconds: float) -> Traffic:
        """Continue at this many seconds after :data:`START`."""
        self.clock = seconds
        return self

    def packet(self, source: str, destination: str, protocol: int, payload: bytes, ttl: int | None = None) -> Traffic:
        """One IP packet between two addresses of one version."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
        hops = self.times_to_live.get(source, 64) if ttl is None else ttl
        if family == socket.AF_INET:
            header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), len(self.packets), 0, hops, protocol, 0)
        else:
            header = struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops)
        link = self.mac(destination) + self.mac(source) + (b"\x86\xdd" if family == socket.AF_INET6 else b"\x08\x00")
        self.packets.append((START + self.clock, link + header + ends + payload))
        self.clock += TICK
        return self

    def mac(self, address: str) -> bytes:
        """The MAC address of a host: the given one, or one that ends like its IP address."""
        given = self.macs.get(address)
        if given:
            return bytes.fromhex(given.replace(":", ""))
        return b"\x02\x00" + (b"\0\0\0\0" + socket.inet_pton(socket.AF_INET6 if ":" in address else 2, address))[-4:]

    def udp(self, client: str, port: int, server: str, service: int, *datagrams: tuple[str, bytes]) -> Traffic:
        """Datagrams, each with its direction."""
        for direction, payload in datagrams:
            ends = (client, server, port, service) if direction == ">" else (server, client, service, port)
            self.packet(ends[0], ends[1], 17, struct.pack(">HHHH", *ends[2:], 8 + len(payload), 0) + payload)
        return self

    def exchange(self, client: str, port: int, server: str, service: int, payloads: tuple[bytes, bytes]) -> Traffic:
        """A request and its response over UDP."""
        return self.udp(client, port, server, service, (">", payloads[0]), ("<", payloads[1]))

    def segment(
        self,
        source: str,
        port: int,
        destination: str,
        service: int,
        flags: int,
        seq: int = 1000,
        ack: int = 0,
        payload: bytes = b"",
    ) -> Traffic:
        """One TCP segment."""
        tcp = struct.pack(">HHIIBBHHH", port, service, seq, ack, 0x50, flags, 65535, 0, 0)
        return self.packet(source, destination, 6, tcp + payload)

    def tcp(
        self,
        client: str,
        port: int,
        server: str,
        service: int,
        payloads: tuple[bytes, bytes] = (b"", b""),
        duration: float = 0,
        begins: bool = True,
    ) -> Traffic:
        """A connection with at most one segment of payload from the client, then one from the server."""
        segments = [(direction, payload) for direction, payload in zip("><", payloads, strict=True) if payload]
        return self.dialogue(client, port, server, service, *segments, duration=duration, begins=begins)

    def dialogue(
        self,
        client: str,
        port: int,
        server: str,
        service: int,
        *segments: tuple[str, bytes],
        duration: float = 0,
        begins: bool = True,
    ) -> Traffic:
        """A connection with segments of payload, each with its direction.

        ``begins=False``: without the handshake. ``duration``: seconds from the last segment to the client's FIN;
        0: the connection stays open.
        """
        sent = {">": 1000, "<": 5000}
        if begins:
            self.segment(client, port, server, service, 0x02, seq=999)
            self.segment(server, service, client, port, 0x12, seq=4999, ack=1000)
            self.segment(client, port, server, service, 0x10, ack=5000)
        for direction, payload in segments:
            ends = (client, port, server, service) if direction == ">" else (server, service, client, port)
            ack = sent["<" if direction == ">" else ">"]
            self.segment(*ends, 0x18, seq=sent[direction], ack=ack, payload=payload)
            sent[direction] += len(payload)
        self.clock += duration
        if duration:
            self.segment(client, port, server, service, 0x11, seq=sent[">"], ack=sent["<"])
        return self

    def syn(self, client: str, port: int, server: str, service: int, reset: bool = False) -> Traffic:
        """A connection attempt, unanswered or reset."""
        self.segment(client, port, server, service, 0x02, seq=999)
        if reset:
            self.segment(server, service, client, port, 0x14, ack=1000)
        return self

    def echo(
        self, source: str, destination: str, answered: bool = True, asked: bool = True, number: int = 7
    ) -> Traffic:
        """A ping: echo request and echo reply with an identifier."""
        kinds, protocol = ((128, 129), 58) if ":" in source else ((8, 0), 1)
        body = struct.pack(">HHH", 0, number, 1) + bytes(range(56))
        if asked:
            self.packet(source, destination, protocol, bytes((kinds[0], 0)) + body)
        if answered:
            self.packet(destination, source, protocol, bytes((kinds[1], 0)) + body)
        return self

    def save(self, path: Path) -> Path:
        """Write the packets, ascending by time."""
        with path.open("wb") as file:
            writer = dpkt.pcap.Writer(file)
            for time, data in sorted(self.packets, key=lambda packet: packet[0]):
                writer.writepkt(data, time)
        return path

    def audit(self, folder: Path, **options: Any) -> Audit:
        return audit(self.save(folder / "traffic.pcap"), **options)

    def conversations(self, folder: Path) -> Conversations:
        return dissect_flows(read([str(self.save(folder / "traffic.pcap"))]), services(load()))


def statuses(result: Audit, station: str = STATION) -> dict[str, str]:
    """Row → ``status`` or ``status, certainty``."""
    (verdict,) = (verdict for verdict in result.base_stations if verdict.station.address == station)
    return {
        row.row.id: row.status.value + (f", {row.certainty.value}" if row.certainty else "") for row in verdict.rows
    }


def reason(result: Audit, row: str) -> str:
    """The reason of a row's status at the first base station."""
    verdicts = (verdict for station in result.base_stations for verdict in station.rows)
    return next(verdict.reason or "" for verdict in verdicts if verdict.row.id == row)


def findings_of(result: Audit, check: str) -> list[Finding]:
    """The findings of a check."""
    return [finding for finding in result.findings if finding.check == check]
