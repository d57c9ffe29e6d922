"""No report repeats a secret of a capture. A canary stands for every secret, in packets and in the file's blocks."""

from __future__ import annotations

import base64
import io
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

from analyzer import Audit, audit, cli
from analyzer.messages import to_json
from analyzer.pipeline import list_flows
from analyzer.reports import FORMATS, Format
from tests import build, injection
from tests.protocols import ike_messages, test_dhcp
from tests.protocols.test_preambles import LDAP as LDAP_MESSAGES
from tests.protocols.test_preambles import SSL_REQUEST
from tests.reports.rendering import joined, rendered
from tests.synthetic import OTHER, STATION, TLS, TPE, Traffic

CANARY = "Zx9-c4nary-Pa55w0rd"
ENCODINGS = {
    "as it is": CANARY,
    "hexadecimal": CANARY.encode().hex(),
    "hexadecimal with blanks": CANARY.encode().hex(" "),
    "base64": base64.b64encode(CANARY.encode()).decode().rstrip("="),
    "its first half": CANARY[:10],
    "its first half, hexadecimal": CANARY[:10].encode().hex(),
}
"""The encodings in which a report could leak the canary."""

SECRET = CANARY.encode()
COMMUNITY = b"0\x37\2\1\1\4\x13" + SECRET + b"\xa0\x1d\2\1\1\2\1\0\2\1\0000\x12" + bytes(18)
"""A message of SNMP version 2c."""
BASIC = base64.b64encode(b":" + SECRET)
PORTS = (21, 22, 80, 443, 2404, 3001, 3002, 3003, 4443, 5000)
"""Service ports of rows, and others."""

DIALOGUES: dict[str, tuple[tuple[str, bytes], ...]] = {
    "FTP": (("<", b"220 ftp\r\n"), (">", b"USER bs\r\n"), ("<", b"331 ok\r\n"), (">", b"PASS " + SECRET + b"\r\n")),
    "FTP, the client alone": ((">", b"PASS " + SECRET + b"\r\n"),),
    "FTP, refused": (("<", b"220 ftp\r\n"), (">", b"PSAS " + SECRET + b"\r\n"), ("<", b"500 " + SECRET + b"?\r\n")),
    "Telnet": (("<", b"\xff\xfd\x18login: "), (">", b"bs\r\n"), ("<", b"Password: "), (">", SECRET + b"\r\n")),
    "Telnet, the client alone": ((">", SECRET + b"\r\n"),),
    "POP3": (("<", b"+OK ready\r\n"), (">", b"PASS " + SECRET + b"\r\n"), ("<", b"-ERR " + SECRET + b"\r\n")),
    "POP3, a digest": (("<", b"+OK <1@x>\r\n"), (">", b"APOP bs " + SECRET + b"\r\n")),
    "IMAP": (("<", b"* OK IMAP\r\n"), (">", b"a1 LOGIN bs " + SECRET + b"\r\n"), ("<", b"a1 NO " + SECRET + b"\r\n")),
    "SMTP": (("<", b"220 mail ESMTP\r\n"), (">", b"EHLO x\r\n"), ("<", b"250 AUTH\r\n"), (">", b"AUTH PLAIN " + BASIC)),
    "MQTT": ((">", b"\x10\x2a\0\4MQTT\4\xc2\0\x3c\0\2bs\0\2bs\0\x13" + SECRET),),
    "a proxy": (
        (">", b"CONNECT bs:" + SECRET + b"@h:1 HTTP/1.1\r\nProxy-Authorization: Basic " + BASIC + b"\r\n\r\n"),
    ),
    "SOCKS 4": ((">", b"\4\1\x0b\xb9\1\2\3\4" + SECRET + b"\0"), ("<", b"\0\x5a" + bytes(6))),
    "SOCKS 5": (
        (">", b"\5\1\2"), ("<", b"\5\2"), (">", b"\1\2bs\x13" + SECRET), ("<", b"\1\1"),
    ),
    "TR-069": ((">", b"POST / HTTP/1.1\r\n\r\n<cwmp urn:dslforum-org:cwmp-1-0><Password>" + SECRET + b"</Password>"),),
    "LDAP": ((">", b"0\x22\2\1\1\x60\x1d\2\1\3\4\3a=b\x80\x13" + SECRET), (">", LDAP_MESSAGES[0])),
    "XMPP": ((">", b"<stream:stream><auth>" + BASIC + b"</auth><starttls/>"), ("<", b"<proceed/>")),
    "PostgreSQL": ((">", SSL_REQUEST), ("<", b"N"), (">", b"p\0\0\0\x18" + SECRET + b"\0")),
    "syslog": ((">", b"<13>Oct 11 22:14:15 bs login: password " + SECRET + b"\n"),),
    "Redis": ((">", b"*2\r\n$4\r\nAUTH\r\n$19\r\n" + SECRET + b"\r\n"), ("<", b"-ERR " + SECRET + b"\r\n")),
    "a shell": ((">", b"sshpass -p " + SECRET + b" ssh bs\n"),),
    "a private key": ((">", b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.b64encode(SECRET) + b"\n"),),
    "a key log": ((">", b"CLIENT_RANDOM " + b"00" * 32 + b" " + SECRET.hex().encode() + b"\n"),),
    "HTTP": (
        (
            ">",
            b"POST http://bs:" + SECRET + b"@h/update-info;k=" + SECRET + b"?token=" + SECRET + b"#" + SECRET
            + b" HTTP/1.1\r\nHost: bs:" + SECRET + b"@h\r\nAuthorization: Basic " + BASIC + b"\r\nCookie: a=" + SECRET
            + b"\r\nX-Api-Key: " + SECRET + b"\r\nReferer: http://h/?" + SECRET + b"\r\n" + SECRET + b": x\r\n\r\n"
            + b"password=" + SECRET,
        ),
        ("<", b"HTTP/1.1 302 Found\r\nSet-Cookie: a=" + SECRET + b"\r\nLocation: /?t=" + SECRET + b"\r\n\r\n" + SECRET),
    ),
    "HTTP, a token in the path": ((">", b"GET /" + SECRET + b"-and-then-more HTTP/1.1\r\n\r\n"),),
}  # fmt: skip


def canary_traffic() -> Traffic:
    """Each dialogue on each port, and the canary in datagrams."""
    traffic = Traffic().tcp(STATION, 39999, TPE, 3001, TLS)
    port = 40000
    for dialogue in DIALOGUES.values():
        for service in PORTS:
            traffic.dialogue(STATION, port, TPE if service < 5000 else OTHER, service, *dialogue)
            port += 1
    for service in (53, 67, 123, 161, 500, 4500, 5000):
        traffic.udp(STATION, port, TPE, service, (">", SECRET), ("<", b"\0\0\0\0" + SECRET + bytes(40)))
    for service in (161, 162, 5000):
        traffic.udp(STATION, port, TPE, service, (">", COMMUNITY))
    options = b"".join(bytes([code, len(SECRET)]) + SECRET for code in (90, 43, 125))
    traffic.udp(STATION, 68, "255.255.255.255", 67, (">", test_dhcp.message(test_dhcp.DISCOVER + options)))
    traffic.udp(STATION, 500, TPE, 500, (">", ike_messages.message(34, (40, SECRET), (34, b"\0\x13\0\0" + SECRET))))
    traffic.udp(STATION, 500, OTHER, 500, (">", ike_messages.message(37, (8, SECRET), version=0x10, flags=0)))
    traffic.packet(STATION, TPE, 1, b"\x08\0\0\0\0\7\0\1" + SECRET)
    return traffic


@cache
def audited() -> Audit:
    """The audit of the traffic in a file that holds key logs as well."""
    with TemporaryDirectory() as folder:
        path = injection.save(Path(folder) / "secrets.pcapng", canary_traffic(), [CANARY.replace("-", "")])
        keys = [build.block(10, struct.pack("<II", kind, len(SECRET)) + SECRET) for kind in (0x544C534B, 0x5353484B, 7)]
        path.write_bytes(path.read_bytes() + b"".join(keys))
        return audit(path, base_stations=[STATION], tpe=[TPE])


def assert_no_canary(text: str) -> None:
    for name, encoded in ENCODINGS.items():
        assert encoded.lower() not in text.lower(), name


def test_canaries_are_read() -> None:
    """Otherwise the tests below would prove nothing: each dialogue is dissected, and on a row's port checked."""
    result = audited()
    assert len(result.conversations) > len(DIALOGUES) * len(PORTS)
    protocols = {conversation.protocol for conversation in result.conversations}
    assert {"ftp", "http", "ike", "dhcp", "icmp", "mqtt", "snmp", "syslog", None} <= protocols
    preambles = {conversation.dissection.preamble for conversation in result.conversations}
    assert {
        "HTTP CONNECT",
        "SOCKS 4",
        "SOCKS 5",
        "StartTLS of LDAP",
        "STARTTLS of XMPP",
        "SSLRequest of PostgreSQL",
    } == {preamble.name for preamble in preambles if preamble}
    assert {"TPE012", "TPE121", "TPE351"} <= {finding.check for finding in result.findings}
    heads = [conversation.head for conversation in result.conversations]
    assert any(SECRET in head.first(direction) for head in heads for direction in (0, 1))


@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.name)
def test_no_canary_in_report(report: Format) -> None:
    assert_no_canary(readable(report, rendered(report, audited())))


def readable(report: Format, content: str | bytes) -> str:
    """A report as text; a binary report is unpacked."""
    if isinstance(content, str):
        return content
    return str(pd.read_parquet(io.BytesIO(content)).to_csv()) if report.name == "parquet" else content.decode("latin-1")


def test_no_canary_in_notebook() -> None:
    assert_no_canary(audited()._repr_html_())


def test_no_canary_in_objects_and_frames() -> None:
    result = audited()
    assert_no_canary(repr(result))
    assert_no_canary(repr(result.findings))
    for flow in result.flows:
        assert_no_canary(repr(to_json(flow.dissection.facts)) + repr(flow) + str(flow.dissection))
    for frame in (result.flows_frame(), result.findings_frame(), result.rows_frame()):
        assert_no_canary(frame.to_csv())


@pytest.mark.parametrize("report", [report for report in FORMATS if report.lists_flows], ids=lambda report: report.name)
def test_no_canary_in_list_of_flows(report: Format, tmp_path: Path) -> None:
    found = list_flows(canary_traffic().save(tmp_path / "a.pcap"))
    assert_no_canary(readable(report, joined(report, lambda: report.flow_pieces(found.captures, found.conversations))))


@pytest.mark.parametrize("command", ["audit", "flows"])
def test_no_canary_on_the_terminal(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "secret.pcap"
    for content in (SECRET, b"\0" + SECRET, canary_traffic().save(path).read_bytes()[:-7] + SECRET):
        path.write_bytes(content)
        cli.main([command, str(path)])
        out, err = capsys.readouterr()
        assert_no_canary(out + err)
