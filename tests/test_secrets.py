"""Whatever secret a capture holds, in clear or beside its packets, no report repeats it."""

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
from tests import build
from tests import injection as hostile
from tests.protocols import ike_messages, test_dhcp
from tests.synthetic import OTHER, STATION, TLS, TPE, Traffic

CANARY = "Zx9-c4nary-Pa55w0rd"
WRITTEN = {
    "as it is": CANARY,
    "hexadecimal": CANARY.encode().hex(),
    "hexadecimal with blanks": CANARY.encode().hex(" "),
    "base64": base64.b64encode(CANARY.encode()).decode().rstrip("="),
    "its first half": CANARY[:10],
    "its first half, hexadecimal": CANARY[:10].encode().hex(),
}
"""How a report might let it slip."""

SECRET = CANARY.encode()
BASIC = base64.b64encode(b":" + SECRET)
PORTS = (21, 22, 80, 443, 2404, 3001, 3002, 3003, 4443, 5000)
"""Those of rows, and others."""

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


def traffic() -> Traffic:
    """Each dialogue on each port, and secrets in datagrams."""
    made = Traffic().tcp(STATION, 39999, TPE, 3001, TLS)
    port = 40000
    for said in DIALOGUES.values():
        for service in PORTS:
            made.dialogue(STATION, port, TPE if service < 5000 else OTHER, service, *said)
            port += 1
    for service in (53, 67, 123, 161, 500, 4500, 5000):
        made.udp(STATION, port, TPE, service, (">", SECRET), ("<", b"\0\0\0\0" + SECRET + bytes(40)))
    option = bytes([90, len(SECRET)]) + SECRET + bytes([43, len(SECRET)]) + SECRET + bytes([125, len(SECRET)]) + SECRET
    made.udp(STATION, 68, "255.255.255.255", 67, (">", test_dhcp.message(test_dhcp.DISCOVER + option)))
    made.udp(STATION, 500, TPE, 500, (">", ike_messages.message(34, (40, SECRET), (34, b"\0\x13\0\0" + SECRET))))
    made.udp(STATION, 500, OTHER, 500, (">", ike_messages.message(37, (8, SECRET), version=0x10, flags=0)))
    made.packet(STATION, TPE, 1, b"\x08\0\0\0\0\7\0\1" + SECRET)
    return made


@cache
def audited() -> Audit:
    """The scene in a file that holds key logs as well."""
    with TemporaryDirectory() as folder:
        path = hostile.save(Path(folder) / "secrets.pcapng", traffic(), [CANARY.replace("-", "")])
        keys = [build.block(10, struct.pack("<II", kind, len(SECRET)) + SECRET) for kind in (0x544C534B, 0x5353484B, 7)]
        path.write_bytes(path.read_bytes() + b"".join(keys))
        return audit(path, base_stations=[STATION], tpe=[TPE])


def silent(said: str) -> None:
    for way, form in WRITTEN.items():
        assert form.lower() not in said.lower(), way


def test_the_secrets_are_there() -> None:
    """Else the tests below would say nothing: each dialogue was read, and on a row's port judged."""
    result = audited()
    assert len(result.conversations) > len(DIALOGUES) * len(PORTS)
    assert {"ftp", "http", "ike", "dhcp", "icmp", None} <= {each.protocol for each in result.conversations}
    assert {"TPE012", "TPE121", "TPE351"} <= {each.check for each in result.findings}
    assert any(SECRET in each.head.first(direction) for each in result.conversations for direction in (0, 1))


@pytest.mark.parametrize("report", FORMATS, ids=lambda report: report.NAME)
def test_no_secret_is_in_any_report(report: Format) -> None:
    silent(readable(report, hostile.rendered(report, audited())))


def readable(report: Format, said: str | bytes) -> str:
    """A report as text, also where it is packed."""
    if isinstance(said, str):
        return said
    return str(pd.read_parquet(io.BytesIO(said)).to_csv()) if report.NAME == "parquet" else said.decode("latin-1")


def test_no_secret_is_in_a_notebook() -> None:
    silent(audited()._repr_html_())


def test_no_secret_is_in_findings_facts_notices_or_objects() -> None:
    result = audited()
    silent(repr(result))
    silent(repr(result.findings))
    for each in result.flows:
        silent(repr(to_json(each.dissection.facts)) + repr(each) + str(each.dissection))
    for frame in (result.flows_frame(), result.findings_frame(), result.rows_frame()):
        silent(frame.to_csv())


@pytest.mark.parametrize("report", [each for each in FORMATS if each.lists_flows], ids=lambda report: report.NAME)
def test_no_secret_is_in_the_list_of_flows(report: Format, tmp_path: Path) -> None:
    found = list_flows(traffic().save(tmp_path / "a.pcap"))
    silent(readable(report, hostile.joined(report, lambda: report.flow_pieces(found.captures, found.conversations))))


@pytest.mark.parametrize("command", ["audit", "flows"])
def test_no_secret_is_on_standard_error(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "secret.pcap"
    for content in (SECRET, b"\0" + SECRET, traffic().save(path).read_bytes()[:-7] + SECRET):
        path.write_bytes(content)
        cli.main([command, str(path)])
        said = capsys.readouterr()
        silent(said.out + said.err)
