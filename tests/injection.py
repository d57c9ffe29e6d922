"""A capture with injection attacks in every name that the sender of a packet or the author of a file may choose."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests import build
from tests.protocols import ike_messages, test_dhcp, test_dns, test_iec104, test_ssh, tls_messages
from tests.synthetic import OTHER, STATION, TPE, Traffic

ATTACKS = (
    "\x1b]0;owned\x07\x1b[2J\x1b[31m\x00\x08\x7f\x9b31m\x85",
    "gnp.\u202eexe\u2066\u200b\u200f\u061c\u00ad\ufeff\u2028\u2029\u3164\ufe0f\u2800\U000e0041\U000e0100.",
    "a\r\nHIGH    TPE999 forged\n\n# forged\n",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>]]>--><!--",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "|a|`b`|*c*|_d_|\\|~~e~~",
    "<http://evil.example/>",
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "-1-cmd",
    "@SUM(1+1)",
    "\t=1",
    "\r=1",
    "{{7*7}}${7*7}%s%n%(x)s",
    '" || frame || "',
)
"""Attacks on terminals, readers' eyes, lines, HTML, Markdown, spreadsheets, templates and display filters."""

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


def certificate(name: str) -> bytes:
    """A certificate whose subject, issuer and alternative names are ``name``."""
    shown = name.replace("\0", "")[:60] or "x"
    holder = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, shown), x509.NameAttribute(NameOID.ORGANIZATION_NAME, shown)]
    )
    plain = shown.encode("ascii", "backslashreplace").decode("ascii")
    then = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    built = (
        x509.CertificateBuilder(holder, holder, KEY.public_key(), 7, then, then + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(plain)]), critical=False)
        .sign(KEY, None)
    )
    return built.public_bytes(Encoding.DER)


def label(name: bytes) -> bytes:
    """A DNS name: one label of these bytes, and ``example``."""
    part = name[:63]
    return bytes([len(part)]) + part + b"\7example\0"


def attack_traffic(attacks: Iterable[str] = ATTACKS) -> Traffic:
    """Each attack in every name of every protocol."""
    traffic = Traffic()
    traffic.tcp(STATION, 39999, TPE, 3001, tuple(stream.data for stream in tls_messages.EXAMPLES[1].streams))
    for number, attack in enumerate(attacks):
        raw = attack.encode("utf-8", "surrogatepass")
        line = raw.replace(b"\r", b" ").replace(b"\n", b" ")
        port = 40000 + 20 * number
        add_tls(traffic, port, raw, attack)
        add_ssh(traffic, port + 2, line)
        add_ftp(traffic, port + 3, line)
        add_http(traffic, port + 4, line)
        add_dns(traffic, port + 5, raw)
        add_dhcp(traffic, raw)
        add_ike(traffic, port + 6, raw)
        traffic.tcp(STATION, port + 8, TPE, 3002, (raw, raw[::-1]))
        asdu = test_iec104.i_frame(0, test_iec104.lrr(1, lrr_id=int.from_bytes(raw[:4].ljust(4), "little")))
        traffic.tcp(STATION, port + 9, TPE, 2404, (asdu, test_iec104.STARTDT_ACT))
        stratum_1 = b"\x24\x01\x06\xec" + bytes(8) + raw[:4].ljust(4) + bytes(32)
        traffic.exchange(STATION, port + 10, OTHER, 123, (b"\x23" + bytes(47), stratum_1))
        traffic.echo(STATION, TPE, number=number)
        traffic.packet(STATION, TPE, 1, b"\x08\0\0\0\0\7\0\1" + raw)
    return traffic


def add_tls(traffic: Traffic, port: int, raw: bytes, attack: str) -> None:
    alpn = tls_messages.extension(16, tls_messages.listed(2, tls_messages.listed(1, raw[:255])))
    hello = tls_messages.record(22, tls_messages.client_hello(tls_messages.server_name(raw) + alpn))
    chain = tls_messages.record(22, tls_messages.certificate(certificate(attack)))
    traffic.tcp(STATION, port, TPE, 3001, (hello, tls_messages.record(22, tls_messages.server_hello(alpn)) + chain))
    traffic.tcp(STATION, port + 1, OTHER, 443, (hello, tls_messages.record(21, b"\x02\x2a")))


def add_ssh(traffic: Traffic, port: int, line: bytes) -> None:
    banner = line[:200] + b"\r\nSSH-1.5-" + line[:80] + b" " + line[:80] + b"\r\n"
    name = line.decode("utf-8", "replace")
    offer = test_ssh.kexinit(name, name, name, name, name)
    disconnect = test_ssh.packet(b"\x01" + struct.pack(">I", 2) + test_ssh.string(line) + test_ssh.string(b""))
    traffic.tcp(STATION, port, TPE, 22, (b"SSH-2.0-" + line[:80] + b"\r\n" + offer, banner + offer + disconnect))


def add_ftp(traffic: Traffic, port: int, line: bytes) -> None:
    lines: list[tuple[str, bytes]] = [
        ("<", b"220 " + line + b" ftp\r\n"),
        (">", b"USER " + line + b"\r\n"),
        ("<", b"331 " + line + b"\r\n"),
        (">", b"PASS x\r\n"),
        ("<", b"230 " + line + b"\r\n"),
        (">", b"CWD ../../" + line + b"\r\n"),
        ("<", b"250 ok\r\n"),
        (">", b"PASV\r\n"),
        ("<", b"227 ok (10,0,9,1,195,80)\r\n"),
        (">", b"RETR ../" + line + b"\r\n"),
        ("<", b"550 " + line + b"\r\n"),
        (">", line[:3].upper() + b" x\r\n"),
        ("<", b"500 " + line + b"\r\n"),
    ]
    traffic.dialogue(STATION, port, TPE, 21, *lines)


def add_http(traffic: Traffic, port: int, line: bytes) -> None:
    target = b"/" + line.replace(b" ", b"+")
    fields = b"".join(name + b": " + line + b"\r\n" for name in (b"Host", b"User-Agent", b"Upgrade", b"Cookie", b"X"))
    attack_name = b"X-" + line.replace(b" ", b"") + b": x\r\n"
    request = b"GET " + target + b" HTTP/1.1\r\n" + fields + b"\r\n"
    response = b"HTTP/1.1 200 " + line + b"\r\nServer: " + line + b"\r\n\r\n"
    traffic.tcp(STATION, port, OTHER, 80, (request, response))
    traffic.tcp(STATION, port, TPE, 3003, (b"GET / HTTP/1.1\r\n" + attack_name + b"\r\n", response))


def add_dns(traffic: Traffic, port: int, raw: bytes) -> None:
    question = label(raw) + b"\0\1\0\1"
    records = test_dns.record(1, bytes([10, 0, 9, 1])), test_dns.record(5, label(raw))
    lookup = test_dns.message(question=question, flags=0x100), test_dns.message(*records, question=question)
    traffic.exchange(STATION, port, OTHER, 53, lookup)
    reverse = b"\0011\0019\0010\00210\7in-addr\4arpa\0" + b"\0\x0c\0\1"
    name = test_dns.message(test_dns.record(12, label(raw)), question=reverse)
    traffic.exchange(STATION, port, OTHER, 53, (test_dns.message(question=reverse, flags=0x100), name))


def add_dhcp(traffic: Traffic, raw: bytes) -> None:
    option = raw[:255]
    discover = test_dhcp.DISCOVER[:3] + bytes([12, len(option)]) + option + bytes([60, len(option)]) + option
    traffic.udp(STATION, 68, "255.255.255.255", 67, (">", test_dhcp.message(discover)))


def add_ike(traffic: Traffic, port: int, raw: bytes) -> None:
    option = raw[:255]
    redirect = ike_messages.notify(16407, b"\x03" + bytes([len(option)]) + option + bytes(32))
    response = ike_messages.message(34, redirect, (40, bytes(32)), flags=0x20)
    traffic.udp(STATION, port, OTHER, 500, (">", ike_messages.INIT_REQUEST), ("<", response))
    traffic.udp(STATION, port + 1, TPE, 500, (">", ike_messages.message(34, (43, raw))))


def save(path: Path, traffic: Traffic | None = None, attacks: Iterable[str] = ATTACKS) -> Path:
    """Write traffic (:func:`attack_traffic`) to a pcapng file with attacks in its options, comments and names."""
    attacks = tuple(attacks)
    everything = "".join(attacks).encode("utf-8", "surrogatepass")
    options = b"".join(build.option(code, everything) for code in (1, 2, 3, 4, 12, 15)) + build.option(0, b"")
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    blocks = [
        build.block(0x0A0D0D0A, section + options),
        build.block(1, struct.pack("<HHI", 1, 0, 0) + options),
    ]
    names = b"\0".join(name.replace("\0", "").encode("utf-8", "surrogatepass") for name in attacks[:8]) + b"\0"
    blocks.append(build.block(4, build.option(1, bytes([10, 0, 9, 1]) + names) + build.option(0, b"")))
    blocks.append(build.block(10, struct.pack("<II", 0x544C534B, len(everything)) + everything))
    blocks.append(build.block(0xBAD, struct.pack("<I", 1) + everything))
    packets = sorted((traffic or attack_traffic(attacks)).packets, key=lambda packet: packet[0])
    for time, data in packets:
        ticks = round(time * 1_000_000)
        fixed = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        blocks.append(build.block(6, fixed + data + bytes(-len(data) % 4) + build.option(1, everything[:200])))
    path.write_bytes(b"".join(blocks))
    return path
