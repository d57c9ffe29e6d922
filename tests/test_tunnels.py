"""Tunnels through rows to any host that hide behind harmless messages of the same flow, or in unusual fields."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from analyzer.findings import Severity
from tests.protocols import test_dhcp, test_dns
from tests.protocols.test_ntp import REQUEST
from tests.synthetic import IEC104, OTHER, STATION, TLS, TPE, Traffic, findings_of

NOISE = random.Random(1035)
BARE = test_dhcp.message(bytes.fromhex("350108"))


def name(size: int) -> bytes:
    label = NOISE.randbytes(size).hex().encode()
    return bytes((len(label),)) + label + b"\4evil\7example\0"


def question(owner: bytes) -> bytes:
    return struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + owner + b"\0\1\0\1"


ORDINARY = [test_dns.ASKED_A] * 100
TUNNELS = {
    "names of one port": ("TPE331", 53, [*ORDINARY, *(question(name(8)) for _ in range(400))], 0.1),
    "NTP in a rush": ("TPE328", 123, [REQUEST] * 60, 0.2),
    "NTP keys": ("TPE328", 123, [REQUEST + NOISE.randbytes(24) for _ in range(30)], 64),
    "names of a DHCP server": ("TPE349", 67, [BARE[:44] + NOISE.randbytes(192) + BARE[236:] for _ in range(40)], 1),
    "DHCP padding": ("TPE349", 67, [BARE] * 70 + [BARE + NOISE.randbytes(300) for _ in range(40)], 1),
}


@pytest.mark.parametrize(("check", "port", "sent", "step"), TUNNELS.values(), ids=TUNNELS)
def test_a_tunnel_behind_ordinary_messages_is_medium(
    check: str, port: int, sent: list[bytes], step: float, tmp_path: Path
) -> None:
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 40001, TPE, 2404, IEC104)
    for number, payload in enumerate(sent):
        traffic.at(10 + number * step).udp(STATION, 68 if port == 67 else 40002, OTHER, port, (">", payload))
    found = findings_of(traffic.audit(tmp_path), check)
    assert Severity.MEDIUM in {finding.severity for finding in found}
