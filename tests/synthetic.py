"""Small captures made by hand: who talks to whom, packet by packet."""

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
from tests.protocols import ike_messages, test_dhcp, test_dns, test_ftp, test_iec104, test_ntp, test_ssh, test_tls

STATION, TPE, OTHER = "10.0.0.2", "10.0.9.1", "192.0.2.80"
START = 1_795_329_420.0
"""2026-11-22T06:37:00Z, in seconds."""
TICK = 0.01

TLS = tuple(stream.data for stream in test_tls.EXAMPLES[1].streams)
"""What client and server say in a good handshake of TLS 1.3."""
SSH = tuple(stream.data for stream in test_ssh.EXAMPLES[0].streams)
IEC104 = tuple(stream.data for stream in test_iec104.EXAMPLES[0].streams)
HTTP = (b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
NTP = (test_ntp.REQUEST, test_ntp.ANSWER)
DNS = (test_dns.ASKED_A, test_dns.ANSWERED_A)
DNS_CUT = (test_dns.ASKED_A, test_dns.message(b"", flags=0x8380))
"""A question, and an answer that says by TC that it is cut."""
DNS_TCP = (test_dns.framed(test_dns.ASKED_A), test_dns.framed(test_dns.ANSWERED_A))
IKE_INIT = (ike_messages.INIT_REQUEST, ike_messages.INIT_RESPONSE)
IKE_AUTH = ike_messages.MARKED_AUTH
ESP = ike_messages.ESP_BYTES
DISCOVER, REQUEST = test_dhcp.message(test_dhcp.DISCOVER), test_dhcp.message(test_dhcp.REQUEST)
OFFER = test_dhcp.offer(test_dhcp.OFFER)
RIVAL_OFFER = OFFER.replace(bytes([54, 4, 10, 20, 30, 2]), bytes([54, 4, 10, 20, 30, 66]))


def ftp(*lines: tuple[str, str]) -> list[tuple[str, bytes]]:
    """An FTP dialogue: a login, and then these lines."""
    return [({"C": ">", "S": "<"}[who], line.encode() + b"\r\n") for who, line in (*test_ftp.LOGIN, *lines)]


class Scene:
    """Packets in the order in which they are said; each takes a tick of time."""

    def __init__(self, macs: Mapping[str, str] | None = None) -> None:
        self.packets: list[tuple[float, bytes]] = []
        self.macs = dict(macs or {})
        self.clock = 0.0

    def at(self, seconds: float) -> Scene:
        """Go on at so many seconds after the beginning."""
        self.clock = seconds
        return self

    def packet(self, source: str, destination: str, protocol: int, payload: bytes) -> Scene:
        """One IP packet between two addresses of one version."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
        if family == socket.AF_INET:
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), len(self.packets), 0, 64, protocol, 0)
        else:
            head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
        link = self.mac(destination) + self.mac(source) + (b"\x86\xdd" if family == socket.AF_INET6 else b"\x08\x00")
        self.packets.append((START + self.clock, link + head + ends + payload))
        self.clock += TICK
        return self

    def mac(self, address: str) -> bytes:
        told = self.macs.get(address)
        if told:
            return bytes.fromhex(told.replace(":", ""))
        return b"\x02\x00" + (b"\0\0\0\0" + socket.inet_pton(socket.AF_INET6 if ":" in address else 2, address))[-4:]

    def udp(self, client: str, port: int, server: str, service: int, *said: tuple[str, bytes]) -> Scene:
        """Datagrams: ``(">", payload)`` from the client, ``("<", payload)`` from the server."""
        for direction, payload in said:
            ends = (client, server, port, service) if direction == ">" else (server, client, service, port)
            self.packet(ends[0], ends[1], 17, struct.pack(">HHHH", *ends[2:], 8 + len(payload), 0) + payload)
        return self

    def ask(self, client: str, port: int, server: str, service: int, both: tuple[bytes, bytes]) -> Scene:
        return self.udp(client, port, server, service, (">", both[0]), ("<", both[1]))

    def segment(self, source: str, port: int, destination: str, service: int, flags: int, **rest: Any) -> Scene:
        payload: bytes = rest.get("payload", b"")
        numbers = rest.get("seq", 1000), rest.get("ack", 0)
        tcp = struct.pack(">HHIIBBHHH", port, service, *numbers, 0x50, flags, 65535, 0, 0)
        return self.packet(source, destination, 6, tcp + payload)

    def tcp(
        self,
        client: str,
        port: int,
        server: str,
        service: int,
        said: tuple[bytes, bytes] = (b"", b""),
        lasting: float = 0,
        begins: bool = True,
    ) -> Scene:
        """A connection in which the client speaks, then the server; ``lasting``: seconds to its end."""
        told = [(direction, payload) for direction, payload in zip("><", said, strict=True) if payload]
        return self.dialogue(client, port, server, service, *told, lasting=lasting, begins=begins)

    def dialogue(
        self,
        client: str,
        port: int,
        server: str,
        service: int,
        *said: tuple[str, bytes],
        lasting: float = 0,
        begins: bool = True,
    ) -> Scene:
        """A connection; with ``begins=False`` its handshake is not captured."""
        sent = {">": 1000, "<": 5000}
        if begins:
            self.segment(client, port, server, service, 0x02, seq=999)
            self.segment(server, service, client, port, 0x12, seq=4999, ack=1000)
            self.segment(client, port, server, service, 0x10, ack=5000)
        for direction, payload in said:
            ends = (client, port, server, service) if direction == ">" else (server, service, client, port)
            ack = sent["<" if direction == ">" else ">"]
            self.segment(*ends, 0x18, seq=sent[direction], ack=ack, payload=payload)
            sent[direction] += len(payload)
        self.clock += lasting
        if lasting:
            self.segment(client, port, server, service, 0x11, seq=sent[">"], ack=sent["<"])
        return self

    def syn(self, client: str, port: int, server: str, service: int, reset: bool = False) -> Scene:
        """An attempt: unanswered, or reset."""
        self.segment(client, port, server, service, 0x02, seq=999)
        if reset:
            self.segment(server, service, client, port, 0x14, ack=1000)
        return self

    def echo(self, source: str, destination: str, answered: bool = True, asked: bool = True, number: int = 7) -> Scene:
        kinds, protocol = ((128, 129), 58) if ":" in source else ((8, 0), 1)
        body = struct.pack(">HHH", 0, number, 1) + bytes(range(56))
        if asked:
            self.packet(source, destination, protocol, bytes((kinds[0], 0)) + body)
        if answered:
            self.packet(destination, source, protocol, bytes((kinds[1], 0)) + body)
        return self

    def save(self, path: Path) -> Path:
        with path.open("wb") as file:
            writer = dpkt.pcap.Writer(file)
            for time, data in sorted(self.packets, key=lambda packet: packet[0]):
                writer.writepkt(data, time)
        return path

    def audited(self, folder: Path, **options: Any) -> Audit:
        return audit(self.save(folder / "scene.pcap"), **options)

    def conversations(self, folder: Path) -> Conversations:
        return dissect_flows(read([str(self.save(folder / "scene.pcap"))]), services(load()))


def statuses(result: Audit, station: str = STATION) -> dict[str, str]:
    """Row → ``status`` or ``status, certainty``."""
    (verdict,) = (each for each in result.base_stations if each.station.address == station)
    return {
        row.row.id: row.status.value + (f", {row.certainty.value}" if row.certainty else "") for row in verdict.rows
    }


def reason(result: Audit, row: str) -> str:
    """The reason of a row's status at the first base station."""
    verdicts = (verdict for station in result.base_stations for verdict in station.rows)
    return next(verdict.reason or "" for verdict in verdicts if verdict.row.id == row)


def found(result: Audit, check: str) -> list[Finding]:
    return [each for each in result.findings if each.check == check]
